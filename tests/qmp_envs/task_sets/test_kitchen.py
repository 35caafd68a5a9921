"""The kitchen: recorded trajectories, constants, the two models, options."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import qmp_envs
from qmp_envs.task_sets.kitchen import model as kitchen_model
from qmp_envs.task_sets.kitchen.model import physics_model, scene_model
from qmp_envs.task_sets.kitchen.task_set import HIGHEST, LOWEST, MAX_SPEED, NOISE_SIZES, OBSERVATION_LIMIT, Kitchen
from qmp_envs.task_sets.kitchen.tasks import FIXTURES, NAMES, SHOWN_GOALS, START

ID = "QMP/Kitchen-v0"
FILES = sorted((Path(__file__).parents[2] / "data").glob("kitchen_*.npz"))
EVERY = 10  # steps between the recorded states
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def make(task=0, **options):
    return gym.make(ID, task=task, disable_env_checker=True, **options).unwrapped


def physics_of(env):
    return env._episodes.physics


# ---- recorded trajectories -----------------------------------------------------------------------------------


class Recorded:
    """A generator whose uniform numbers are known."""

    def __init__(self, rows):
        self.rows = iter(rows)

    def uniform(self, low, high, size):
        row = next(self.rows)
        assert (low, high, size) == (-1.0, 1.0, len(row))
        return row


def replay(env, recorded, kind, before_step=lambda step: None):
    """Take the recorded actions in a fresh episode; everything must be as recorded, the physics to the bit."""
    observation, _ = env.reset()
    observations = [observation]
    for step, action in enumerate(recorded[f"{kind}_actions"]):
        if step % EVERY == 0:
            np.testing.assert_array_equal(
                physics_of(env).state.qpos[0], recorded[f"{kind}_qpos"][step // EVERY], err_msg=f"step {step}"
            )
        before_step(step)
        observation, reward, terminated, _, info = env.step(action)
        observations.append(observation)
        assert reward == pytest.approx(recorded[f"{kind}_reward"][step], abs=1e-12), step
        assert terminated == recorded[f"{kind}_terminated"][step]
        assert info["success"] == info["is_success"] == recorded[f"{kind}_success"][step]
        for name in ("dist_goal", "dist_hand"):
            assert info[name] == pytest.approx(recorded[f"{kind}_{name}"][step], abs=1e-14)
    return np.array(observations)


def test_all_files_are_there():
    assert len(FILES) == 5


@each_file
def test_random_actions_without_noise(file):
    recorded = np.load(file)
    env = make(str(recorded["task"]), noise=0.0)
    np.testing.assert_array_equal(env.task_set.starts[env.task_id], recorded["start_qpos"])
    observations = replay(env, recorded, "rand")
    np.testing.assert_array_equal(physics_of(env).state.qpos[0], recorded["rand_qpos"][-1])
    np.testing.assert_array_equal(physics_of(env).state.qvel[0], recorded["rand_qvel"][-1])
    np.testing.assert_array_equal(observations[::EVERY, :30], recorded["rand_qpos"].astype(np.float32))
    np.testing.assert_array_equal(observations[:, 30:], np.tile(recorded["shown_goal"], (141, 1)).astype(np.float32))


@each_file
def test_noise_of_known_numbers(file):
    recorded = np.load(file)
    env = make(str(recorded["task"]))
    steps = len(recorded["noisy_actions"])
    draws = np.random.default_rng(int(recorded["noise_seed"])).uniform(-1.0, 1.0, (1 + steps, 60))
    env.reset(seed=0)
    env._episodes.generators[0] = Recorded(draws)
    observations = replay(env, recorded, "noisy")
    np.testing.assert_array_equal(observations[:, :30], recorded["noisy_observation"])


@each_file
def test_success(file):
    recorded = np.load(file)
    env = make(str(recorded["task"]), noise=0.0)
    (model,), places = env.task_set.models, recorded["succ_positions"]

    def move(step):
        (data,) = physics_of(env).data
        data.qpos[places], data.qvel[places] = recorded["succ_forced"][step], 0.0
        mujoco.mj_forward(model, data)

    replay(env, recorded, "succ", before_step=move)
    assert recorded["succ_reward"][-1] == 2800.0 and recorded["succ_terminated"][-1]


@each_file
def test_terms_of_states(file):
    recorded = np.load(file)
    task_set = Kitchen(noise=0.0)
    qpos = recorded["static_qpos"]
    task_ids = np.full(len(qpos), task_set.task_id(str(recorded["task"])))
    physics = task_set.make_physics(task_ids)
    physics.place(np.arange(len(qpos)), task_ids, qpos, np.zeros((len(qpos), 29)))
    noise = np.zeros((len(qpos), task_set.noise_size))
    memory = task_set.initial_memory(physics.state, task_ids, noise)
    outcome, _ = task_set.outcome(physics.state, physics.state, np.zeros((len(qpos), 9)), memory, task_ids, noise)
    dist_goal, dist_hand, in_place, reach, success, reward = recorded["static_terms"].T
    np.testing.assert_allclose(outcome.measures["dist_goal"], dist_goal, rtol=0, atol=1e-14)
    np.testing.assert_allclose(outcome.measures["dist_hand"], dist_hand, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(outcome.success, success)
    np.testing.assert_allclose(outcome.reward, reward, rtol=0, atol=1e-12)
    dense = success == 0.0
    np.testing.assert_allclose(outcome.terms["in_place"][dense], 8.0 * in_place[dense], rtol=0, atol=1e-13)
    np.testing.assert_allclose(outcome.terms["reach"][dense], 12.0 * reach[dense], rtol=0, atol=1e-13)
    assert reach.max() == 1.0 and dense.any() and not dense.all()


@pytest.mark.parametrize("file", [file for file in FILES if "burner" in file.stem], ids=lambda file: file.stem)
def test_without_the_pedestals_change_the_shipped_model_goes_elsewhere(file):
    recorded = np.load(file)
    task_set = Kitchen(noise=0.0)
    task_set.models = (kitchen_model._spec().compile(),)
    env = qmp_envs.TaskSetEnv(task_set, task=str(recorded["task"]))
    env.reset()
    rewards = [env.step(action)[1] for action in recorded["rand_actions"]]
    np.testing.assert_allclose(rewards, recorded["stock_reward"], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(physics_of(env).state.qpos[0], recorded["stock_qpos"][-1])
    assert np.abs(recorded["stock_reward"] - recorded["rand_reward"]).max() > 1e-4


# ---- constants -----------------------------------------------------------------------------------------------

PUBLISHED = {  # places, site, threshold, start to goal, end effector to site, site at the start
    "slide cabinet-open": ([19], "slide_site", 0.1, 0.370465501, 0.820958137, (-0.108466, 0.607, 2.6)),
    "slide cabinet-close": ([19], "slide_site", 0.1, 0.370465501, 1.025106828, (0.262, 0.607, 2.6)),
    "hinge cabinet-open": ([20, 21], "hinge_site2", 0.1, 1.451784772, 0.744978136, (-0.526226, 0.582535, 2.6)),
    "hinge cabinet-close": ([20, 21], "hinge_site2", 0.3, 1.451784772, 0.704536084, (-0.133325, 0.394776, 2.6)),
    "bottom burner-on": ([11, 12], "knob2_site", 0.3, 0.880087591, 0.585778661, (-0.256, 0.6399, 2.22643)),
    "bottom burner-off": ([11, 12], "knob2_site", 0.3, 0.880087591, 0.585778661, (-0.256, 0.6399, 2.22643)),
    "top burner-on": ([15, 16], "knob4_site", 0.3, 0.920117590, 0.634158550, (-0.256, 0.6399, 2.34043)),
    "top burner-off": ([15, 16], "knob4_site", 0.3, 0.920117590, 0.634158550, (-0.256, 0.6399, 2.34043)),
    "light switch-on": ([17, 18], "light_site", 0.3, 0.692254392, 0.562231839, (-0.368465, 0.615715, 2.28)),
    "light switch-off": ([17, 18], "light_site", 0.3, 0.692254392, 0.556122668, (-0.423446, 0.612806, 2.28)),
}
STARTS_AND_GOALS = {
    "slide cabinet-open": ([-0.000465501369], [0.37]),
    "hinge cabinet-open": ([-0.00644129196, -0.00177048263], [0.0, 1.45]),
    "bottom burner-on": ([3.1287722e-05, -4.51199853e-05], [-0.88, -0.01]),
    "top burner-on": ([6.28065475e-05, 4.04984708e-05], [-0.92, -0.01]),
    "light switch-on": ([4.62730939e-04, -2.26906415e-04], [-0.69, -0.05]),
}
STARTS_AND_GOALS |= {
    name.replace("-open", "-close").replace("-on", "-off"): (goal, start)
    for name, (start, goal) in STARTS_AND_GOALS.items()
}


def test_tasks_are_the_published_ones_in_their_order():
    assert qmp_envs.task_names(ID) == tuple(PUBLISHED) == NAMES


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_a_task(name):
    places, site, threshold, way, reach, position = PUBLISHED[name]
    env = make(name, noise=0.0)
    task_set, task = env.task_set, env.task_id
    start, goal = STARTS_AND_GOALS[name]
    others = np.setdiff1d(np.arange(30), places)
    assert task_set.starts[task, places].tolist() == start
    assert task_set.goals[task, places].tolist() == goal
    np.testing.assert_array_equal(task_set.starts[task, others], START[others])
    assert task_set.margins[0][task] == pytest.approx(way - threshold, abs=1e-9)
    assert task_set.margins[1][task] == pytest.approx(reach - 0.08, abs=1e-9)

    observation, _ = env.reset()
    shown = np.zeros(30)
    shown[places] = goal
    for at, values in SHOWN_GOALS.items():
        shown[list(at)] = values
    np.testing.assert_array_equal(observation, np.concatenate([task_set.starts[task], shown]).astype(np.float32))
    (model,) = task_set.models
    np.testing.assert_allclose(physics_of(env).state.sites[0, model.site(site).id], position, atol=1e-6)

    # Not solved by doing nothing, and the goal itself is a success.
    _, reward, terminated, _, info = env.step(np.zeros(9))
    assert not terminated and not info["success"] and -20.0 < reward < 0.0
    env.reset(options={"qpos": task_set.goals[task], "qvel": np.zeros(29)})
    assert env.step(np.zeros(9))[1:3] == (2800.0, True)


def test_places_belong_to_the_joints_that_they_should():
    model = physics_model()
    joints = {
        "slide cabinet": ["slide_cabinet"],
        "hinge cabinet": ["left_hinge_cabinet", "right_hinge_cabinet"],
        "bottom burner": ["knob_Joint_2", "bottom_left_burner"],
        "top burner": ["knob_Joint_4", "top_left_burner"],
        "light switch": ["light_switch", "light_joint"],
    }
    for name, fixture in FIXTURES.items():
        assert [int(model.joint(joint).qposadr[0]) for joint in joints[name]] == list(fixture.positions)
    assert (model.nq, model.nv, model.nu, model.opt.timestep) == (30, 29, 9, 0.002)
    assert Kitchen.frame_skip * model.opt.timestep == Kitchen.dt


def test_amplitudes_of_the_noise():
    env = make(0)
    readings = np.array([env.reset(seed=seed)[0][:30] for seed in range(200)])
    offset = np.abs(readings - START).max(axis=0)
    table = [1e-2] * 9 + [5e-4] * 2 + [5e-5] * 6 + [5e-4] * 3 + [1e-2] * 3 + [5e-4] * 3 + [1e-2] * 3 + [5e-4]
    assert (offset < np.array(table) + 1e-6).all() and (offset > 0.9 * np.array(table)).all()


def literal(node):
    """A constant, a list of them, ``np.array(...)`` or ``np.ones(...)`` times a number; None for anything else."""
    text = ast.unparse(node)
    if text.startswith("np.array(") and isinstance(node, ast.Call):
        return ast.literal_eval(node.args[0])
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


@pytest.fixture(scope="module")
def d4rl(tmp_path_factory):
    """d4rl 1.1's kitchen as text, by path. It cannot be imported on a current Python, so it is read."""
    folder = tmp_path_factory.mktemp("d4rl")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), "d4rl==1.1"]
    if subprocess.run(command, capture_output=True, timeout=120).returncode:
        pytest.skip("d4rl 1.1 cannot be downloaded here")
    (wheel,) = folder.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    return lambda path: archive.read(f"d4rl/kitchen/{path}").decode()


