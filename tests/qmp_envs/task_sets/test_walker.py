"""The walker's rules that no recorded trajectory shows by itself."""

from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from qmp_envs.task_sets.walker import Walker2D
from qmp_envs.task_sets.walker_model import walker_model

ID = "QMP/Walker2D-v0"
DATA = Path(__file__).parents[2] / "data"
FORWARD, BACKWARD, BALANCE, CRAWL = range(4)
UPRIGHT = np.array([0.0, 1.25, 0.0, -0.03, -0.05, 0.01, -0.04, -0.06, 0.02])  # inside the joints' limits
STILL = np.zeros(9)


def make(task, **options):
    return gym.make(ID, task=task, disable_env_checker=True, **options).unwrapped


def start(task, qpos=UPRIGHT, qvel=STILL, **options):
    env = make(task, **options)
    env.reset(seed=0, options={"qpos": qpos, "qvel": qvel})
    return env


def moved(qpos=UPRIGHT, **changes):
    """Positions with some coordinates changed: x, height, pitch."""
    qpos = qpos.copy()
    for name, value in changes.items():
        qpos[("x", "height", "pitch").index(name)] = value
    return qpos


def state(env):
    return env._episodes.physics.state


@pytest.mark.parametrize("file", sorted(DATA.glob("walker_*_randa.npz")), ids=lambda file: file.stem)
def test_random_steps_of_the_reset_are_those_recorded(file):
    """From the drawn start through the reset's steps, then on: equal bit for bit, the solver's memory included."""
    recorded = dict(np.load(file))  # all read once

    class Recorded(Walker2D):
        def initial_state(self, task_ids, draws):
            return recorded["init_qpos"][None], recorded["init_qvel"][None]

        def opening_controls(self, task_ids, draws):
            controls = super().opening_controls(task_ids, draws)
            assert [rows.shape for rows in controls] == [recorded["reset_actions"].shape]
            return [recorded["reset_actions"]]

    env = gym.make(ID, task_set=Recorded(), task=int(recorded["task"]), disable_env_checker=True).unwrapped
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, recorded["first_observation"])
    np.testing.assert_array_equal(state(env).qpos[0], recorded["start_qpos"])
    np.testing.assert_array_equal(state(env).qvel[0], recorded["start_qvel"])
    for step, action in enumerate(recorded["actions"]):
        observation, reward, *_ = env.step(action)
        np.testing.assert_array_equal(state(env).qpos[0], recorded["qpos"][step])
        np.testing.assert_array_equal(observation, recorded["observation"][step])
        assert reward == recorded["reward"][step]


@pytest.mark.parametrize("task", range(4))
def test_start_is_drawn_shaken_and_then_led(task):
    task_set = Walker2D()
    draws = np.stack([task_set.draw_reset(np.random.default_rng(i)) for i in range(300)])
    task_ids = np.full(300, task)
    qpos, qvel = task_set.initial_state(task_ids, draws)
    offset = np.abs(qpos - [0, 1.25, 0, 0, 0, 0, 0, 0, 0])
    assert 0.0099 < offset.max() <= 0.01 and 0.0099 < np.abs(qvel).max() <= 0.01
    controls = task_set.opening_controls(task_ids, draws)
    assert {rows.shape for rows in controls} == {(10 if task == BALANCE else 5, 6)}
    assert 0.99 < np.abs(controls).max() <= 1.0
    env = make(task)
    env.reset(seed=0)
    assert np.abs(state(env).qvel).max() > 0.5  # far beyond what the draw alone gives
    env.reset(options={"qpos": UPRIGHT, "qvel": STILL})
    np.testing.assert_array_equal(state(env).qpos[0], UPRIGHT)  # a given start is not shaken


MOTION = {
    "velocity": np.array([2.0, 2.0, 2.0, 2.0]),
    "pitch": np.full(4, np.pi / 3),
    "stretch": np.full(4, 1.3),
    "foot_speed": np.full(4, 5.0),
    "effort": np.full(4, 4.0),
    "ceiling": np.ones(4),
}
TERMS = {  # of that motion: forward, backward, balance, crawl
    "velocity": [2.0, -2.0, -2.0, 4.0],
    "angle": [0.05] * 4,
    "height": [-0.2, -0.2, -0.1, 0.0],
    "control": [-0.004] * 4,
    "alive": [1.0] * 4,
    "foot": [-0.05, -0.05, 0.0, -0.05],
    "ceiling": [0.0, 0.0, 0.0, -10.0],
}


