"""The cheetahs are Gymnasium's: the plain one to the bit, the others as if its model file had been edited."""

from pathlib import Path
from xml.etree import ElementTree

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs import mujoco as gymnasium_mujoco

from qmp_envs.task_sets.cheetah import HalfCheetahBody, HalfCheetahGravity

GRAVITY_ID, BODY_ID = "QMP/HalfCheetahGravity-v0", "QMP/HalfCheetahBody-v0"
PLAIN = "gravity-1.0"
MODEL_FILE = Path(gymnasium_mujoco.__file__).parent / "assets" / "half_cheetah.xml"

GRAVITIES = {
    "gravity-1.0": -9.81,
    "gravity-0.5": -4.905,
    "gravity-0.75": -7.3575,
    "gravity-1.5": -14.715,
    "gravity-1.25": -12.2625,
}
PARTS = ("torso", "bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
MASSES = {  # kg, of the parts above, as published; the head belongs to the torso
    "big-torso": (7.5141, 1.2918, 1.3286, 0.9168, 1.2035, 1.005, 0.7403),
    "small-torso": (4.8995, 1.8125, 1.8641, 1.2863, 1.6887, 1.4101, 1.0387),
    "big-thigh": (5.1956, 2.506, 1.3196, 0.9106, 2.3348, 0.9982, 0.7353),
    "small-thigh": (7.1278, 0.7426, 1.8103, 1.2492, 0.6919, 1.3694, 1.0087),
    "big-leg": (5.253, 1.2973, 2.6058, 0.9206, 1.2086, 1.9712, 0.7434),
    "small-leg": (7.0635, 1.7444, 0.7568, 1.2379, 1.6252, 0.5725, 0.9996),
    "big-foot": (5.5078, 1.3602, 1.3989, 1.8853, 1.2673, 1.0582, 1.5224),
    "small-foot": (6.8067, 1.6809, 1.7288, 0.5033, 1.5661, 1.3078, 0.4064),
}
PLAIN_MASSES = (6.2502, 1.5435, 1.5874, 1.0954, 1.4381, 1.2008, 0.8845)
SCALED = {"torso": ("torso",), "thigh": ("bthigh", "fthigh"), "leg": ("bshin", "fshin"), "foot": ("bfoot", "ffoot")}

BOTH = pytest.mark.parametrize("id", [GRAVITY_ID, BODY_ID])


def make(id, task, **options):
    return gym.make(id, task=task, disable_env_checker=True, **options).unwrapped


def edited(name, folder):
    """Gymnasium's model file with one task's change made in its text."""
    tree = ElementTree.parse(MODEL_FILE)
    if name in GRAVITIES:
        tree.find("option").set("gravity", f"0 0 {GRAVITIES[name]}")
    else:
        factor, part = {"big": 1.25, "small": 0.75}[name.split("-")[0]], name.split("-")[1]
        for geom in tree.iter("geom"):
            if geom.get("name") in SCALED[part]:
                geom.set("size", " ".join(repr(factor * float(number)) for number in geom.get("size").split()))
    path = folder / "half_cheetah.xml"
    tree.write(path)
    return str(path)


def assert_same_episode(ours, theirs, steps):
    """Positions, observations, rewards and infos of random actions, bit for bit."""
    first, _ = theirs.reset(seed=5)
    qpos, qvel = theirs.unwrapped.data.qpos.copy(), theirs.unwrapped.data.qvel.copy()
    observation, _ = ours.reset(seed=0, options={"qpos": qpos, "qvel": qvel})
    np.testing.assert_array_equal(observation, first)
    assert observation.dtype == first.dtype
    rng = np.random.default_rng(0)
    for step in range(steps):
        action = rng.uniform(-1.0, 1.0, 6).astype(np.float32)
        observation, reward, terminated, _, info = ours.step(action)
        expected, their_reward, their_end, _, their_info = theirs.step(action)
        np.testing.assert_array_equal(observation, expected, err_msg=f"step {step}")
        assert (reward, terminated) == (their_reward, their_end)
        np.testing.assert_array_equal(ours._episodes.physics.state.qpos[0], theirs.unwrapped.data.qpos)
        np.testing.assert_array_equal(ours._episodes.physics.state.qvel[0], theirs.unwrapped.data.qvel)
        assert info.items() >= {key: float(value) for key, value in their_info.items()}.items()


def test_the_plain_cheetah_is_gymnasiums():
    theirs = gym.make("HalfCheetah-v5")
    ours = make(GRAVITY_ID, PLAIN)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert gym.spec(GRAVITY_ID).max_episode_steps == theirs.spec.max_episode_steps
    assert_same_episode(ours, theirs, 400)


@pytest.mark.parametrize("name", [*GRAVITIES, *MASSES])
def test_variants_equal_an_edited_model_file(name, tmp_path):
    theirs = gym.make("HalfCheetah-v5", xml_file=edited(name, tmp_path))
    assert_same_episode(make(GRAVITY_ID if name in GRAVITIES else BODY_ID, name), theirs, 60)


def test_tasks_are_in_the_published_order():
    assert HalfCheetahGravity().task_names == tuple(GRAVITIES)
    assert HalfCheetahBody().task_names == tuple(MASSES)


def test_gravities_and_nothing_else():
    task_set = HalfCheetahGravity()
    for model, gravity in zip(task_set.models, GRAVITIES.values(), strict=True):
        assert model.opt.gravity.tolist() == [0.0, 0.0, gravity]
        np.testing.assert_allclose([model.body(part).mass[0] for part in PARTS], PLAIN_MASSES, atol=5e-5)


@pytest.mark.parametrize("name", MASSES)
def test_masses_and_sizes_of_the_bodies(name):
    task_set = HalfCheetahBody()
    model, plain = task_set.models[task_set.task_id(name)], HalfCheetahGravity().models[0]
    np.testing.assert_allclose([model.body(part).mass[0] for part in PARTS], MASSES[name], atol=6e-5)
    assert model.body("torso").subtreemass[0] == pytest.approx(14.0)
    assert model.opt.gravity[2] == -9.81
    factor, scaled = {"big": 1.25, "small": 0.75}[name.split("-")[0]], SCALED[name.split("-")[1]]
    for part in (*PARTS, "head"):
        wanted = np.array([factor, factor if part != "torso" else 1.0, 1.0]) if part in scaled else np.ones(3)
        np.testing.assert_allclose(model.geom(part).size, wanted * plain.geom(part).size, rtol=1e-12)
        np.testing.assert_array_equal(model.geom(part).pos, plain.geom(part).pos)


def test_other_variants_move_otherwise():
    ends = {}
    for id, names in ((GRAVITY_ID, GRAVITIES), (BODY_ID, MASSES)):
        for name in names:
            env = make(id, name)
            env.reset(seed=0, options={"qpos": np.zeros(9), "qvel": np.zeros(9)})
            for _ in range(10):
                env.step(np.full(6, 0.5))
            ends[name] = tuple(env._episodes.physics.state.qpos[0].round(4))
    assert len(set(ends.values())) == 13


@BOTH
def test_start_has_gymnasiums_distribution(id):
    env = make(id, 0)
    env.reset(seed=0)
    states = []
    for _ in range(400):
        env.reset()
        state = env._episodes.physics.state
        states.append(np.concatenate([state.qpos[0], state.qvel[0]]))
    qpos, qvel = np.split(np.array(states), 2, axis=1)
    assert 0.0999 < np.abs(qpos).max() <= 0.1
    np.testing.assert_allclose(qpos.std(0), 0.1 / np.sqrt(3), rtol=0.12)
    np.testing.assert_allclose(qvel.std(0), 0.1, rtol=0.12)
    assert np.abs(qvel).max() > 0.3  # normal, not uniform


@BOTH
def test_reward_is_velocity_less_effort(id):
    env = make(id, 0)
    env.reset(seed=0)
    for step in range(20):
        x = env._episodes.physics.state.qpos[0, 0]
        action = np.full(6, 0.1 * (step % 10), np.float32)
        _, reward, _, _, info = env.step(action)
        velocity = (env._episodes.physics.state.qpos[0, 0] - x) / 0.05
        assert info["x_velocity"] == info["reward_forward"] == pytest.approx(velocity)
        assert info["x_position"] == env._episodes.physics.state.qpos[0, 0]
        assert info["reward_ctrl"] == pytest.approx(-0.1 * 6 * (0.1 * (step % 10)) ** 2, abs=1e-6)
        assert reward == info["reward_forward"] + info["reward_ctrl"]


@BOTH
def test_reward_scale(id):
    plain, scaled = make(id, 1), make(id, 1, reward_scale=0.1)
    plain.reset(seed=0), scaled.reset(seed=0)
    for _ in range(5):
        action = np.full(6, 0.7, np.float32)
        one, other = plain.step(action), scaled.step(action)
        np.testing.assert_array_equal(one[0], other[0])
        assert other[1] == pytest.approx(0.1 * one[1])
        assert other[4]["reward_ctrl"] == pytest.approx(0.1 * one[4]["reward_ctrl"])
        assert other[4]["x_velocity"] == one[4]["x_velocity"]
    for given in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"reward_scale must be a positive number, got {given}"):
            make(id, 0, reward_scale=given)