@pytest.mark.network
def test_goals_are_those_of_d4rl(d4rl):
    tables = {
        ast.unparse(node.targets[0]): node.value
        for node in ast.parse(d4rl("kitchen_envs.py")).body
        if isinstance(node, ast.Assign)
    }
    indices, goals = (
        {key.value: literal(value) for key, value in zip(tables[name].keys, tables[name].values, strict=True)}
        for name in ("OBS_ELEMENT_INDICES", "OBS_ELEMENT_GOALS")
    )
    for name, fixture in FIXTURES.items():
        assert indices.pop(name) == list(fixture.positions)
        assert goals.pop(name) == list(fixture.opened)
    for name in ("microwave", "kettle"):
        assert SHOWN_GOALS[tuple(indices.pop(name))] == tuple(goals.pop(name))
    assert not indices and not goals
    assert literal(tables["BONUS_THRESH"]) == 0.3


@pytest.mark.network
def test_start_action_and_observation_are_those_of_d4rl(d4rl):
    tree = ast.parse(d4rl("adept_envs/franka/kitchen_multitask_v0.py"))
    assigned: dict[str, list[str]] = {}
    arrays = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            assigned.setdefault(ast.unparse(node.targets[0]), []).append(ast.unparse(node.value))
            arrays.append((ast.unparse(node.targets[0]), literal(node.value)))
    assert START.tolist() == dict(pair for pair in arrays if pair[1])["self.init_qpos"]
    assert assigned["self.act_amp"] == [f"{MAX_SPEED} * np.ones(self.N_DOF_ROBOT)"]
    assert assigned["obs_upper"] == [f"{OBSERVATION_LIMIT:g}.0 * np.ones(self.obs_dim)"]
    assert assigned["self.robot_noise_ratio"] == [str(Kitchen().noise)]
    assert f"frame_skip={Kitchen.frame_skip}" in ast.unparse(tree)