def test_reward_of_one_motion_in_every_task():
    task_set = Walker2D()
    reward = task_set.reward(MOTION, np.arange(4))
    np.testing.assert_allclose(reward, np.sum(list(TERMS.values()), axis=0), atol=1e-12)
    for term, expected in TERMS.items():
        np.testing.assert_allclose(task_set._terms(MOTION, np.arange(4))[term], expected, atol=1e-12)


@pytest.mark.parametrize("velocity,expected", [(3.0, 3.0), (4.0, 2.0), (-1.0, -1.0), (7.0, -1.0)])
def test_speed_counts_up_to_the_target_and_against_it_beyond(velocity, expected):
    columns = MOTION | {"velocity": np.array([velocity, -velocity, velocity, velocity])}
    terms = Walker2D()._terms(columns, np.arange(4))["velocity"]
    np.testing.assert_allclose(terms, [expected, expected, -abs(velocity), 2 * expected])


@pytest.mark.parametrize("task", range(4))
def test_info_measures_the_motion(task):
    env = start(task, qpos=moved(x=-3.0), qvel=np.array([1.5, *[0.0] * 8]))
    x = -3.0
    for _ in range(5):
        *_, info = env.step(np.full(6, 0.1))
        qpos = state(env).qpos[0]
        assert info["x_velocity"] == pytest.approx((qpos[0] - x) / 0.008)
        assert info["torso_height"] == qpos[1]
        assert info["stretch"] == pytest.approx(qpos[1], abs=0.05)  # the toes' frames are near the floor
        x = qpos[0]
    assert info["x_velocity"] > 1.0


def test_observation_hides_the_place_and_limits_the_rates():
    env = start(FORWARD, qpos=moved(x=-7.0), qvel=np.array([0.0, 0.0, 0.0, 30.0, 0.0, -40.0, 0.0, 0.0, 9.0]))
    observation = env.reset(options={"qpos": state(env).qpos[0], "qvel": state(env).qvel[0]})[0]
    np.testing.assert_array_equal(observation[:8], UPRIGHT[1:].astype(np.float32))
    np.testing.assert_array_equal(observation[8:], [0, 0, 0, 10, 0, -10, 0, 0, 9])
    assert env.observation_space.contains(observation)
    told = gym.make(ID, task=CRAWL, task_one_hot=True)  # the official vector of 21 numbers
    assert told.reset(seed=0)[0].shape == (21,) and told.reset()[0][17:].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("task,limit", [(FORWARD, 0.8), (BACKWARD, 0.8), (BALANCE, 0.8), (CRAWL, 0.3)])
def test_a_low_torso_ends_the_episode(task, limit):
    for height, fallen in ((limit + 0.01, False), (limit - 0.01, True)):
        # Lying legs would push the torso up from the floor; so the whole walker is put on its head, legs up.
        _, _, terminated, truncated, info = start(task, qpos=moved(height=height, pitch=np.pi)).step(np.zeros(6))
        assert terminated == fallen and not truncated and not info["success"]


def test_the_ceiling_exists_for_crawl_only_and_costs_ten():
    inside = moved(x=5.0, height=1.25)
    for task in range(4):
        _, reward, terminated, _, info = start(task, qpos=inside).step(np.zeros(6))
        touched = task == CRAWL
        assert terminated == touched and info["reward_ceiling"] == (-10.0 if touched else 0.0)
        assert (reward < -3.0) == touched
    for x, touched in ((1.7, False), (2.05, True), (13.95, True), (14.3, False)):  # with a radius of 0.05 m
        info = start(CRAWL, qpos=moved(x=x)).step(np.zeros(6))[4]
        assert (info["reward_ceiling"] == -10.0) == touched, x


def test_curbs_may_be_touched():
    env = start(CRAWL, qpos=moved(x=-5.0, height=1.25))
    _, _, terminated, _, info = env.step(np.zeros(6))
    data = env._episodes.physics.data[0]
    names = {data.model.geom(int(geom)).name for geom in data.contact.geom.ravel()}
    assert names >= {f"curb_{i}" for i in range(5)}
    assert info["reward_ceiling"] == 0.0 and not terminated


def test_a_passed_ceiling_leaves_no_mark():
    env = start(CRAWL, qpos=moved(x=5.0))
    assert env.step(np.zeros(6))[2]
    env.reset(options={"qpos": UPRIGHT, "qvel": STILL})
    assert env.step(np.zeros(6))[4]["reward_ceiling"] == 0.0


