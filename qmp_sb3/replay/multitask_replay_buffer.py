"""The replay part: a ring buffer per task, uniformly sampled, in one table with one row per transition."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.utils import get_device
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3.layout import TaskLayout
from qmp_sb3.policies import encode_observations
from qmp_sb3.replay.allocations import Allocation, Own
from qmp_sb3.replay.batch import Batch

_REWARD, _CONTINUATION, _DONE, _TIMEOUT = range(-4, 0)  # the last columns, after [s | a | s' | a']
_VIEWS = ("observations", "actions", "next_observations", "rewards", "_continuations", "dones", "timeouts")


class MultiTaskReplayBuffer(ReplayBuffer):
    """``buffer_size`` transitions for each task; the allocation says how many of each a batch holds, drawn uniformly.

    The storage is one float32 table ``(rows, tasks, [s | a | s' | a' | columns | r | continuation | done | timeout])``;
    SB3's arrays (``observations``, ``actions``, ...) are views of it. The place of a' is free for the update to fill.
    Several environments of one task write to the same ring, one row each.

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
    :param allocation: how many transitions of each task a batch holds
    :param columns: what else to keep of each transition, name -> shape: what a task set needs to reward it again
    """

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
        allocation: Allocation | None = None,
        columns: Mapping[str, tuple[int, ...]] | None = None,
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
        self.allocation = Own() if allocation is None else allocation
        self.columns = dict(columns or {})
        self.features, self.action_dim = (
            get_flattened_obs_dim(observation_space),
            get_action_dim(action_space),
        )
        self.obs_shape = observation_space.shape or ()
        self.layout = TaskLayout(np.arange(n_envs) % n_tasks, n_tasks)
        self._warn_if_too_large()
        self._allocate()
        self.reset()

    @property
    def width(self) -> int:
        """Numbers per row."""
        return 2 * (self.features + self.action_dim) + sum(map(math.prod, self.columns.values())) + 4

    def _warn_if_too_large(self) -> None:
        needed = 4 * self.width * self.buffer_size * self.n_tasks  # bytes of float32
        available = psutil.virtual_memory().available
        if needed > available:
            warnings.warn(
                f"The replay buffers of {self.n_tasks} tasks, {self.buffer_size} transitions each, take "
                f"{needed / 1e9:.2f}GB when full, but only {available / 1e9:.2f}GB of memory are available",
                stacklevel=3,
            )

    def _allocate(self) -> None:
        # np.zeros maps memory only when it is written to, so an unfilled buffer costs nothing.
        self.table = np.zeros((self.buffer_size, self.n_tasks, self.width), dtype=np.float32)
        self._rows = th.from_numpy(self.table).view(-1, self.width)
        joined = self.features + self.action_dim
        shape = self.obs_shape if int(np.prod(self.obs_shape)) == self.features else (self.features,)
        self.observations = self.table[..., : self.features].reshape(*self.table.shape[:2], *shape)
        self.actions = self.table[..., self.features : joined]
        self.next_observations = self.table[..., joined : joined + self.features].reshape(*self.table.shape[:2], *shape)
        self.rewards, self._continuations, self.dones, self.timeouts = (
            self.table[..., column] for column in (_REWARD, _CONTINUATION, _DONE, _TIMEOUT)
        )

    def reset(self) -> None:
        """Forget all transitions."""
        self.positions = np.zeros(self.n_tasks, dtype=np.int64)  # next row to write, per task
        self.sizes = np.zeros(self.n_tasks, dtype=np.int64)  # rows filled, per task
        self._pending: list[deque] = [deque() for _ in range(self.n_envs)]
        self._staged: Mapping[str, np.ndarray] = {}

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
            self._pending = [deque() for _ in range(self.n_envs)]
        self.layout = TaskLayout(tasks, self.n_tasks)

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
        joined = self.features + self.action_dim
        rows = np.zeros((self.n_envs, self.width), dtype=np.float32)
        rows[:, : self.features] = self._encode(obs)
        rows[:, self.features : joined] = np.reshape(action, (self.n_envs, self.action_dim))
        rows[:, joined : joined + self.features] = self._encode(next_obs)
        for name, place in self._column_places().items():
            rows[:, place] = np.reshape(self._staged[name], (self.n_envs, -1))
        rows[:, _REWARD] = reward
        rows[:, _DONE] = done
        if self.handle_timeout_termination:
            truncated = [info.get("TimeLimit.truncated", False) for info in infos]
            rows[:, _TIMEOUT] = np.reshape(truncated, self.n_envs)
        terminal = rows[:, _DONE] * (1.0 - rows[:, _TIMEOUT])
        rows[:, _CONTINUATION] = 1.0 - terminal
        if self.n_steps == 1:
            self._write(rows, self.layout.tasks, self.layout.rank)
        else:
            self._extend_returns(rows)

    def _column_places(self) -> dict[str, slice]:
        """Where each extra column stands in a row."""
        ends = np.cumsum([2 * (self.features + self.action_dim), *map(math.prod, self.columns.values())]).tolist()
        return {name: slice(*place) for name, place in zip(self.columns, pairwise(ends), strict=True)}

    def _encode(self, observations: np.ndarray) -> np.ndarray:
        if isinstance(self.observation_space, spaces.Box) and self.observation_space.dtype != np.uint8:
            return np.reshape(observations, (self.n_envs, self.features))
        observations = np.reshape(observations, (self.n_envs, *self.obs_shape))
        return encode_observations(observations, self.observation_space).numpy()

    def _write(self, rows: np.ndarray, tasks: np.ndarray, rank: np.ndarray) -> None:
        self.table[(self.positions[tasks] + rank) % self.buffer_size, tasks] = rows
        counts = np.bincount(tasks, minlength=self.n_tasks)
        self.positions = (self.positions + counts) % self.buffer_size
        self.sizes = np.minimum(self.sizes + counts, self.buffer_size)

    def _extend_returns(self, rows: np.ndarray) -> None:
        """Hold each slot's last rows back until ``n_steps`` rewards are known or its episode ends."""
        for slot, (row, task) in enumerate(zip(rows, self.layout.tasks, strict=True)):
            self._pending[slot].append((row, task))
            if len(self._pending[slot]) == self.n_steps:
                self._release(slot)
            if row[_DONE]:
                while self._pending[slot]:
                    self._release(slot)

    def _release(self, slot: int) -> None:
        rows = np.array([row for row, _ in self._pending[slot]])
        discounts = self.gamma ** np.arange(len(rows))
        joined = self.features + self.action_dim
        combined = rows[-1].copy()
        combined[:joined] = rows[0, :joined]
        combined[_REWARD] = discounts @ rows[:, _REWARD]
        combined[_CONTINUATION] *= discounts[-1]
        _, task = self._pending[slot].popleft()
        self._write(combined[None], np.array([task]), np.array([0]))

    def flush(self) -> None:
        """End all n-step sums here: the environments are about to be reset or replaced."""
        for slot in range(self.n_envs):
            while self._pending[slot]:
                self._release(slot)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> Batch:  # type: ignore[override]
        """A batch with the allocation's number of transitions of every task, drawn with replacement.

        :param batch_size: per task
        :param env: normalises observations (and, for one task, rewards) if given
        :return: a :class:`~qmp_sb3.replay.batch.Batch` of shape ``(tasks, rows of the task that has most)``
        """
        if not self.sizes.any():
            raise ValueError("the replay buffer is empty: collect transitions before sampling")
        counts = self.allocation.counts(batch_size, self.sizes, self.rng)
        batch = self.gather(self.draw(np.arange(self.n_tasks), int(counts.max())), env)
        if counts.min() < counts.max():
            filled = np.arange(counts.max()) < counts[:, None]
            weights = (filled / np.maximum(counts, 1)[:, None]).astype(np.float32)
            batch.weights, batch.counts = (th.from_numpy(array).to(self.device) for array in (weights, counts))
        return batch

    def draw(self, tasks: np.ndarray, rows: int) -> np.ndarray:
        """Random places of transitions, ``(len(tasks), rows)``: each row of ``tasks`` names the task to draw from.

        Tasks without data give places that hold zeros.
        """
        sizes = np.maximum(self.sizes[tasks], 1)[:, None]
        return self.rng.integers(0, sizes, size=(len(tasks), rows)) * self.n_tasks + tasks[:, None]

    def gather(self, index: np.ndarray, env: VecNormalize | None = None) -> Batch:
        """The transitions at some places, ``(blocks, rows)``, as :meth:`draw` gives them."""
        rows = self._rows.index_select(0, th.from_numpy(index.reshape(-1)))
        joined = self.features + self.action_dim
        if env is not None and env.norm_obs:
            for start in (0, joined):
                observations = rows[:, start : start + self.features].numpy().reshape(-1, *self.obs_shape)
                normalized = np.asarray(env.normalize_obs(observations), dtype=np.float32)
                rows[:, start : start + self.features] = th.from_numpy(normalized).flatten(1)
        if env is not None and env.norm_reward:
            rewards = env.normalize_reward(rows[:, _REWARD].numpy())
            rows[:, _REWARD] = th.from_numpy(np.asarray(rewards, dtype=np.float32))
        rows = rows.view(*index.shape, self.width).to(self.device)
        return Batch(
            rows,
            self.features,
            self.action_dim,
            rewards=rows[..., _REWARD],
            continuations=rows[..., _CONTINUATION],
            columns={
                name: rows[..., place].cpu().numpy().reshape(*index.shape, *self.columns[name])
                for name, place in self._column_places().items()
            },
        )

    def __getstate__(self) -> dict[str, Any]:
        """Only the rows in use are pickled."""
        views = (
            "observations",
            "actions",
            "next_observations",
            "rewards",
            "_continuations",
            "dones",
            "timeouts",
        )
        state = {key: value for key, value in self.__dict__.items() if key not in (*views, "_rows")}
        state["table"] = self.table[: self.size()].copy()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        used = self.table
        self._allocate()
        self.table[: len(used)] = used
