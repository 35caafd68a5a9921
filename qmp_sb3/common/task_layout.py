"""Where the slots of a vector environment stand in the ``(tasks, batch, ...)`` blocks of the stacked networks."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch as th

_ROWS_PER_COPY = 8  # rows that a network computes in the time in which its weights are copied


class TaskLayout:
    """Rows that belong to tasks, in any order, arranged as one dense block per task and back again.

    Tasks with fewer rows than the fullest one are padded with copies of row 0, which :meth:`to_rows` leaves out. Tasks
    without rows get no block, unless a block is cheaper than leaving it out.

    :param tasks: task index of each row, shape ``(rows,)``
    :param n_tasks: number of tasks of the networks
    :raises ValueError: if there is no such task
    """

    def __init__(self, tasks: np.ndarray, n_tasks: int) -> None:
        self.tasks = np.asarray(tasks, dtype=np.int64)
        self.n_tasks = n_tasks
        for task in self.tasks[(self.tasks < 0) | (self.tasks >= n_tasks)][:1]:
            raise ValueError(f"task {task} is out of range; the tasks are 0 to {n_tasks - 1}")
        counts = np.bincount(self.tasks, minlength=n_tasks)
        #: the rows, task by task: those of task t are ``order[first[t]:first[t + 1]]``
        self.order = np.argsort(self.tasks, kind="stable")
        self.first = np.concatenate([[0], np.cumsum(counts)])  # (tasks + 1,)
        #: where both are in memory, for compiled code
        self.addresses = self.order.ctypes.data, self.first.ctypes.data
        self._fullest = int(counts.max(initial=0))

    def __getstate__(self) -> dict[str, Any]:
        return {"tasks": self.tasks, "n_tasks": self.n_tasks}  # a copy has addresses of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        TaskLayout.__init__(self, state["tasks"], state["n_tasks"])

    @classmethod
    def of(cls, tasks: np.ndarray, n_tasks: int) -> TaskLayout:
        """The layout of these rows; one that was asked for before is not made again."""
        return _layout(np.asarray(tasks, dtype=np.int64).tobytes(), n_tasks)

    @cached_property
    def rank(self) -> np.ndarray:
        """How many earlier rows have the same task, ``(rows,)``."""
        rank = np.empty_like(self.tasks)
        rank[self.order] = np.arange(len(self.tasks)) - self.first[self.tasks[self.order]]
        return rank

    @cached_property
    def tasks_tensor(self) -> th.Tensor:
        """``tasks`` for PyTorch."""
        return th.from_numpy(self.tasks)

    @cached_property
    def _blocks(self) -> np.ndarray:
        """The task of each block, in order."""
        counts = np.diff(self.first)
        present = np.flatnonzero(counts)
        # Some tasks' networks are copies of their weights; all of them are none, but compute rows that nobody wants.
        if (self.n_tasks - len(present)) * self._fullest <= _ROWS_PER_COPY * len(present):
            return np.arange(self.n_tasks)
        return present

    @cached_property
    def present(self) -> th.Tensor | None:
        """The tasks that have blocks, or None when all have."""
        return None if len(self._blocks) == self.n_tasks else th.from_numpy(self._blocks)

    @cached_property
    def _in_turn(self) -> bool:
        """The usual order, task by task and round again, needs no indices."""
        rows = len(self.tasks)
        return rows % self.n_tasks == 0 and bool((self.tasks == np.arange(rows) % self.n_tasks).all())

    @cached_property
    def _index(self) -> th.Tensor:
        """The row at each place of the blocks, ``(tasks with blocks, rows of the fullest task)``."""
        index = np.zeros((len(self._blocks), self._fullest), dtype=np.int64)
        index[np.searchsorted(self._blocks, self.tasks), self.rank] = np.arange(len(self.tasks))
        return th.from_numpy(index)

    @cached_property
    def _position(self) -> tuple[th.Tensor, th.Tensor]:
        """Block of each row, and its place in the block."""
        return th.from_numpy(np.searchsorted(self._blocks, self.tasks)), th.from_numpy(self.rank)

    def to_tasks(self, rows: th.Tensor) -> th.Tensor:
        """``(rows, ...)`` to ``(tasks with blocks, rows of the fullest task, ...)``."""
        if self._in_turn:
            return rows.unflatten(0, (-1, self.n_tasks)).transpose(0, 1)
        return rows[self._index.to(rows.device)]

    def to_rows(self, blocks: th.Tensor) -> th.Tensor:
        """``(tasks with blocks, rows of the fullest task, ...)`` to ``(rows, ...)``."""
        if self._in_turn:
            return blocks.transpose(0, 1).flatten(0, 1)
        block, rank = self._position
        return blocks[block.to(blocks.device), rank.to(blocks.device)]


@lru_cache(maxsize=32)
def _layout(tasks: bytes, n_tasks: int) -> TaskLayout:
    return TaskLayout(np.frombuffer(tasks, dtype=np.int64).copy(), n_tasks)