@BOTH
def test_the_place_on_the_track_is_hidden(id):
    env = make(id, 0)
    here, _ = env.reset(seed=0, options={"qpos": np.zeros(9), "qvel": np.zeros(9)})
    there, _ = env.reset(options={"qpos": [20.0, *[0.0] * 8], "qvel": np.zeros(9)})
    np.testing.assert_array_equal(here, there)


@BOTH
def test_there_is_no_success_and_no_end(id):
    env = make(id, 0)
    env.reset(seed=0, options={"qpos": [0.0, 0.0, np.pi, *[0.0] * 6], "qvel": np.zeros(9)})  # on its back
    for _ in range(100):
        _, _, terminated, truncated, info = env.step(np.ones(6))
        assert not terminated and not truncated and not {"success", "is_success"} & info.keys()


@BOTH
def test_failure_of_the_simulator_ends_the_episode(id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file about it
    env = make(id, 0)
    env.reset(seed=0, options={"qpos": np.zeros(9), "qvel": np.full(9, 1e12)})
    observation, reward, terminated, _, _ = env.step(np.zeros(6))
    assert terminated and np.isfinite(reward) and np.isfinite(observation).all()


@BOTH
def test_every_task_gives_a_motion_the_same_reward(id):
    envs = gym.make_vec(id)
    envs.reset(seed=0)
    _, reward, *_ = envs.step(np.full(envs.action_space.shape, 0.3, np.float32))
    task_set, columns = envs.unwrapped.task_set, envs.unwrapped.last_outcome.columns
    for task in range(task_set.num_tasks):
        np.testing.assert_array_equal(task_set.reward(columns, np.full(envs.num_envs, task)), reward)