@pytest.mark.network
def test_limits_and_noise_are_those_of_d4rl(d4rl):
    config = ElementTree.fromstring(d4rl("adept_envs/franka/robot/franka_config.xml"))
    rows = [config.find(f"qpos{place}").attrib for place in range(30)]
    assert [float(row["pos_noise_amp"]) for row in rows] == NOISE_SIZES.tolist()
    limits = np.array([[float(number) for number in row["pos_bound"].split()] for row in rows[:9]])
    np.testing.assert_array_equal(limits.T, [LOWEST, HIGHEST])
    speeds = np.array([[float(number) for number in row["vel_bound"].split()] for row in rows[:9]])
    assert (np.abs(speeds) >= MAX_SPEED).all()  # so that this limit is never felt


# ---- models --------------------------------------------------------------------------------------------------


def test_the_model_for_physics_steps_like_the_whole_one():
    spec = kitchen_model._spec()
    pedestal = kitchen_model._pedestal(spec)
    pedestal.contype = pedestal.conaffinity = 0
    models = (physics_model(), spec.compile())
    assert models[0].ngeom < models[1].ngeom and models[0].ntex == 0
    rng = np.random.default_rng(0)
    both = [mujoco.MjData(model) for model in models]
    contacts = 0
    for _ in range(2):
        for model, data in zip(models, both, strict=True):
            mujoco.mj_resetData(model, data)
            data.qpos[:] = START
            mujoco.mj_forward(model, data)
        for _ in range(70):
            target = both[0].qpos[:9] + rng.uniform(-0.16, 0.16, 9)
            for model, data in zip(models, both, strict=True):
                data.ctrl[:] = target
                mujoco.mj_step(model, data, 40)
            contacts += both[0].ncon
            for name in ("qpos", "qvel", "qacc", "qacc_warmstart", "xpos", "site_xpos"):
                np.testing.assert_array_equal(getattr(both[0], name), getattr(both[1], name), err_msg=name)
    assert contacts > 0


