"""What every registered environment promises; a new family joins by being registered."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import qmp_envs
from tests.qmp_envs.task_sets.starts import assert_same_state, start_and_state
from tests.sampling import each_batch_id, each_batch_share, each_id, each_share, each_task, some

# Positions and velocities of a simulated body have no honest limits, which Gymnasium dislikes.
ALLOWED_WARNINGS = ("A Box observation space minimum value is -infinity", "maximum value is infinity")
# Observation elements that may stay the same over a random rollout, by id.
SECOND_OBJECT = dict.fromkeys(
    [*range(11, 18), *range(29, 36)], "a second object, which no task of MT10 has and few others: now, one step earlier"
)
STILL_OBJECT = dict.fromkeys([*range(7, 11), *range(25, 29)], "rotation of an object that random actions do not turn")
CONSTANT: dict[str, dict[int, str]] = {
    "QMP/MultistageReacher-v0": {
        12: "stage 0: random actions reach no subgoal of tasks 0 to 3",
        13: "stage 1: as above",
        14: "stage 2: as above",
    },
    "QMP/Kitchen-v0": dict.fromkeys(range(30, 60), "goal: constant in a task, and zero where no task has one"),
    "QMP/MetaWorldCDS-v0": {
        5: "how far the drawer is open: random actions do not move it",
        6: "height of the drawer's handle: it slides",
        **dict.fromkeys(range(7, 11), "rotation of the drawer: as above"),
        13: "height of the door's handle: the hinge is upright",
    },
    "QMP/MT10-v0": SECOND_OBJECT,
    "QMP/MT25-v0": SECOND_OBJECT | STILL_OBJECT,
    "QMP/MT50-v0": SECOND_OBJECT | STILL_OBJECT,
}


def tasks_of(id: str) -> range:
    return range(len(qmp_envs.task_names(id)))


def rollout(env: gym.Env, steps: int, seed: int) -> list[tuple]:
    """Observations, rewards and infos of random actions, through resets."""
    rng = np.random.default_rng(seed)
    trace: list[tuple] = [env.reset(seed=seed)]
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
        trace.append(env.step(action))
        if trace[-1][2] or trace[-1][3]:
            trace.append(env.reset())
    return trace


def assert_same_trace(left: list[tuple], right: list[tuple]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]


@each_id
@pytest.mark.parametrize("check", [check_env, sb3_check_env], ids=["gymnasium", "sb3"])
def test_environment_checkers_have_nothing_to_say(id, check):
    env = gym.make(id)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if check is check_env:
            check(env.unwrapped, skip_render_check=True)
        else:
            check(env)
    messages = [str(w.message) for w in caught]
    assert [m for m in messages if not any(allowed in m for allowed in ALLOWED_WARNINGS)] == []


@each_share
def test_seed_determines_everything(id, share):
    steps = some(300, share)
    assert_same_trace(rollout(gym.make(id), steps, seed=7), rollout(gym.make(id), steps, seed=7))
    env = gym.make(id)
    first = rollout(env, steps, seed=0)
    assert_same_trace(first, rollout(env, steps, seed=0))  # and nothing is left over from an earlier use


@each_id
def test_zero_is_a_seed_and_none_continues(id):
    env = gym.make(id, task=0)
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    again, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first, again)
    if env.unwrapped.task_set.draw_reset(np.random.default_rng(0)).size:
        assert not np.array_equal(first, second)
        assert not np.array_equal(first, env.reset(seed=1)[0])


@each_id
def test_global_random_state_is_left_alone(id):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    rollout(gym.make(id), 20, seed=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@each_share
def test_every_reset_draws_a_task(id, share):
    env = gym.make(id)
    env.reset(seed=0)
    seen = {env.reset()[1]["task_id"] for _ in range(some(20, share, least=8) * len(tasks_of(id)))}
    assert seen == set(tasks_of(id))


@each_task
def test_task_by_index_name_and_reset_option(id, task, share):
    name = qmp_envs.task_names(id)[task]
    wanted = {"task_id": task, "task_name": name}
    assert gym.make(id, task=task).reset(seed=0)[1] == wanted
    assert gym.make(id, task=name).reset(seed=0)[1] == wanted
    env = gym.make(id)
    assert env.reset(seed=0, options={"task": task})[1] == wanted
    assert env.unwrapped.task_id == task
    assert env.step(np.zeros(env.action_space.shape, np.float32))[4].items() >= wanted.items()


@each_task
def test_info_and_reward_terms(id, task, share):
    env = gym.make(id, task=task)
    task_set = env.unwrapped.task_set
    for entry in rollout(env, some(300, share), seed=1):
        if len(entry) == 2:
            continue
        _, reward, terminated, _, info = entry
        terms = [value for key, value in info.items() if key.startswith("reward_")]
        assert reward == pytest.approx(sum(terms), abs=1e-12)
        assert isinstance(reward, float) and all(isinstance(value, float) for value in terms)
        for key in ("success", "is_success"):
            assert key not in info or isinstance(info[key], bool)
        assert ("stages_completed" in info) == (task_set.num_stages > 0)
        if "stages_completed" in info:
            assert isinstance(info["stages_completed"], int)
            assert 0 <= info["stages_completed"] <= task_set.num_stages


@each_id
def test_no_constant_observation(id):
    env = gym.make(id)
    observations = np.array([entry[0] for entry in rollout(env, 1000, seed=0)])
    constant = set(np.flatnonzero(np.ptp(observations, axis=0) == 0.0).tolist())
    assert constant <= set(CONSTANT.get(id, {}))


@each_batch_id
def test_observations_share_no_memory(id):
    observations = [entry[0] for entry in rollout(gym.make(id), 30, seed=0)]
    for i, one in enumerate(observations):
        assert not any(np.shares_memory(one, other) for other in observations[:i])
    envs = gym.make_vec(id)
    batches = [envs.reset(seed=0)[0]]
    for _ in range(5):
        observation, reward, terminated, truncated, _ = envs.step(np.zeros(envs.action_space.shape, np.float32))
        batches += [observation, reward, terminated, truncated]
    for i, one in enumerate(batches):
        assert not any(np.shares_memory(one, other) for other in batches[:i])


@each_task
@pytest.mark.parametrize("kind", ["corners", "low", "high"])
def test_finite_under_extreme_actions(id, task, share, kind):
    env = gym.make(id, task=task)
    rng = np.random.default_rng(2)
    env.reset(seed=2)
    for _ in range(some(400, share)):
        low, high = env.action_space.low, env.action_space.high
        corner = np.where(rng.random(low.shape) < 0.5, low, high)
        observation, reward, terminated, truncated, _ = env.step({"corners": corner, "low": low, "high": high}[kind])
        assert np.isfinite(observation).all() and np.isfinite(reward)
        assert env.observation_space.contains(observation)
        if terminated or truncated:
            env.reset()


@each_id
def test_actions_outside_the_space_are_clipped(id):
    inside, outside = gym.make(id, task=0), gym.make(id, task=0)
    inside.reset(seed=0), outside.reset(seed=0)
    high = inside.action_space.high
    np.testing.assert_array_equal(inside.step(high)[0], outside.step(5 * high)[0])


@each_id
def test_time_limit_truncates(id):
    env = gym.make(id, max_episode_steps=7, task=0)
    env.reset(seed=0)
    flags = [env.step(np.zeros(env.action_space.shape, np.float32))[2:4] for _ in range(7)]
    assert flags == [(False, False)] * 6 + [(False, True)]
    assert gym.spec(id).max_episode_steps == qmp_envs.make_task_set(id).horizon


@each_batch_share
@pytest.mark.parametrize("make", [gym.make, gym.make_vec], ids=["single", "batched"])
def test_pickle_in_the_middle_of_an_episode(id, share, make):
    env = make(id)
    rng = np.random.default_rng(0)
    env.reset(seed=4)
    actions = rng.uniform(-1.0, 1.0, (some(60, share, least=20), *env.action_space.shape)).astype(np.float32)
    for action in actions[:10]:
        env.step(action)
    copy = pickle.loads(pickle.dumps(env))
    for action in actions[10:]:
        one, other = env.step(action), copy.step(action)
        for left, right in zip(one[:4], other[:4], strict=True):
            np.testing.assert_array_equal(left, right)
        if make is gym.make and (one[2] or one[3]):
            np.testing.assert_array_equal(env.reset()[0], copy.reset()[0])


@each_batch_id
def test_spec_survives_json(id):
    env = gym.make(id, task=0, task_one_hot=True)
    copy = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert_same_trace(rollout(env, 30, seed=0), rollout(copy, 30, seed=0))
    envs = gym.make_vec(id)
    assert EnvSpec.from_json(envs.spec.to_json()).id == id


@each_id
def test_start_at_a_given_state(id):
    env = gym.make(id, task=0)
    task_set = env.unwrapped.task_set
    options, expected = start_and_state(task_set, np.array([0]))
    for seed in (0, 1):  # the seed has no say in a start that is given
        first, _ = env.reset(seed=seed, options={name: array[0] for name, array in options.items()})
        assert_same_state(env.unwrapped._episodes.physics.state, expected)
    again, _ = env.reset(seed=1, options=options)
    np.testing.assert_array_equal(first, again)
    name = task_set.start_names[0]
    with pytest.raises(ValueError, match=f"{name!r} must have shape"):
        env.reset(options={name: np.zeros(99)})
    with pytest.raises(ValueError, match=f"{name!r} must be finite"):
        env.reset(options={name: np.full_like(options[name][0], np.nan)})
    with pytest.raises(ValueError, match=f"Unknown reset option '{name}x'"):
        env.reset(options={f"{name}x": 1})


@each_batch_id
def test_a_refused_start_leaves_no_episode_to_go_on_with(id):
    name = qmp_envs.make_task_set(id).start_names[0]
    for make in (gym.make, gym.make_vec):
        env = make(id).unwrapped
        env.reset(seed=0)
        with pytest.raises(ValueError, match=name):
            env.reset(options={name: np.zeros(99)})
        with pytest.raises(ResetNeeded):
            env.step(np.zeros(env.action_space.shape, np.float32))
        env.reset(seed=0)
        env.step(np.zeros(env.action_space.shape, np.float32))
        env.close()


@each_id
def test_a_start_can_be_repeated_without_its_seed(id):
    env = gym.make(id, task=0)
    if not {"qpos", "qvel"} <= set(env.unwrapped.task_set.start_names) or env.unwrapped.task_set.noise_size:
        pytest.skip("this task set starts from numbers of its own, or its observations are noisy")
    observation, _ = env.reset(seed=0)
    state = env.unwrapped._episodes.physics.state.rows(np.array([0]))
    env.reset(seed=1)
    again, _ = env.reset(options={"qpos": state.qpos[0], "qvel": state.qvel[0]})
    np.testing.assert_array_equal(observation, again)


@each_share
def test_task_one_hot(id, share):
    num_tasks, steps = len(tasks_of(id)), some(100, share)
    plain, told = gym.make(id), gym.make(id, task_one_hot=True)
    wrapped = qmp_envs.drivers.wrappers.TaskOneHot(gym.make(id))
    for (observation, *rest), (longer, *_), (other, *_) in zip(
        rollout(plain, steps, 0), rollout(told, steps, 0), rollout(wrapped, steps, 0), strict=True
    ):
        one_hot = np.eye(num_tasks, dtype=np.float32)[rest[-1]["task_id"]]
        np.testing.assert_array_equal(longer, np.concatenate([observation, one_hot]))
        np.testing.assert_array_equal(longer, other)
        assert told.observation_space.contains(longer) and wrapped.observation_space.contains(other)


@each_batch_id
class TestErrorsSpeak:
    def test_unknown_task(self, id):
        names = qmp_envs.task_names(id)
        for given in (len(names), -1):
            with pytest.raises(ValueError, match=f"has no task {given}; allowed are 0 to {len(names) - 1}"):
                gym.make(id, task=given)
        with pytest.raises(ValueError, match=f"did you mean '{names[0]}'"):
            gym.make(id, task=names[0] + "x")
        with pytest.raises(TypeError, match="index or a name"):
            gym.make(id, task=1.5)
        with pytest.raises(ValueError, match="has no task named 'nonsense'"):
            gym.make(id).reset(options={"task": "nonsense"})

    def test_wrong_action(self, id):
        env = gym.make(id, disable_env_checker=True)
        env.reset(seed=0)
        with pytest.raises(ValueError, match=r"shape \(\d+,\), got \(99,\)"):
            env.step(np.zeros(99, np.float32))
        with pytest.raises(ValueError, match="NaN"):
            env.step(np.full(env.action_space.shape, np.nan, np.float32))
        envs = gym.make_vec(id)
        envs.reset(seed=0)
        with pytest.raises(ValueError, match="shape"):
            envs.step(np.zeros((1, 99), np.float32))
        actions = np.zeros(envs.action_space.shape, np.float32)
        actions[-1, 0] = np.nan
        with pytest.raises(ValueError, match=rf"NaN \(slots \[{envs.num_envs - 1}\]\)"):
            envs.step(actions)

    def test_step_before_reset(self, id):
        env = gym.make(id)
        with pytest.raises(ResetNeeded):
            env.unwrapped.step(env.action_space.sample())
        envs = gym.make_vec(id)
        with pytest.raises(ResetNeeded):
            envs.step(envs.action_space.sample())

    def test_unknown_option(self, id):
        with pytest.raises(TypeError, match="did you mean 'task'"):
            gym.make(id, taks=1)

    def test_options_by_other_words(self, id):
        with pytest.raises(TypeError, match="did you mean 'max_episode_steps'"):
            gym.make(id, horizon=200)
        with pytest.raises(TypeError, match=r"'workers' is an option of gym\.make_vec"):
            gym.make(id, workers=2)

    def test_numbers_out_of_range(self, id):
        for wrong in (0, -3):
            with pytest.raises(ValueError, match=f"max_episode_steps must be at least 1 .*got {wrong}"):
                gym.make_vec(id, max_episode_steps=wrong)
            with pytest.raises(ValueError, match=f"num_envs must be at least 1 .*got {wrong}"):
                gym.make_vec(id, num_envs=wrong, task=0)
        for wrong in (0, 2.5, "all"):
            with pytest.raises(ValueError, match="workers must be at least 1"):
                gym.make_vec(id, workers=wrong)

    def test_number_of_slots(self, id):
        num_tasks = len(tasks_of(id))
        if num_tasks > 1:
            with pytest.raises(ValueError, match=f"multiple of {num_tasks}, got {num_tasks + 1}"):
                gym.make_vec(id, num_envs=num_tasks + 1)


def test_unknown_id():
    with pytest.raises(ValueError, match="did you mean 'QMP/Maze-v0'"):
        qmp_envs.make_task_set("QMP/Mase-v0")


def test_relabeling_refused_where_it_is_impossible():
    class Silent(type(qmp_envs.make_task_set("QMP/Point2D-v0"))):
        reward = qmp_envs.TaskSet.reward

    with pytest.raises(NotImplementedError, match="cannot recompute rewards"):
        Silent().reward({}, np.zeros(1, np.int64))


@each_batch_share
def test_relabeling_to_the_own_task_gives_the_own_reward(id, share):
    envs = gym.make_vec(id)
    task_set = envs.unwrapped.task_set
    if not task_set.relabel_columns:
        pytest.skip("this task set declares no columns")
    envs.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(some(300, share)):
        _, reward, *_ = envs.step(rng.uniform(-1.0, 1.0, envs.action_space.shape).astype(np.float32))
        columns = envs.unwrapped.last_outcome.columns
        assert {name: array.shape[1:] for name, array in columns.items()} == dict(task_set.relabel_columns)
        stored = {name: array.astype(np.float64) for name, array in columns.items()}
        np.testing.assert_allclose(task_set.reward(stored, envs.unwrapped.task_ids), reward, rtol=0, atol=1e-12)
