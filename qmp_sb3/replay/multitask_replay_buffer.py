"""The replay part: a ring buffer per task in one table with one row per transition."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3.common.devices import to_device
from qmp_sb3.common.encoding import encode_observations
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.replay.allocations import Allocation, Own
from qmp_sb3.replay.batch import Batch
from qmp_sb3.replay.draws import Draw, Uniform
from qmp_sb3.replay.n_step import Finished, NStepSums
from qmp_sb3.replay.priorities import PRIORITY_WIDTH, Priorities
from qmp_sb3.replay.row_format import CONTINUATION, DONE, REWARD, TIMEOUT, RowFormat
from qmp_sb3.replay.saved_state import checked
from qmp_sb3.replay.segments import SEGMENT_COLUMNS, SegmentIndex, Segments, follow
from qmp_sb3.replay.tables import HostTable, Table, host_memory, make_table, refuse_too_large, size_of
from qmp_sb3.serialization.tags import tagged

_VIEWS = ("table", "observations", "actions", "next_observations", "rewards", "_continuations", "dones", "timeouts")
_FOLLOWING = ("rows", "segment_index", "_added", "_staged", "form", "features", "action_dim", "obs_shape")


@tagged("replay_buffer")
class MultiTaskReplayBuffer(ReplayBuffer):
    """``buffer_size`` transitions for each task; ``replay`` says how many of each a batch holds, ``draw`` which.

    The rows are one float32 ``table`` ``(rows, tasks, width)``, see
    :class:`~qmp_sb3.replay.row_format.RowFormat`; SB3's arrays (``observations``, ``actions``, ...) are views of it. On
    a GPU all of these are tensors. Several environments of one task write to the same ring, one row each.

    :param buffer_size: transitions kept per task
    :param observation_space: observation space of one environment
    :param action_space: action space of one environment
    :param device: where batches are moved to
    :param n_envs: slots of the vector environment
    :param optimize_memory_usage: refused, see docs/compatibility.md
    :param handle_timeout_termination: time limits are not terminal states
    :param n_tasks: number of tasks
    :param n_steps: rewards summed per transition (n-step returns), never beyond an episode's end
    :param gamma: discount inside that sum
    :param rng: source of the sampled indices
    :param replay: how many transitions of each task a batch holds
    :param draw: which transitions of a task these are
    :param columns: what else to keep of each transition, name -> shape: what a task set needs to reward it again
    :param storage: where the rows are: ``"memory"``, ``"device"``, or a directory, for a file in it that is gone when
        the process ends; None for the device if that is a GPU where they take at most half of the free memory, else
        memory
    :raises ValueError: if the rows do not fit there, with the largest size that does
    """

    #: whether a task counts by its rows in a batch, so that importance weights can correct the choice of tasks too
    rows_count_alike: bool = True

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_tasks: int = 1,
        n_steps: int = 1,
        gamma: float = 0.99,
        rng: np.random.Generator | None = None,
        replay: Allocation | None = None,
        draw: Draw | None = None,
        columns: Mapping[str, tuple[int, ...]] | None = None,
        storage: str | os.PathLike[str] | None = None,
    ) -> None:
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage=True is not supported: next observations are part of each row; "
                "lower buffer_size (transitions per task) instead"
            )
        if buffer_size < 1:
            raise ValueError(f"buffer_size is {buffer_size}; at least 1 transition per task is needed")
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}; it must be at least 1")
        self.buffer_size, self.n_tasks, self.n_envs = int(buffer_size), n_tasks, n_envs
        self.observation_space, self.action_space = observation_space, action_space
        self.optimize_memory_usage, self.handle_timeout_termination = False, handle_timeout_termination
        self.device = get_device(device)
        self.n_steps, self.gamma = n_steps, gamma
        self.rng = np.random.default_rng() if rng is None else rng
        self.replay = Own() if replay is None else replay
        self.columns = dict(columns or {})
        self.features, self.action_dim = get_flattened_obs_dim(observation_space), get_action_dim(action_space)
        self.form = RowFormat(self.features, self.action_dim, self.columns)
        self.obs_shape = observation_space.shape or ()
        self.storage = storage
        self.set_slot_tasks(np.arange(n_envs) % n_tasks)
        self._keep_in(self._make_table())
        self.draw: Draw = Uniform() if draw is None else draw
        self.reset()

    def _make_table(self) -> Table:
        return make_table((self.buffer_size, self.n_tasks, self.form.width), self.device, self.storage)

    def _keep_in(self, table: Table) -> None:
        self.rows, self.table = table, table.values
        one_by_one = int(np.prod(self.obs_shape)) == self.features
        shape = (self.buffer_size, self.n_tasks, *(self.obs_shape if one_by_one else (self.features,)))
        self.observations = self.table[..., self.form.observation].reshape(shape)
        self.actions = self.table[..., self.form.action]
        self.next_observations = self.table[..., self.form.next_observation].reshape(shape)
        self.rewards, self._continuations, self.dones, self.timeouts = (
            self.table[..., column] for column in (REWARD, CONTINUATION, DONE, TIMEOUT)
        )

    def to(self, device: th.device) -> None:
        """Go to another device, with all transitions."""
        there = get_device(device)  # the CPU where there is no GPU
        if there != self.rows.device:
            self.device, used = there, self.rows.first(self.size())
            self._keep_in(self._make_table())
            self.rows.fill(used)
        self.device = device

    def __str__(self) -> str:
        """How large the buffers are and where."""
        gigabytes = size_of(self.rows.shape) / 1e9
        priorities = size_of((self.buffer_size, self.n_tasks, PRIORITY_WIDTH)) / 1e9
        return (
            f"replay buffers of {self.n_tasks} task(s): {self.buffer_size:,} transitions each, {gigabytes:.2f} GB when "
            f"full, {self.rows.where}"
        ) + ("" if self.priorities is None else f", and priorities, {priorities:.2f} GB in memory")

    def reset(self) -> None:
        """Forget all transitions."""
        self.positions = np.zeros(self.n_tasks, dtype=np.int64)  # next row to write, per task
        self.sizes = np.zeros(self.n_tasks, dtype=np.int64)  # rows filled, per task
        self.written = np.zeros(self.n_tasks, dtype=np.int64)  # rows ever written, per task
        self.n_step_sums = self._new_sums()
        self._staged: Mapping[str, np.ndarray] = {}
        self.priorities: Priorities | None = None
        self.draw_by(self.draw)
        self.segment_index = self._new_index()

    def draw_by(self, draw: Draw) -> None:
        """Draw like this from now on; transitions keep the priorities that they have.

        :raises ValueError: if priorities do not fit into the memory, with the largest size that does
        """
        self.draw = draw
        if draw.prioritized and self.priorities is None:
            in_memory = self.form.width if type(self.rows) is HostTable else 0
            refuse_too_large((self.buffer_size, self.n_tasks, in_memory + PRIORITY_WIDTH), *host_memory(), "memory")
        written = self.positions + (self.sizes == self.buffer_size) * self.buffer_size
        self.priorities = draw.make_priorities(self.priorities, written, self.buffer_size)

    def _new_index(self) -> SegmentIndex | None:
        """Of the segments, where rows tell them."""
        told = SEGMENT_COLUMNS.keys() <= self.columns.keys()
        return SegmentIndex(self.buffer_size, self.n_tasks) if told else None

    def _new_sums(self) -> NStepSums:
        return NStepSums(self.n_steps, self.gamma, self.n_envs, self.form)

    @property
    def pos(self) -> int:  # type: ignore[override]
        """The largest of the tasks' next rows; with one task, SB3's ``pos``."""
        return int(self.positions.max())

    @property
    def full(self) -> bool:  # type: ignore[override]
        """Whether every task's ring is full."""
        return bool((self.sizes == self.buffer_size).all())

    def size(self) -> int:
        """Transitions of the task that has most."""
        return int(self.sizes.max())

    def set_slot_tasks(self, tasks: np.ndarray) -> None:
        """Declare the task of each slot for the transitions to come, shape ``(slots,)``."""
        if len(tasks) != self.n_envs:
            self.flush()
            self.n_envs = len(tasks)
            self.n_step_sums = self._new_sums()
        self.layout = TaskLayout(tasks, self.n_tasks)
        self._added = np.bincount(self.layout.tasks, minlength=self.n_tasks)  # rows of each task in a vector step

    def stage(self, columns: Mapping[str, np.ndarray]) -> None:
        """The extra columns ``(slots, ...)`` of the transitions that are added next."""
        self._staged = columns

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """Store one transition of every slot; arguments as SB3's, with a leading slot axis."""
        form = self.form
        rows = np.zeros((self.n_envs, form.width), dtype=np.float32)
        rows[:, form.observation] = self._encode(obs)
        rows[:, form.action] = np.reshape(action, (self.n_envs, self.action_dim))
        rows[:, form.next_observation] = self._encode(next_obs)
        for name, place in form.places.items():
            if name in self._staged or name not in SEGMENT_COLUMNS:
                rows[:, place] = np.reshape(self._staged[name], (self.n_envs, -1))
        rows[:, REWARD] = reward
        rows[:, CONTINUATION] = 1.0
        if np.any(done):
            self._note_ends(rows, done, infos)
        if self.n_steps == 1:
            self._write(rows, self.layout, self._added)
            if self.segment_index is not None:
                self._note_segments(self.segment_index, rows)
        else:
            self._write_finished(self.n_step_sums.add(rows, self.layout.tasks))

    def _note_segments(self, index: SegmentIndex, rows: np.ndarray) -> None:
        starts = rows[:, self.form.places["segment_start"].start] != 0.0
        places, tasks, distances = index.add(self.layout, starts, rows[:, DONE] != 0.0)
        if len(places):
            self.rows.put(places * self.n_tasks + tasks, self.form.places["next_row"].start, distances)

    def _note_ends(self, rows: np.ndarray, done: np.ndarray, infos: list[dict[str, Any]]) -> None:
        rows[:, DONE] = done
        if self.handle_timeout_termination:
            truncated = [info.get("TimeLimit.truncated", False) for info in infos]
            rows[:, TIMEOUT] = np.reshape(truncated, self.n_envs)
        rows[:, CONTINUATION] -= rows[:, DONE] * (1.0 - rows[:, TIMEOUT])

    def _encode(self, observations: np.ndarray) -> np.ndarray:
        if isinstance(self.observation_space, spaces.Box) and self.observation_space.dtype != np.uint8:
            return np.reshape(observations, (self.n_envs, self.features))
        observations = np.reshape(observations, (self.n_envs, *self.obs_shape))
        return encode_observations(observations, self.observation_space).numpy()

    def _write(self, rows: np.ndarray, layout: TaskLayout, added: np.ndarray) -> None:
        places = (self.positions[layout.tasks] + layout.rank) % self.buffer_size
        self.rows.write(places * self.n_tasks + layout.tasks, rows)
        if self.priorities is not None:
            self.priorities.add(added)
        self.positions = (self.positions + added) % self.buffer_size
        self.sizes = np.minimum(self.sizes + added, self.buffer_size)
        self.written = self.written + added

    def _write_finished(self, sums: Iterable[Finished]) -> None:
        for rows, tasks in sums:
            if np.array_equal(tasks, self.layout.tasks):
                self._write(rows, self.layout, self._added)
            else:
                self._write(rows, TaskLayout(tasks, self.n_tasks), np.bincount(tasks, minlength=self.n_tasks))

    def flush(self) -> None:
        """End all n-step sums and segments here: the environments are about to be reset or replaced."""
        self._write_finished(self.n_step_sums.flush())
        if self.segment_index is not None:
            self.segment_index.cut(self.n_envs)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Batch:  # type: ignore[override]
        """A batch with as many transitions of every task as ``replay`` says, drawn with replacement.

        :param batch_size: per task
        :param env: normalizes observations (and, for one task, rewards) if given
        :return: a :class:`~qmp_sb3.replay.batch.Batch` of shape ``(tasks, rows of the task that has most)``
        """
        if not self.sizes.any():
            raise ValueError("the replay buffer is empty: collect transitions before sampling")
        if self.priorities is not None:
            return self._sample_by(self.priorities, batch_size, env)
        counts = self.replay.counts(batch_size, self.sizes, self.rng)
        batch = self.gather(self.draw_places(np.arange(self.n_tasks), int(counts.max())), env)
        return self._weigh(batch, counts)

    def _sample_by(self, priorities: Priorities, batch_size: int, env: VecNormalize | None) -> Batch:
        masses = priorities.masses(self.replay.together)
        counts = self.replay.counts(batch_size, masses, self.rng)
        rows = priorities.draw(counts, self.rng)
        index = rows * self.n_tasks + np.arange(self.n_tasks)[:, None]
        batch = self._weigh(self.gather(index, env), counts)
        shares = self.replay.shares(counts, masses) if self.rows_count_alike else None
        importance = priorities.importance(rows, counts, shares, self.draw.beta)
        batch.index = np.where(np.arange(rows.shape[1]) < counts[:, None], index, -1)
        batch.importance = to_device(importance.astype(np.float32), self.device)
        return batch

    def _weigh(self, batch: Batch, counts: np.ndarray) -> Batch:
        if counts.min() < counts.max():
            filled = np.arange(counts.max()) < counts[:, None]
            weights = (filled / np.maximum(counts, 1)[:, None]).astype(np.float32)
            batch.weights, batch.counts = (to_device(array, self.device) for array in (weights, counts))
        return batch

    def mean_priorities(self) -> np.ndarray | None:
        """The mean p^alpha of each task's transitions, ``(tasks,)``; None where they have no priorities."""
        if self.priorities is None:
            return None
        return self.priorities.masses(self.replay.together) / np.maximum(self.sizes, 1)

    def feedback(self, batch: Batch) -> None:
        """Make priorities of the errors that an update has written to a batch, which was sampled last.

        The host waits for the errors where these are on a GPU.
        """
        if self.priorities is None or batch.index is None or batch.errors is None:
            return
        used = batch.index >= 0
        rows, tasks = np.divmod(batch.index[used], self.n_tasks)
        self.priorities.learn(tasks, rows, batch.errors.cpu().numpy()[used])

    def draw_places(self, tasks: np.ndarray, rows: int) -> np.ndarray:
        """Uniformly random places, ``(len(tasks), rows)``: each row of ``tasks`` names the task to draw from.

        Tasks without data give places that hold zeros.
        """
        sizes = np.maximum(self.sizes[tasks], 1)
        # One bound draws the same numbers as many equal ones, in a third of the time.
        bound = sizes[0] if (sizes == sizes[0]).all() else sizes[:, None]
        return self.rng.integers(0, bound, size=(len(tasks), rows)) * self.n_tasks + tasks[:, None]

    def gather(self, index: np.ndarray, env: VecNormalize | None = None) -> Batch:
        """The transitions at some places, ``(blocks, rows)``, as :meth:`draw_places` gives them."""
        rows = self.rows.read(index.reshape(-1))
        if env is not None:
            self._normalize(rows, env)
        return Batch(
            rows.view(*index.shape, self.form.width),
            self.form,
            rewards=rows[:, REWARD].view(index.shape),
            continuations=rows[:, CONTINUATION].view(index.shape),
        )

    def whole_segments(self) -> np.ndarray:
        """Segments of each task that :meth:`segments` draws from, ``(tasks,)``; none without their columns."""
        return np.zeros(self.n_tasks, dtype=np.int64) if self.segment_index is None else self.segment_index.counts()

    def segments(self, tasks: np.ndarray, segments: int, steps: int, env: VecNormalize | None = None) -> Segments:
        """Random segments of some tasks, drawn with replacement: ``steps`` consecutive transitions of one episode from
        where the behavior decided, fewer where the episode ended. The newest of each environment is left out.

        :param tasks: tasks that have whole segments, ``(blocks,)``
        :param segments: of each task
        :param steps: K, transitions of a segment
        :param env: normalizes observations (and, for one task, rewards) if given
        """
        if self.segment_index is None or not self.segment_index.counts()[tasks].all():
            raise ValueError(f"the replay buffer has no whole segments of some of the tasks {tasks.tolist()}")
        starts = self.segment_index.draw(tasks, segments, self.rng)
        places, present = follow(self.rows, starts, tasks, steps, self.form.places["next_row"].start)
        rows = self.rows.take(places.flatten())
        if env is not None:
            self._normalize(rows, env)
        rows = rows.view(*places.shape, self.form.width)
        return Segments(
            tasks, Batch(rows, self.form, rows[..., REWARD], rows[..., CONTINUATION]), present.to(self.device)
        )

    def _normalize(self, rows: th.Tensor, env: VecNormalize) -> None:
        """On the host, where VecNormalize computes: a GPU waits for it."""
        if env.norm_obs:
            for place in (self.form.observation, self.form.next_observation):
                observations = rows[:, place].cpu().numpy().reshape(-1, *self.obs_shape)
                normalized = np.asarray(env.normalize_obs(observations), dtype=np.float32)
                rows[:, place] = th.from_numpy(normalized).flatten(1).to(self.device)
        if env.norm_reward:
            rewards = env.normalize_reward(rows[:, REWARD].cpu().numpy())
            rows[:, REWARD] = th.from_numpy(np.asarray(rewards, dtype=np.float32)).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Only the rows in use, and nothing that follows from the rest."""
        state = {key: value for key, value in self.__dict__.items() if key not in (*_VIEWS, *_FOLLOWING)}
        return state | {"_used": self.rows.first(self.size()).astype(np.float32, copy=False)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = checked(state)
        used = state.pop("_used")
        self.__dict__.update(state)
        self.device = get_device(self.device)  # the CPU where there is no GPU
        self._keep_in(self._make_table())
        self.rows.fill(used)
        self.segment_index = self._new_index()
        if self.segment_index is not None:
            starts = used[..., self.form.places["segment_start"].start] != 0.0
            self.segment_index.restore(starts, self.positions, self.sizes)
