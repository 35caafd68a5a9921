"""MT10, MT25 and MT50: against Meta-World's own environments, live and recorded, and what is ours."""

import pickle
import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from metaworld import env_dict, policies
from metaworld.types import Task
from metaworld.utils import reward_utils
from scipy.spatial.transform import Rotation

import qmp_envs
from qmp_envs.task_sets.metaworld.models import physics_model, scene_model
from qmp_envs.task_sets.metaworld.physics import MEASURES, SawyerPhysics
from qmp_envs.task_sets.metaworld.rotations import QuickRotation
from qmp_envs.task_sets.metaworld.simulator import embedded
from qmp_envs.task_sets.metaworld.speed import quick_methods, quick_norm, quick_tolerance
from qmp_envs.task_sets.metaworld.task_set import HAND_HIGH, HAND_LOW, MetaWorld
from qmp_envs.task_sets.metaworld.tasks import BENCHMARKS, GOAL_HIGH, GOAL_LOW, GOALS, MT10, MT50, PLACES, far_enough

DATA = Path(__file__).parents[2] / "data"
RECORDED = sorted(file for file in DATA.glob("mt10_*.npz") if file.stem != "mt10_vector")
# Free objects, hinges and slides; rotations from matrices; grasps; two objects; rewards in static methods.
SAMPLE = ("reach", "push", "peg-insert-side", "door-open", "drawer-close", "window-close", "hammer", "basketball")
# Of Meta-World's scripted policies; their actions are clipped, as it says.
pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high:UserWarning")

sampled_tasks = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.slow]) for name in MT50]
)


@pytest.fixture(scope="module")
def mt50():
    return MetaWorld("MT50")


def make(name, **options):
    """Our environment of one task, whichever benchmark has it."""
    return gym.make("QMP/MT50-v0", task=name, disable_env_checker=True, **options).unwrapped


def random_vector(name, seed):
    task_set = MetaWorld("MT50")
    draws = task_set.draw_reset(np.random.default_rng(seed))
    return task_set.initial_state(np.array([MT50.index(name)]), draws[None])[0][0]


def stock(name, reward_version="v2"):
    """Meta-World's own environment of one task."""
    return env_dict.ALL_V3_ENVIRONMENTS[f"{name}-v3"](reward_function_version=reward_version)


def start_stock(env, name, vector):
    """Its first observation with a random vector."""
    used = vector[: len(PLACES[name].low)]
    goal = {"rand_vec": used, "env_cls": type(env), "partially_observable": False}
    env.set_task(Task(f"{name}-v3", pickle.dumps(goal)))
    return env.reset()[0]


class Scripted:
    """Meta-World's policy of a task, with noise."""

    def __init__(self, name, noise=0.0, seed=0):
        self.policy = policies.ENV_POLICY_MAP[f"{name}-v3"]()
        self.noise, self.rng = noise, np.random.default_rng(seed)

    def __call__(self, observation):
        action = self.policy.get_action(observation.astype(np.float64))  # a copy: some policies write into it
        return np.clip(action + self.noise * self.rng.normal(size=4), -1.0, 1.0).astype(np.float32)


def assert_same_episode(name, ours, theirs, vector, steps, policy):
    first, _ = ours.reset(options={"random_vector": vector})
    state = ours._episodes.physics.state
    expected = start_stock(theirs, name, vector)
    np.testing.assert_array_equal(state.observation[0], expected)
    np.testing.assert_array_equal(first, expected.astype(np.float32))
    for step in range(steps):
        action = policy(first)
        first, reward, terminated, _, info = ours.step(action)
        expected, expected_reward, _, _, told = theirs.step(action)
        state, at = ours._episodes.physics.state, f"step {step}"
        np.testing.assert_array_equal(state.qpos[0, : theirs.model.nq], theirs.data.qpos, err_msg=at)
        np.testing.assert_array_equal(state.qvel[0, : theirs.model.nv], theirs.data.qvel, err_msg=at)
        np.testing.assert_array_equal(state.observation[0], expected, err_msg=at)
        np.testing.assert_array_equal(first, expected.astype(np.float32), err_msg=at)
        assert reward == expected_reward and not terminated, at
        assert info["success"] == bool(told["success"]), at
        assert {key: info[key] for key in MEASURES} == {key: float(told[key]) for key in MEASURES}, at


# ---- the same as Meta-World's --------------------------------------------------------------------------------