def test_sites_and_fingers_are_read_one_substep_late():
    env = make(0, noise=0.0)
    env.reset()
    env.step(np.ones(9))
    (model,), (data,) = env.task_set.models, physics_of(env).data
    seen = physics_of(env).state.left_finger[0].copy()
    mujoco.mj_forward(model, data)
    assert not np.array_equal(seen, data.body("panda0_leftfinger").xpos)
    np.testing.assert_allclose(seen, data.body("panda0_leftfinger").xpos, atol=0.01)


def test_the_picture_marks_the_handle():
    model = scene_model()
    data = mujoco.MjData(model)
    env = make("light switch-on")
    env.reset(seed=0)
    state = physics_of(env).state
    env.task_set.pose(data, type(state)(qpos=state.qpos[0], sites=state.sites[0]), None, env.task_id)
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(data.body("target").xpos, data.site("light_site").xpos, atol=1e-12)


def test_without_gymnasium_robotics_tasks_can_be_listed_but_not_run(monkeypatch):
    monkeypatch.setattr(kitchen_model, "find_spec", lambda name: None)
    assert qmp_envs.task_names(ID) == NAMES
    with pytest.raises(ModuleNotFoundError, match=r'pip install "qmp-suite\[robotics\]"'):
        gym.make(ID)
    with pytest.raises(ModuleNotFoundError, match="gymnasium-robotics, which is not installed"):
        gym.make_vec(ID)


