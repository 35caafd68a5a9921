"""Every task's own ring buffer in one table."""

import errno
import os
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.replay import MultiTaskReplayBuffer
from qmp_sb3.replay.tables import DeviceTable, refuse_too_large
from tests.qmp_sb3.small_models import drifts, equal, make, weights

OBS, ACT = 3, 2
SPACES = spaces.Box(-np.inf, np.inf, (OBS,)), spaces.Box(-1, 1, (ACT,))


def make_buffer(size=8, n_tasks=2, n_envs=2, **kwargs) -> MultiTaskReplayBuffer:
    return MultiTaskReplayBuffer(
        size, *SPACES, device="cpu", n_envs=n_envs, n_tasks=n_tasks, rng=np.random.default_rng(0), **kwargs
    )


def transition(rng, n_envs, done=False, truncated=False):
    obs, next_obs = rng.normal(size=(2, n_envs, OBS)).astype(np.float32)
    done = np.broadcast_to(done, n_envs)
    infos = [{"TimeLimit.truncated": bool(flag)} for flag in np.broadcast_to(truncated, n_envs)]
    return obs, next_obs, rng.uniform(-1, 1, (n_envs, ACT)), rng.normal(size=n_envs), done, infos


@pytest.mark.parametrize("n_tasks", [3, 20])
@pytest.mark.parametrize("tasks", [[0, 1, 2], [0, 1, 2, 0, 1, 2], [2, 2, 0], [1, 1, 1, 1], [1] * 50])
def test_layout_there_and_back(tasks, n_tasks):
    layout = TaskLayout(np.array(tasks), n_tasks)
    rows = th.arange(len(tasks) * 2.0).view(-1, 2)
    blocks = layout.to_tasks(rows)
    th.testing.assert_close(layout.to_rows(blocks), rows)
    present = range(n_tasks) if layout.present is None else layout.present.tolist()
    for block, task in zip(blocks, present, strict=True):
        mine = rows[np.array(tasks) == task]
        th.testing.assert_close(block[: len(mine)], mine)


def test_layout_leaves_tasks_out_where_that_is_cheaper():
    """A copy of some tasks' weights costs as much as a few rows."""
    for tasks, n_tasks, present in (
        ([0, 2, 2, 4, 0], 5, None),
        ([1] * 50, 5, [1]),
        ([3], 50, [3]),
        ([0, 3] * 9, 9, [0, 3]),
    ):
        layout = TaskLayout(np.array(tasks), n_tasks)
        assert (layout.present is None) if present is None else (layout.present.tolist() == present), tasks


def test_rows_are_stored_as_given_and_sb3s_arrays_are_views_of_the_table():
    buffer, rng = make_buffer(), np.random.default_rng(1)
    obs, next_obs, action, reward, done, infos = transition(rng, 2, done=[True, False])
    buffer.add(obs, next_obs, action, reward, done, infos)
    np.testing.assert_array_equal(buffer.observations[0], obs)
    np.testing.assert_array_equal(buffer.next_observations[0], next_obs)
    np.testing.assert_allclose(buffer.actions[0], action, rtol=1e-6)
    np.testing.assert_allclose(buffer.rewards[0], reward, rtol=1e-6)
    np.testing.assert_array_equal(buffer.dones[0], [1, 0])
    for name in ("observations", "actions", "next_observations", "rewards", "dones", "timeouts"):
        assert np.shares_memory(getattr(buffer, name), buffer.table), name


def test_a_task_samples_its_own_transitions_uniformly():
    buffer, rng = make_buffer(size=50, n_tasks=3, n_envs=6), np.random.default_rng(1)
    for step in range(10):
        obs, next_obs, action, _, done, infos = transition(rng, 6)
        reward = np.arange(6) % 3 * 100 + step * 2 + np.arange(6) // 3  # 100 * task + number of the transition
        buffer.add(obs, next_obs, action, reward, done, infos)
    rewards = buffer.sample(20_000).rewards.numpy()
    assert rewards.shape == (3, 20_000)
    for task in range(3):
        values, counts = np.unique(rewards[task], return_counts=True)
        np.testing.assert_array_equal(values, 100 * task + np.arange(20))
        assert counts.min() > 850 and counts.max() < 1150


def test_rings_wrap_and_tasks_may_fill_at_different_speeds():
    buffer, rng = make_buffer(size=4, n_tasks=2, n_envs=2), np.random.default_rng(1)
    buffer.set_slot_tasks(np.array([1, 1]))
    for step in range(5):
        obs, next_obs, action, _, done, infos = transition(rng, 2)
        buffer.add(obs, next_obs, action, np.array([2 * step, 2 * step + 1]), done, infos)
    np.testing.assert_array_equal(buffer.sizes, [0, 4])
    np.testing.assert_array_equal(np.sort(buffer.rewards[:, 1]), [6, 7, 8, 9])
    batch = buffer.sample(100)
    assert batch.counts.tolist() == [0, 100] and batch.weights.sum(dim=1).tolist() == pytest.approx([0.0, 1.0])
    assert set(batch.rewards[1].tolist()) <= {6.0, 7.0, 8.0, 9.0}
    assert not buffer.full and buffer.size() == 4