@sampled_tasks
@pytest.mark.parametrize("reward_version", ["v2", "v1"])
def test_steps_are_those_of_metaworld(name, reward_version):
    """Two episodes, so that nothing of the first one is left in the second."""
    ours, theirs = make(name, reward_version=reward_version), stock(name, reward_version)
    for seed, noise in ((0, 0.1), (1, 1.0)):
        assert_same_episode(name, ours, theirs, random_vector(name, seed), 80, Scripted(name, noise, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", MT50)
def test_long_episodes_are_those_of_metaworld(name):
    assert_same_episode(name, make(name), stock(name), random_vector(name, 2), 500, Scripted(name, 0.3))


def test_table_is_that_of_metaworld(mt50):
    upstream = {"MT10": env_dict.MT10_V3, "MT25": env_dict.MT25_V3, "MT50": env_dict.MT50_V3}
    for benchmark, names in BENCHMARKS.items():
        assert [f"{name}-v3" for name in names] == list(upstream[benchmark])
        assert qmp_envs.task_names(f"QMP/{benchmark}-v0") == names
    physics = SawyerPhysics(mt50.simulators, np.arange(50))
    for name, task, simulator in zip(MT50, mt50.simulators, physics._running, strict=True):
        assert type(simulator).__mro__[1] is env_dict.ALL_V3_ENVIRONMENTS[f"{name}-v3"], task
        limits, goal = simulator._random_reset_space, simulator.goal_space
        assert PLACES[name].low == tuple(limits.low) and PLACES[name].high == tuple(limits.high), name
        assert (goal.low >= GOAL_LOW).all() and (goal.high <= GOAL_HIGH).all(), name
        np.testing.assert_array_equal([HAND_LOW, HAND_HIGH], [simulator._HAND_SPACE.low, simulator._HAND_SPACE.high])


@pytest.mark.parametrize("name", [name for name in MT50 if len(PLACES[name].low) == 6])
def test_distance_of_object_and_goal_is_that_of_metaworld(name, mt50):
    """Of 2000 random vectors, the closest ones that we accept and the widest that we refuse."""
    task_id = MT50.index(name)
    low, high = mt50._low[task_id], mt50._high[task_id]
    vectors = low + np.random.default_rng(0).random((2000, 6)) * (high - low)
    distance = np.linalg.norm(vectors[:, 3:5] - vectors[:, :2], axis=1)
    accepted = far_enough(vectors, np.full(2000, PLACES[name].apart))
    physics = SawyerPhysics(mt50.simulators, np.array([task_id]))
    closest = vectors[accepted][distance[accepted].argmin()]
    physics.place(np.array([0]), np.array([task_id]), closest[None])
    np.testing.assert_array_equal(physics.state.random_vector[0], closest)
    if not accepted.all():
        assert 0.2 < accepted.mean()
        widest = vectors[~accepted][distance[~accepted].argmax()]
        with pytest.raises(ValueError, match="object and goal are too close"):
            physics.place(np.array([0]), np.array([task_id]), widest[None])


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
@pytest.mark.parametrize("kind", ["script", "rand"])
def test_recorded_trajectories(file, kind):
    recorded = {key.removeprefix(f"{kind}_"): array for key, array in np.load(file).items()}
    env = make(str(recorded["task"]))
    env.reset(options={"random_vector": recorded["random_vector"]})
    keys, first_success = recorded["info_keys"].tolist(), None
    for step, action in enumerate(recorded["actions"]):
        state = env._episodes.physics.state
        np.testing.assert_array_equal(state.observation[0], recorded["observation"][step])
        qpos = recorded["qpos"][step]
        np.testing.assert_array_equal(state.qpos[0, : len(qpos)], qpos)
        _, reward, _, _, info = env.step(action)
        assert reward == recorded["reward"][step]
        assert [float(info[key]) for key in keys] == recorded["info"][step].tolist()
        if info["success"] and first_success is None:
            first_success = step
    np.testing.assert_array_equal(env._episodes.physics.state.target[0], recorded["target"])
    if kind == "script":
        assert first_success == recorded["success_step"]


def test_recorded_vector_run():
    """Meta-World's vector environment with one-hot tasks: 120 steps in episodes of 50."""
    recorded = dict(np.load(DATA / "mt10_vector.npz"))
    envs = gym.make_vec("QMP/MT10-v0", max_episode_steps=50, task_one_hot=True)
    vectors = np.nan_to_num(recorded["rand_vec"])
    observation, _ = envs.reset(options={"random_vector": vectors[0]})
    np.testing.assert_array_equal(observation, recorded["obs"][0])
    for step, actions in enumerate(recorded["actions"]):
        observation, reward, terminated, truncated, infos = envs.step(actions)
        np.testing.assert_array_equal(reward, recorded["reward"][step])
        np.testing.assert_array_equal(truncated, recorded["truncated"][step])
        assert not terminated.any()
        success = infos
        if truncated.all():
            episode = step // 50
            last = np.stack(infos["final_obs"])
            np.testing.assert_array_equal(last, recorded["final_obs"][episode].astype(np.float32))
            success = infos["final_info"]
            observation, _ = envs.reset(options={"random_vector": vectors[episode + 1]})
        np.testing.assert_array_equal(success["success"], recorded["success"][step])
        np.testing.assert_array_equal(observation, recorded["obs"][step + 1])
    envs.close()


def test_scripted_policies_solve_mt10():
    """Meta-World's policies, the first success ends an episode."""
    scripts = [Scripted(name) for name in MT10]

    def policy(observations, task_ids):
        return np.stack([scripts[i](one) for i, one in zip(task_ids, observations, strict=True)])

    result = qmp_envs.evaluate(policy, "QMP/MT10-v0", episodes=1, goals="fixed-1", terminate_on_success=True)
    np.testing.assert_array_equal(result.per_task("success_all"), np.ones(10))
    assert (result["length"] < 250).all()


# ---- models and helpers --------------------------------------------------------------------------------------


def scenes():
    quick = {"sawyer_push_v3.xml", "sawyer_door_pull.xml", "sawyer_handle_press.xml"}
    sources = sorted(MetaWorld("MT50").scenes, key=lambda source: Path(source).name)
    marks = [[] if Path(source).name in quick else [pytest.mark.slow] for source in sources]
    return [pytest.param(s, id=Path(s).stem, marks=m) for s, m in zip(sources, marks, strict=True)]


@pytest.mark.parametrize("source", scenes())
def test_physics_model_has_all_of_the_physics(source):
    whole, lean = scene_model(source), physics_model(source)
    for name in dir(whole):
        if name.startswith(("body_", "jnt_", "dof_", "eq_", "site_", "actuator_", "qpos")):
            if name not in ("body_geomadr", "body_geomnum", "body_contype", "body_conaffinity", "site_matid"):
                if "bvh" not in name:
                    np.testing.assert_array_equal(getattr(lean, name), getattr(whole, name), err_msg=name)
    assert lean.stat.meaninertia == whole.stat.meaninertia
    for kind in ("body", "joint", "site", "geom"):
        count, ours = getattr(whole, f"n{'jnt' if kind == 'joint' else kind}"), getattr(lean, kind)
        for i in range(count):
            name = getattr(whole, kind)(i).name
            assert not name or ours(name).name == name
    assert lean.ntex == lean.nmat == 0 and lean.nmeshvert < whole.nmeshvert / 3


def test_quaternions_are_those_of_scipy():
    rng = np.random.default_rng(0)
    matrix = np.zeros(9)
    for i in range(3000):
        near_one, anywhere = np.array([1.0, 0.0, 0.0, 0.0]), rng.normal(size=4)
        quaternion = near_one + anywhere * 10.0 ** rng.uniform(-12, 0) if i % 3 else anywhere
        mujoco.mju_quat2Mat(matrix, quaternion / np.linalg.norm(quaternion))
        expected = Rotation.from_matrix(matrix.reshape(3, 3)).as_quat()
        np.testing.assert_array_equal(QuickRotation.from_matrix(matrix.reshape(3, 3)).as_quat(), expected)


@pytest.mark.parametrize("sigmoid", ["long_tail", "gaussian", "hyperbolic"])
def test_tolerance_is_that_of_metaworld(sigmoid):
    quick, rng = quick_tolerance(reward_utils.tolerance), np.random.default_rng(0)
    for convert in (float, np.float64, np.float32, np.array):
        for _ in range(500):
            x, width = convert(rng.uniform(-0.5, 1.5)), rng.choice([0.0, 0.3])
            margin = rng.choice([0.0, rng.uniform(0.1, 1.0)])
            ours = quick(x, bounds=(0, width), margin=margin, sigmoid=sigmoid)
            theirs = reward_utils.tolerance(x, bounds=(0, width), margin=margin, sigmoid=sigmoid)
            assert ours == theirs and type(ours) is type(theirs)
    with pytest.raises(ValueError, match="margin"):
        quick(0.5, margin=-1.0)


def test_norm_is_that_of_numpy():
    rng = np.random.default_rng(0)
    for _ in range(500):
        rows = rng.normal(size=(4, rng.integers(1, 6))) * 10.0 ** rng.uniform(-9, 3)
        for x in (rows[0], rows[0] - rows[1], rows[:, 0], rows[0].astype(np.float32), rows[0].tolist(), rows):
            for options in ({}, {"ord": 2}, {"ord": 1}, {"axis": 0}, {"keepdims": True}):
                ours, theirs = quick_norm(x, **options), np.linalg.norm(x, **options)
                np.testing.assert_array_equal(ours, theirs)
                assert type(ours) is type(theirs)


def test_metaworlds_own_classes_stay_as_they_are():
    upstream = env_dict.ALL_V3_ENVIRONMENTS["push-v3"]
    before = dict(vars(upstream)), dict(vars(sys.modules[upstream.__module__]))
    copies = quick_methods(upstream)
    assert {"_get_quat_objects", "compute_reward", "_gripper_caging_reward"} <= set(copies)
    assert copies["_get_quat_objects"].__globals__["Rotation"] is QuickRotation
    assert copies["compute_reward"].__globals__["np"].linalg.norm is quick_norm
    assert issubclass(embedded(upstream), upstream) and embedded(upstream) is embedded(upstream)
    assert before == (dict(vars(upstream)), dict(vars(sys.modules[upstream.__module__])))
    assert upstream._get_quat_objects.__globals__["Rotation"] is Rotation


# ---- what is ours --------------------------------------------------------------------------------------------


def test_fixed_goals():
    def vectors(benchmark="MT10", resets=40, **options):
        task_set = MetaWorld(benchmark, **options)
        rng, task_id = np.random.default_rng(1), np.array([task_set.task_id("push")])
        drawn = [task_set.initial_state(task_id, task_set.draw_reset(rng)[None])[0][0] for _ in range(resets)]
        return {tuple(vector) for vector in drawn}

    assert len(vectors()) == 40
    assert len(vectors(goals="fixed-1")) == 1
    fixed = vectors(goals="fixed-50", resets=600)
    assert len(fixed) == GOALS["fixed-50"] == 50
    assert fixed == vectors("MT50", goals="fixed-50", resets=600)  # a task has the same goals in every benchmark
    assert not fixed & vectors(goals="fixed-50", goal_seed=1)
    assert vectors(goals="fixed-1", goal_seed=0) == vectors(goals="fixed-1") < fixed


@pytest.mark.parametrize("name", MT10)
def test_random_vectors_fill_the_limits(name):
    place = PLACES[name]
    vectors = np.array([random_vector(name, seed) for seed in range(200)])[:, : len(place.low)]
    width = np.subtract(place.high, place.low)
    assert (vectors >= place.low).all() and (vectors <= place.high).all()
    np.testing.assert_array_less(0.9 * width - 1e-12, np.ptp(vectors, axis=0))


def test_given_random_vectors_are_checked():
    env, vector = make("push"), random_vector("push", 0)
    env.reset(seed=0)
    for bad in (vector + [0.5, 0, 0, 0, 0, 0], -vector):
        with pytest.raises(ValueError, match=r"random_vector of push must be between \[-0.1, 0.6"):
            env.reset(options={"random_vector": bad})
    close = np.array([0.0, 0.7, 0.02, 0.0, 0.8, 0.015])
    with pytest.raises(ValueError, match="object and goal are too close"):
        env.reset(options={"random_vector": close})
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        env.step(np.zeros(4, np.float32))
    env.reset(options={"random_vector": vector})
    env.step(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="zeros behind"):
        make("door-open").reset(options={"random_vector": [0.05, 0.9, 0.15, 0.1, 0.0, 0.0]})


def test_reward_scale_and_end_on_success():
    vector = random_vector("drawer-close", 0)
    plain, scaled = make("drawer-close"), make("drawer-close", reward_scale=0.1, terminate_on_success=True)
    script, succeeded = Scripted("drawer-close"), []
    observation, _ = plain.reset(options={"random_vector": vector})
    scaled.reset(options={"random_vector": vector})
    for _ in range(200):
        action = script(observation)
        observation, reward, terminated, _, info = plain.step(action)
        _, small, ended, _, same = scaled.step(action)
        assert small == same["reward_task"] == 0.1 * reward and same["unscaled_reward"] == reward
        assert not terminated and ended == info["success"] == same["success"]
        succeeded.append(info["is_success"])
        if ended:
            break
    assert ended and succeeded == [False] * (len(succeeded) - 1) + [True]


def test_success_is_remembered_until_the_reset():
    """The arm reaches the goal, and leaves it again."""
    env, script = make("reach"), Scripted("reach")
    observation, _ = env.reset(seed=0)
    seen = []
    for step in range(140):
        action = script(observation) if step < 90 else np.array([0.0, 0.0, 1.0, 0.0], np.float32)
        observation, _, _, _, info = env.step(action)
        seen.append((info["success"], info["is_success"]))
    assert seen[0] == (False, False) and seen[89] == (True, True) and seen[-1] == (False, True)
    env.reset()
    assert not env.step(np.zeros(4, np.float32))[4]["is_success"]


def test_episodes_may_be_longer_than_metaworlds():
    env = gym.make("QMP/MT10-v0", task="reach", max_episode_steps=520)
    env.reset(seed=0)
    truncated = [env.step(np.zeros(4, np.float32))[3] for _ in range(520)]
    assert truncated == [False] * 519 + [True]


def test_reset_settles_once(monkeypatch):
    """250 physics steps; Meta-World's reset has 500."""
    steps = []
    step = mujoco.mj_step

    def counting(model, data, nstep=1):
        steps.append(nstep)
        step(model, data, nstep)

    monkeypatch.setattr(mujoco, "mj_step", counting)
    make("push").reset(seed=0)
    ours = sum(steps)
    steps.clear()
    theirs = stock("push")
    start_stock(theirs, "push", random_vector("push", 0))
    assert (ours, sum(steps)) == (250, 500)


def test_a_failed_simulation_ends_the_episode():
    env = make("push")
    env.reset(seed=0)
    for _ in range(3):
        last, *_ = env.step(np.ones(4, np.float32))
    env._episodes.physics._running[0].data.qvel[:] = np.nan
    observation, reward, terminated, _, info = env.step(np.zeros(4, np.float32))
    np.testing.assert_array_equal(observation, last)
    assert terminated and reward == 0.0 and not info["success"]
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first, make("push").reset(seed=0)[0])
    assert not env.step(np.zeros(4, np.float32))[2]


@pytest.mark.parametrize("name", ["push", "coffee-pull", "soccer"])
def test_drawing_shows_the_simulation(name):
    env = make(name)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.ones(4, np.float32))
    episodes, task_set = env._episodes, env.task_set
    model = task_set.scene(int(task_set.model_of_task[env.task_id]))
    data = mujoco.MjData(model)
    state = type(episodes.physics.state)(**{key: array[0] for key, array in vars(episodes.physics.state).items()})
    task_set.pose(data, state, episodes.memory, env.task_id)
    mujoco.mj_kinematics(model, data)
    simulated = episodes.physics._running[0].data
    np.testing.assert_allclose(data.xpos, simulated.xpos, rtol=0, atol=1e-12)
    np.testing.assert_allclose(data.site_xpos, simulated.site_xpos, rtol=0, atol=1e-12)
    assert model.ntex > 0 and model.nmesh > 10


@pytest.mark.parametrize(
    "option,given,closest",
    [("goals", "random", "rand"), ("reward_version", "v3", "v2")],
)
def test_unknown_option_values(option, given, closest):
    with pytest.raises(ValueError, match=f"Unknown {option} '{given}'; did you mean '{closest}'"):
        qmp_envs.make_task_set("QMP/MT10-v0", **{option: given})


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    monkeypatch.setitem(sys.modules, "metaworld.envs", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'qmp-suite\[metaworld\]'"):
        qmp_envs.make_task_set("QMP/MT10-v0")


@pytest.mark.parametrize("make_one", [gym.make, gym.make_vec, qmp_envs.make_task_set])
def test_an_id_keeps_its_benchmark(make_one):
    with pytest.raises(TypeError, match="'benchmark' is 'MT10' in this id"):
        make_one("QMP/MT10-v0", benchmark="MT50")