def test_another_pedestal_is_noticed():
    spec = kitchen_model._spec()
    kitchen_model._pedestal(spec).size = [0.2, 0.9, 0.0]
    with pytest.raises(RuntimeError, match=r"sizes \[\[0.2, 0.9\]\]; expected one pedestal of size \[0.12, 0.9\]"):
        kitchen_model._pedestal(spec)


# ---- behavior and options ------------------------------------------------------------------------------------


def test_the_last_reading_anchors_the_next_target():
    env = make(0)
    observation, _ = env.reset(seed=0)
    for action in np.random.default_rng(0).uniform(-0.2, 0.2, (5, 9)):
        target = np.clip(observation[:9] + 0.16 * action, LOWEST, HIGHEST)
        observation, *_ = env.step(action)
        np.testing.assert_allclose(physics_of(env).data[0].ctrl, target, atol=1e-6)


def test_no_action_lets_the_arm_sag():
    env = make(0, noise=0.0)
    env.reset()
    heights = [physics_of(env).state.left_finger[0, 2].copy() for _ in range(30) if env.step(np.zeros(9)) is not None]
    assert heights[-1] < heights[0] - 0.01


def test_without_noise_every_episode_is_the_same():
    rollouts = []
    for seed in (0, 1):
        env = make("top burner-on", noise=0.0)
        env.reset(seed=seed)
        rollouts.append([env.step(np.full(9, 0.3))[0] for _ in range(5)])
    np.testing.assert_array_equal(*rollouts)


def done(**options):
    """One step from the goal of a task."""
    env = make("light switch-on", noise=0.0, **options)
    env.reset(options={"qpos": env.task_set.goals[env.task_id], "qvel": np.zeros(29)})
    _, reward, terminated, _, info = env.step(np.zeros(9))
    assert info["success"] and info["is_success"]
    return env, reward, terminated, info


def test_bonus_and_termination():
    _, reward, terminated, info = done()
    assert (reward, terminated, info["reward_success"], info["reward_shift"]) == (2800.0, True, 2800.0, 0.0)
    assert done(success_bonus=7.0)[1:3] == (7.0, True)
    for options, ends in (({"success_bonus": None}, True), ({"terminate_on_success": False}, False)):
        env, reward, terminated, info = done(**options)
        assert terminated == ends and info["reward_success"] == 0.0
        assert reward == pytest.approx(8.0 + info["reward_reach"] - 20.0) and -12.0 < reward < 0.0
    env.reset(options={"qpos": START, "qvel": np.zeros(29)})
    assert not env.step(np.zeros(9))[4]["is_success"]


def test_success_is_remembered_where_the_episode_goes_on():
    env, *_ = done(terminate_on_success=False)
    (model,), (data,) = env.task_set.models, physics_of(env).data
    data.qpos[list(FIXTURES["light switch"].positions)] = 0.0
    mujoco.mj_forward(model, data)
    info = env.step(np.zeros(9))[4]
    assert not info["success"] and info["is_success"]


def test_relabeling_gives_what_the_other_task_would_have_given():
    first, second = (make(name, noise=0.0) for name in ("bottom burner-on", "slide cabinet-close"))
    start = {"qpos": START, "qvel": np.zeros(29)}
    for env in (first, second):
        env.reset(options=start)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (5, 9)):
        outcomes = [env._episodes.step(action[None])[1] for env in (first, second)]
        relabeled = second.task_set.reward(outcomes[0].columns, np.array([second.task_id]))
        np.testing.assert_array_equal(relabeled, outcomes[1].reward)
        assert outcomes[0].reward != outcomes[1].reward


def test_a_failed_simulator_ends_the_episode():
    env = make(0)
    env.reset(seed=0)
    physics_of(env).data[0].qvel[:] = 1e12
    observation, reward, terminated, _, info = env.step(np.zeros(9))
    assert terminated and not info["success"] and np.isfinite(observation).all() and np.isfinite(reward)


def test_errors():
    with pytest.raises(ValueError, match="noise must be a finite number of at least 0, got -0.1"):
        Kitchen(noise=-0.1)
    with pytest.raises(ValueError, match="did you mean 'light switch-on'"):
        make("light swich-on")
    with pytest.raises(TypeError, match="did you mean 'success_bonus'"):
        make(sucess_bonus=1.0)