def test_time_limits_bootstrap_and_terminations_do_not():
    buffer, rng = make_buffer(n_envs=3, n_tasks=3), np.random.default_rng(0)
    buffer.add(*transition(rng, 3, done=[False, True, True], truncated=[False, False, True]))
    assert buffer.sample(1).continuations[:, 0].tolist() == [1.0, 0.0, 1.0]
    strict = make_buffer(n_envs=3, n_tasks=3, handle_timeout_termination=False)
    strict.add(*transition(rng, 3, done=[False, True, True], truncated=[False, False, True]))
    assert strict.sample(1).continuations[:, 0].tolist() == [1.0, 0.0, 0.0]


def test_one_task_is_sb3s_replay_buffer():
    ours, theirs = make_buffer(size=20, n_tasks=1, n_envs=1), ReplayBuffer(20, *SPACES, device="cpu")
    rng = np.random.default_rng(3)
    for step in range(30):
        one = transition(rng, 1, done=step % 7 == 6, truncated=step % 14 == 13)
        ours.add(*one)
        theirs.add(*one)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.pos, ours.full, ours.size()) == (theirs.pos, theirs.full, theirs.size())


def test_n_step_returns_equal_sb3s():
    ours = make_buffer(size=100, n_tasks=1, n_envs=1, n_steps=3, gamma=0.9)
    theirs = NStepReplayBuffer(100, *SPACES, device="cpu", n_steps=3, gamma=0.9)
    rng = np.random.default_rng(3)
    for step in range(60):
        one = transition(rng, 1, done=step % 11 == 10, truncated=step % 22 == 21)
        ours.add(*one)
        theirs.add(*one)
    stored = ours.size()
    assert stored >= 58  # at most two sums wait for their last rewards
    reference = theirs._get_samples(np.arange(stored))
    np.testing.assert_allclose(ours.rewards[:stored], reference.rewards.numpy(), rtol=1e-5)
    np.testing.assert_array_equal(ours.observations[:stored, 0], reference.observations.numpy())
    np.testing.assert_array_equal(ours.next_observations[:stored, 0], reference.next_observations.numpy())
    discount = 0.9 * ours.table[:stored, 0, -3]  # gamma times the stored continuation
    np.testing.assert_allclose(discount, ((1 - reference.dones) * reference.discounts).numpy()[:, 0], rtol=1e-5)


def test_a_pickle_holds_the_rows_in_use_only():
    buffer, rng = make_buffer(size=100_000), np.random.default_rng(1)
    for _ in range(3):
        buffer.add(*transition(rng, 2))
    data = pickle.dumps(buffer)
    assert len(data) < 20_000
    loaded = pickle.loads(data)
    np.testing.assert_array_equal(loaded.table[:3], buffer.table[:3])
    assert loaded.table.shape == buffer.table.shape
    np.testing.assert_array_equal(loaded.sample(8).rows, buffer.sample(8).rows)
    loaded.add(*transition(rng, 2))
    assert loaded.size() == 4 and np.shares_memory(loaded.observations, loaded.table)


