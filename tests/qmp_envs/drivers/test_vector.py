"""The batched driver equals single environments, bit for bit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import qmp_envs
from tests.qmp_envs.task_sets.starts import assert_same_state, start_and_state
from tests.sampling import BATCH_SHARES, each_batch_id, each_batch_share, some


def assert_same_infos(one, other, path="info"):
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same_infos(one[key], other[key], f"{path}/{key}")
    elif one.dtype == object:
        assert one.shape == other.shape and other.dtype == object, path
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right, err_msg=path)
    else:
        np.testing.assert_array_equal(one, other, err_msg=path)
        assert one.dtype == other.dtype, path


EPISODES = [
    pytest.param(*case.values, kind, id=f"{kind}-{case.id}", marks=case.marks)
    for case in BATCH_SHARES
    for kind in ("published horizon", "short episodes")
    if kind == "short episodes" or 1.0 in case.values
]


@pytest.mark.parametrize("id,share,episodes", EPISODES)
def test_batched_equals_gymnasiums_loop(id, share, episodes):
    """Everything, infos included, over 1,000 steps with autoresets, staggered by partial resets."""
    steps, copies = (1000, 2) if share == 1.0 else (25, 1)
    kwargs = {"max_episode_steps": some(37, share, least=7)} if episodes == "short episodes" else {}
    num_tasks = len(qmp_envs.task_names(id))
    slots = copies * num_tasks
    loop = SyncVectorEnv(
        [lambda i=i: gym.make(id, task=i % num_tasks, **kwargs) for i in range(slots)],
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    batch = gym.make_vec(id, num_envs=slots, **kwargs)
    rng = np.random.default_rng(0)
    one, other = loop.reset(seed=5), batch.reset(seed=5)
    np.testing.assert_array_equal(one[0], other[0])
    assert_same_infos(one[1], other[1])
    ended = 0
    for step in range(steps):
        if step in (10, 20, 111):
            mask = rng.random(slots) < 0.5
            mask[0] = True
            one = loop.reset(options={"reset_mask": mask.copy()})
            other = batch.reset(options={"reset_mask": mask.copy()})
            np.testing.assert_array_equal(one[0], other[0])
            assert_same_infos(one[1], other[1])
        actions = rng.uniform(-1.0, 1.0, batch.action_space.shape).astype(np.float32)
        one, other = loop.step(actions), batch.step(actions)
        for left, right in zip(one[:4], other[:4], strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
        assert_same_infos(one[4], other[4])
        ended += int((other[2] | other[3]).sum())
    assert ended > 0


@each_batch_share
def test_a_slot_can_be_reproduced_alone(id, share):
    """Slot i is a single environment seeded with seed + i, reset by hand when its episode ends."""
    steps, limit = some(200, share), some(45, share, least=9)
    envs = gym.make_vec(id, max_episode_steps=limit)
    batch, _ = envs.reset(seed=11)
    singles = [gym.make(id, task=int(task), max_episode_steps=limit) for task in envs.unwrapped.task_ids]
    for slot, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=11 + slot)[0], batch[slot])
    rng = np.random.default_rng(1)
    for _ in range(steps):
        actions = rng.uniform(-1.0, 1.0, envs.action_space.shape).astype(np.float32)
        batch, rewards, terminated, truncated, infos = envs.step(actions)
        for slot, env in enumerate(singles):
            observation, reward, term, trunc, info = env.step(actions[slot])
            assert (reward, term, trunc) == (rewards[slot], terminated[slot], truncated[slot])
            if term or trunc:
                np.testing.assert_array_equal(infos["final_obs"][slot], observation)
                assert {key: infos["final_info"][key][slot] for key in info} == info
                observation, info = env.reset()
            np.testing.assert_array_equal(observation, batch[slot])
            assert {key: infos[key][slot] for key in info} == info


@each_batch_id
def test_slots_and_tasks(id):
    names = qmp_envs.task_names(id)
    envs = gym.make_vec(id)
    assert envs.num_envs == len(names) and envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert gym.make_vec(id, num_envs=None).num_envs == len(names)
    envs = gym.make_vec(id, num_envs=3 * len(names))
    np.testing.assert_array_equal(envs.unwrapped.task_ids, np.arange(3 * len(names)) % len(names))
    assert envs.unwrapped.task_ids.dtype == np.int64 and envs.unwrapped.task_names == names
    one_task = gym.make_vec(id, num_envs=4, task=names[-1])
    np.testing.assert_array_equal(one_task.unwrapped.task_ids, [len(names) - 1] * 4)
    _, infos = one_task.reset(seed=0)
    assert infos["task_name"].tolist() == [names[-1]] * 4


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasiums_own_vector_forms_work_too(mode):
    envs = gym.make_vec("QMP/MultistageReacher-v0", num_envs=2, vectorization_mode=mode)
    observations, infos = envs.reset(seed=0)
    assert observations.shape == (2, 15) and infos["task_id"].shape == (2,)
    envs.step(envs.action_space.sample())
    envs.close()


@each_batch_id
def test_last_outcome_is_what_the_infos_say(id):
    envs = gym.make_vec(id, max_episode_steps=9)
    envs.reset(seed=0)
    for _ in range(30):
        *_, infos = envs.step(envs.action_space.sample())
        said = infos.get("final_info", infos)
        outcome = envs.unwrapped.last_outcome
        for name, values in outcome.terms.items():
            np.testing.assert_array_equal(values, said[f"reward_{name}"])
        for name in ("success", "is_success", "stages_completed"):
            if getattr(outcome, name) is not None:
                np.testing.assert_array_equal(getattr(outcome, name), said[name])


@each_batch_id
def test_reset_options(id):
    envs = gym.make_vec(id)
    first, _ = envs.reset(seed=0)
    again, _ = envs.reset(seed=list(range(envs.num_envs)))
    np.testing.assert_array_equal(first, again)
    options, expected = start_and_state(envs.unwrapped.task_set, envs.unwrapped.task_ids)
    envs.reset(seed=99, options=options)
    assert_same_state(envs.unwrapped._episodes.physics.state, expected)
    with pytest.raises(ValueError, match="Unknown reset option 'task'"):
        envs.reset(options={"task": 0})
    with pytest.raises(ValueError, match="reset_mask must be bool"):
        envs.reset(options={"reset_mask": np.zeros(envs.num_envs, bool)})
    with pytest.raises(ValueError, match=f"Expected {envs.num_envs} seeds"):
        envs.reset(seed=[0] * (envs.num_envs + 1))
    with pytest.raises(ValueError, match="no window"):
        gym.make_vec(id, render_mode="human")


@pytest.mark.parametrize("limit", [None, -1])
def test_no_time_limit(limit):
    envs = gym.make_vec("QMP/Point2D-v0", max_episode_steps=limit)
    envs.reset(seed=0)
    expected = None if limit is None else limit
    assert envs.spec.kwargs["max_episode_steps"] == expected
    assert not any(envs.step(np.zeros((1, 2), np.float32))[3][0] for _ in range(50))
