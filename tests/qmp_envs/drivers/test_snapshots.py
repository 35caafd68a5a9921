"""A snapshot holds everything that the steps to come depend on, on every id."""

import gymnasium as gym
import numpy as np
import pytest

import qmp_envs
from tests.qmp_envs.drivers.test_vector import assert_same_infos
from tests.qmp_envs.simulation import parallel_sets
from tests.sampling import each_batch_share, each_share, some

PLAIN = (type(None), bool, int, float, str, np.ndarray, np.generic)


def assert_plain(value, path="snapshot"):
    if isinstance(value, dict):
        for key, one in value.items():
            assert type(key) is str, path
            assert_plain(one, f"{path}/{key}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            assert_plain(one, f"{path}/{number}")
    else:
        assert isinstance(value, PLAIN), f"{path} is {type(value)}"
        assert not (isinstance(value, np.ndarray) and value.dtype == object), path


def from_a_file(value):
    """The same, but with arrays that may not be written to, in memory that they do not own."""
    if isinstance(value, dict):
        return {key: from_a_file(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_a_file(one) for one in value]
    if isinstance(value, np.ndarray) and value.size:
        return np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape)
    return value


def assert_same_content(one, other, path="snapshot"):
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
    if isinstance(one, dict | list):
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_same_content(one[key], other[key], f"{path}/{key}")
    else:
        np.testing.assert_array_equal(one, other, err_msg=path)


def actions_of(envs, steps, seed=1):
    """Actions ``(steps, ...)`` that reach a little beyond the limits."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.2, 1.2, (steps, *envs.action_space.shape)).astype(np.float32)


def assert_same_steps(one, other, actions):
    for action in actions:
        left, right = one.step(action), other.step(action)
        for mine, theirs in zip(left[:4], right[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)
            assert np.asarray(mine).dtype == np.asarray(theirs).dtype
        if isinstance(one, gym.vector.VectorEnv):
            assert_same_infos(left[4], right[4])
        else:
            assert left[4] == right[4]
            if left[2] or left[3]:
                before, after = one.reset(), other.reset()
                np.testing.assert_array_equal(before[0], after[0])
                assert before[1] == after[1]


@each_batch_share
def test_a_new_environment_goes_on_where_a_snapshot_was_taken(id, share):
    """Bit for bit, through the ends of episodes that began at different times, and their next starts."""
    limit = some(37, share, least=9)
    envs = gym.make_vec(id, max_episode_steps=limit)
    actions = actions_of(envs, some(150, share, least=16))
    envs.reset(seed=3)
    mask = np.arange(envs.num_envs) % 2 == 0
    for number, action in enumerate(actions[: limit - 2]):
        envs.step(action)
        if number == 2:
            envs.reset(options={"reset_mask": mask.copy()})
    snapshot = envs.unwrapped.snapshot()
    assert_plain(snapshot)
    later = actions[limit - 2 :]
    expected = [envs.step(action)[0] for action in later]  # the snapshot shares no memory with what goes on

    copy = gym.make_vec(id, max_episode_steps=limit)
    copy.unwrapped.restore(from_a_file(snapshot))
    assert_same_content(copy.unwrapped.snapshot(), snapshot)
    for action, observations in zip(later, expected, strict=True):
        np.testing.assert_array_equal(copy.step(action)[0], observations)

    envs.unwrapped.restore(snapshot)  # back to it, where something else has happened since
    copy.unwrapped.restore(snapshot)
    assert_same_steps(envs, copy, later)
    envs.close()
    copy.close()


@each_share
def test_a_single_environment_too(id, share):
    """Also where the next reset draws another task, with another model."""
    steps = some(60, share, least=12)
    env, copy = (gym.make(id, disable_env_checker=True).unwrapped for _ in range(2))
    actions = actions_of(env, steps)
    env.reset(seed=2)
    copy.reset(seed=5)
    for action in actions[: steps // 2]:
        if env.step(action)[2]:
            env.reset()
    snapshot = env.snapshot()
    assert_plain(snapshot)
    copy.restore(snapshot)
    assert_same_steps(env, copy, actions[steps // 2 :])
    for _ in range(3):
        (one, about), (other, told) = env.reset(), copy.reset()
        np.testing.assert_array_equal(one, other)
        assert about == told


@pytest.mark.parametrize(
    "task_set", [parallel_sets.WorkerReacher, parallel_sets.ThreadedReacher], ids=["processes", "threads"]
)
@pytest.mark.parametrize("workers", [(1, 2), (3, 1), (2, 3)], ids=lambda counts: f"{counts[0]} to {counts[1]}")
def test_the_number_of_workers_may_change(task_set, workers):
    one, other = (parallel_sets.make(task_set, count) for count in workers)
    actions = actions_of(one, 50)
    one.reset(seed=0)
    for action in actions[:20]:
        one.step(action)
    other.restore(one.snapshot())
    assert_same_steps(one, other, actions[20:])
    one.close()
    other.close()


def test_before_the_first_reset():
    one, other = (gym.make_vec("QMP/MultistageReacher-v0").unwrapped for _ in range(2))
    other.reset(seed=1)
    other.restore(one.snapshot())
    with pytest.raises(gym.error.ResetNeeded):
        other.step(np.zeros(other.action_space.shape))
    np.testing.assert_array_equal(one.reset(seed=4)[0], other.reset(seed=4)[0])


def test_a_snapshot_of_something_else_is_refused():
    reacher = gym.make_vec("QMP/MultistageReacher-v0").unwrapped
    reacher.reset(seed=0)
    snapshot = reacher.snapshot()
    with pytest.raises(ValueError, match=r"tasks \[0, 1, 2, 3, 4\]; this environment has \[0, 1, 2, 3, 4, 0"):
        gym.make_vec("QMP/MultistageReacher-v0", num_envs=10).unwrapped.restore(snapshot)
    walkers = qmp_envs.BatchedTaskSetEnv(parallel_sets.Walkers())
    with pytest.raises(ValueError, match="5 slots of MultistageReacher; these are 5 of Walkers"):
        walkers.restore(snapshot)
    stay = gym.make("QMP/MultistageReacher-v0", task="stay").unwrapped
    other = gym.make("QMP/MultistageReacher-v0", task=0).unwrapped
    stay.reset(seed=0)
    with pytest.raises(ValueError, match="of task 4; this environment only runs task 0"):
        other.restore(stay.snapshot())