@pytest.mark.parametrize("at_run_time", [False, True])
def test_a_ceiling_that_is_moved_at_run_time_would_not_be_there(at_run_time):
    """Why the ceiling is in its place in the model, while the released code moves it at every reset."""
    model = walker_model(obstacles=True)
    ceiling = model.geom("ceiling_2")
    assert ceiling.pos.tolist() == [8.0, 0.0, 1.0]
    if at_run_time:
        ceiling.pos[0] += 20.0
    data = mujoco.MjData(model)
    data.qpos[:] = moved(x=25.0 if at_run_time else 5.0)
    mujoco.mj_forward(model, data)
    touched = any(ceiling.id in pair for pair in data.contact.geom.tolist())
    assert touched != at_run_time


def stand(env, steps):
    """Steps of the feedback law that stands, from its recorded start; returns what the last one gave."""
    recorded = dict(np.load(DATA / "walker_t2_stand.npz"))
    env.reset(seed=0, options={"qpos": recorded["start_qpos"], "qvel": recorded["start_qvel"]})
    for step in range(steps):
        qpos, qvel = state(env).qpos[0], state(env).qvel[0]
        sway = 0.02 * np.sin(2 * np.pi * step * 0.008) * np.array([1, -1, 0.5, -1, 1, -0.5])
        result = env.step(np.clip(3.0 * (sway - qpos[3:]) - 0.1 * qvel[3:], -1.0, 1.0))
        assert step == steps - 1 or not (result[2] or result[4]["success"])
    return result


@pytest.mark.parametrize("official", [False, True])
def test_success_is_to_stand_at_the_horizon(official):
    _, _, terminated, truncated, info = stand(make(BALANCE, official_terminal=official), 1000)
    assert info["success"] and info["is_success"] and terminated == official and not truncated


def test_the_registered_time_limit_truncates_the_success():
    envs = gym.make_vec(ID, num_envs=1, task=BALANCE)
    recorded = dict(np.load(DATA / "walker_t2_stand.npz"))
    envs.reset(seed=0, options={"qpos": recorded["start_qpos"], "qvel": recorded["start_qvel"]})
    for step, action in enumerate(recorded["actions"]):
        _, _, terminated, truncated, infos = envs.step(action[None])
        assert truncated[0] == (step == 999) and not terminated[0]
    assert infos["final_info"]["is_success"][0]


def test_a_shorter_limit_has_no_success():
    env = gym.make(ID, task=BALANCE, max_episode_steps=5)
    env.reset(seed=0, options={"qpos": UPRIGHT, "qvel": STILL})
    flags = [env.step(np.zeros(6))[3:] for _ in range(5)]
    assert flags[-1][0] and not any(info["success"] for _, info in flags)


def pushes(env, steps=200):
    """What was applied ``(steps, bodies, 6)`` in the steps of a walker that floats high above the floor."""
    applied = []
    for _ in range(steps):
        env.step(np.zeros(6))
        applied.append(env._episodes.physics.data[0].xfrc_applied.copy())
    return np.array(applied)


def test_no_pushes_by_default():
    env = start(BALANCE, qpos=moved(height=100.0))
    assert not pushes(env, 50).any()
    assert env.task_set.noise_size == 0


@pytest.mark.parametrize("task,force", [(FORWARD, 100.0), (BACKWARD, 100.0), (BALANCE, 400.0), (CRAWL, 300.0)])
def test_pushes_are_as_often_and_as_strong_as_told(task, force):
    env = start(task, qpos=moved(height=1000.0), push_probability=0.5)
    applied = pushes(env, 600)
    pushed = applied.any(axis=2)
    assert not pushed[0].any() and pushed.sum(axis=1).max() == 1  # never in the first step, one body at a time
    assert pushed.any(axis=1).mean() == pytest.approx(0.5 * 7 / 8, abs=0.07)  # the world is pushed like a body
    assert pushed.any(axis=0)[1:].all()
    assert 0.9 * force < np.abs(applied[:, 1:]).max() <= force
    assert (np.abs(applied[:, 1:]).max(axis=(0, 1)) > 0.8 * force).all()  # all six axes


def test_pushes_can_be_given_per_task():
    options = {"push_probability": (0, 0, 1, 0), "push_force": (1, 2, 3, 4)}
    for task in range(4):
        applied = pushes(start(task, qpos=moved(height=1000.0), **options), 60)
        assert applied.any() == (task == BALANCE)
        assert np.abs(applied).max() <= 3.0