class CountingEnv(gym.Env):
    """The observation is (episode, step); episodes end by termination or by truncation, in turn."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length):
        self.length, self.episode, self.steps = length, -1, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == self.length
        return self._observe(), 1.0, over and self.episode % 2 == 0, over and self.episode % 2 == 1, {}

    def _observe(self):
        return np.array([self.episode, self.steps], np.float32)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_no_transition_crosses_an_episode(n_steps):
    env = make_multitask_vec_env([CountingEnv(5), CountingEnv(7)])
    model = MultiTaskSAC("MlpPolicy", env, learning_starts=1000, n_steps=n_steps, policy_kwargs=dict(net_arch=[8]))
    model.learn(60)
    model.learn(60)  # resets the environment in the middle of its episodes
    model.replay_buffer.flush()
    for task, length in enumerate((5, 7)):
        size = model.replay_buffer.sizes[task]
        before = model.replay_buffer.observations[:size, task]
        after = model.replay_buffer.next_observations[:size, task]
        np.testing.assert_array_equal(before[:, 0], after[:, 0], "a transition joins two episodes")
        steps = after[:, 1] - before[:, 1]
        assert steps.min() >= 1 and steps.max() == n_steps
        ended_by_termination = (after[:, 1] == length) & (after[:, 0] % 2 == 0)
        stopped = model.replay_buffer.table[:size, task, -3] == 0.0
        np.testing.assert_array_equal(stopped, ended_by_termination)
        np.testing.assert_allclose(model.replay_buffer.rewards[:size, task], (1 - 0.99**steps) / (1 - 0.99), rtol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="optimize_memory_usage"):
        make_buffer(optimize_memory_usage=True)
    with pytest.raises(ValueError, match="buffer_size is 0"):
        make_buffer(size=0)
    with pytest.raises(ValueError, match="n_steps is 0"):
        make_buffer(n_steps=0)
    with pytest.raises(ValueError, match="empty"):
        make_buffer().sample(4)


# ---- where the rows are kept ----


@pytest.mark.parametrize("where", ["memory", "device", "file"])
@pytest.mark.parametrize("n_steps", [1, 3])
def test_numbers_do_not_depend_on_where_they_are(where, n_steps, tmp_path, monkeypatch):
    """On the CPU, ``DeviceTable`` runs what a GPU would run, but for the copies."""
    settings = dict(size=7, n_tasks=3, n_envs=6, n_steps=n_steps)
    plain = make_buffer(**settings)
    if where == "device":
        made = "qmp_sb3.replay.multitask_replay_buffer.make_table"
        monkeypatch.setattr(made, lambda shape, device, storage: DeviceTable(shape, device))
    other = make_buffer(**settings, storage=tmp_path if where == "file" else where)
    buffers = plain, other
    rng = np.random.default_rng(2)
    for step in range(12):
        if step == 6:
            for buffer in buffers:
                buffer.set_slot_tasks(np.array([2, 2, 0, 2, 1, 0]))
        one = transition(rng, 6, done=rng.random(6) < 0.2, truncated=rng.random(6) < 0.5)
        for buffer in buffers:
            buffer.add(*one)
    np.testing.assert_array_equal(plain.table, np.asarray(other.table))
    batches = [buffer.sample(16) for buffer in buffers]
    assert th.equal(batches[0].rows, batches[1].rows) and batches[1].rewards.any()
    for name in ("observations", "actions", "next_observations", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(plain, name), np.asarray(getattr(other, name)), name)
    loaded = pickle.loads(pickle.dumps(other))
    assert type(loaded.rows) is type(other.rows)
    np.testing.assert_array_equal(np.asarray(loaded.table), plain.table)
    assert th.equal(loaded.sample(16).rows, plain.sample(16).rows)


def test_a_model_learns_the_same_from_a_file(tmp_path):
    plain, other = (make(replay_buffer_kwargs={"storage": one}) for one in ("memory", tmp_path))
    for model in (plain, other):
        model.learn(150)
    assert equal(weights(plain), weights(other))
    other.save(tmp_path / "model")
    other.save_replay_buffer(tmp_path / "replay")
    loaded = type(other).load(tmp_path / "model", env=drifts(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "replay")
    for model in (plain, loaded):
        model.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == plain.num_timesteps and not equal(weights(loaded), weights(other))


def test_a_file_has_no_name(tmp_path):
    """So that nothing is left behind, even by a process that is killed."""
    buffer, rng = make_buffer(size=1_000_000, storage=tmp_path), np.random.default_rng(0)
    buffer.add(*transition(rng, 2))
    assert list(tmp_path.iterdir()) == [] and f"in a file in {tmp_path}" in str(buffer)


def test_what_the_buffers_take_is_said(capsys):
    model = make(verbose=1, buffer_size=1000)
    expected = "Using replay buffers of 3 task(s): 1,000 transitions each, 0.00 GB when full, in memory"
    assert expected in capsys.readouterr().out and f"Using {model.replay_buffer}" == expected


def test_a_table_larger_than_the_machine_is_refused_before_anything_is_allocated():
    """And the size that the error names is accepted."""
    with pytest.raises(
        ValueError, match=r"2 task\(s\), 1,000,000,000,000 transitions each, take 112000.00 GB"
    ) as error:
        make_buffer(size=10**12)
    assert "GB of memory" in str(error.value) and "replay_buffer_kwargs={'storage': directory}" in str(error.value)
    fits = int(re.search(r"buffer_size=([\d,]+) fits", str(error.value))[1].replace(",", ""))
    refuse_too_large((fits, 2, 14), available=4 * 14 * 2 * fits, total=4 * 14 * 2 * fits, kind="memory")


def test_a_disk_that_is_too_small_is_refused(tmp_path):
    with pytest.raises(ValueError, match=rf"GB of disk in {tmp_path}; buffer_size="):
        make_buffer(size=10**12, storage=tmp_path)
    with pytest.raises(ValueError, match="storage='devise': give 'memory', 'device' or a directory that exists"):
        make_buffer(storage="devise")


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot claim a file's room")
def test_the_room_of_a_file_is_claimed_at_once(tmp_path, monkeypatch):
    """A disk that others fill later must not end the process at a write."""

    def full(descriptor, start, size):
        assert size == 4 * 2 * 10 * 14
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=rf"GB in a file in {tmp_path}: No space left on device"):
        make_buffer(size=10, storage=tmp_path)


def test_a_table_larger_than_what_is_free_is_announced():
    with pytest.warns(
        UserWarning, match=r"take 0.03 GB when full, but only 0.01 GB of memory .* buffer_size=50,000 fi"
    ):
        refuse_too_large((100_000, 5, 14), available=4 * 5 * 14 * 50_000, total=10**9, kind="memory")