def test_pushes_move_the_walker_and_follow_the_seed():
    def end(seed, **options):
        env = make(BALANCE, **options)
        env.reset(seed=seed)
        env.reset(options={"qpos": moved(height=1000.0), "qvel": STILL})
        pushes(env, 30)
        return state(env).qpos[0].copy()

    calm, pushed = end(3), end(3, push_probability=0.2)
    assert np.abs(calm - pushed).max() > 1e-3
    np.testing.assert_array_equal(pushed, end(3, push_probability=0.2))
    assert not np.array_equal(pushed, end(4, push_probability=0.2))


def test_pushed_slots_equal_single_environments():
    options = {"push_probability": 0.3, "max_episode_steps": 40}
    envs = gym.make_vec(ID, **options)
    singles = [gym.make(ID, task=task, **options) for task in range(4)]
    batch, _ = envs.reset(seed=2)
    rows = [env.reset(seed=2 + slot)[0] for slot, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    for _ in range(120):
        np.testing.assert_array_equal(batch, rows)
        actions = rng.uniform(-1.0, 1.0, (4, 6)).astype(np.float32)
        batch, rewards, *_ = envs.step(actions)
        for slot, env in enumerate(singles):
            rows[slot], reward, terminated, truncated, _ = env.step(actions[slot])
            assert reward == rewards[slot]
            if terminated or truncated:
                rows[slot] = env.reset()[0]


@pytest.mark.parametrize(
    "options,message",
    [
        ({"push_probability": 1.5}, "push_probability must be a number from 0 to 1"),
        ({"push_probability": (0.1, 0.1)}, "or 4 of them .*forward, backward, balance, crawl.*got"),
        ({"push_force": -1.0}, "push_force must be a number from 0"),
        ({"push_probability": float("nan")}, "got nan"),
    ],
)
def test_errors_about_pushes(options, message):
    with pytest.raises(ValueError, match=message):
        make(0, **options)


# Published masses (kg) and principal moments (kg m^2; across and along the capsule), exact and of MuJoCo 2.1.0.
FIGURES = {
    "torso": ((3.665191, 0.06924594, 0.00445059), (3.534292, 0.06185011, 0.00441786)),
    "thigh": ((4.057891, 0.09329876, 0.00494146), (3.926991, 0.08426668, 0.00490874)),
    "leg": ((2.781357, 0.07230254, 0.00218219), (2.714336, 0.06704410, 0.00217147)),
    "foot": ((3.166725, 0.02399775, 0.00537439), (2.940531, 0.01921147, 0.00529296)),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("obstacles", [False, True])
def test_masses_and_inertias(legacy, obstacles):
    model = walker_model(legacy, obstacles)
    for name, figures in FIGURES.items():
        mass, across, along = figures[legacy]
        for side in (name,) if name == "torso" else (name, f"{name}_left"):
            body = model.body(side)
            assert body.mass[0] == pytest.approx(mass, abs=1e-6)
            np.testing.assert_allclose(body.inertia, [across, across, along], atol=1e-8)
    assert model.body("torso").subtreemass[0] == pytest.approx(22.698 if legacy else 23.677, abs=1e-3)
    assert model.geom("foot_left").friction[0] == 1.9 and model.geom("foot").friction[0] == 0.9


def test_legacy_inertia_moves_the_walker_otherwise():
    ends = []
    for legacy in (False, True):
        env = start(FORWARD, legacy_inertia=legacy)
        rng = np.random.default_rng(0)
        for _ in range(10):
            env.step(rng.uniform(-1.0, 1.0, 6))
        ends.append(state(env).qpos[0].copy())
    assert 1e-3 < np.abs(ends[0] - ends[1]).max() < 0.3


def test_foot_frames_are_at_the_toes():
    """0.1 m below the foot's axis: this sets the stretch that the reward wants."""
    model = walker_model()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.body("foot").xpos, [0.2, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(data.geom("foot").xpos, [0.1, 0.0, 0.1], atol=1e-12)


def test_failure_of_the_simulator_ends_the_episode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log file about it
    env = make(CRAWL)
    env.reset(seed=0)
    env.reset(options={"qvel": np.full(9, 1e12)})
    observation, reward, terminated, _, info = env.step(np.zeros(6))
    assert terminated and np.isfinite(reward) and np.isfinite(observation).all() and not info["success"]
    env.reset(seed=0)
    assert not env.step(np.zeros(6))[2]
