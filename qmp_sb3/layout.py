"""Where the slots of a vector environment stand in the ``(tasks, batch, ...)`` blocks of the stacked networks."""

from __future__ import annotations

import numpy as np
import torch as th

_ROWS_PER_COPY = 8  # rows that a network computes in the time in which its weights are copied


class TaskLayout:
    """Rows that belong to tasks, in any order, arranged as one dense block per task and back again.

    Tasks with fewer rows than the fullest one are padded with copies of row 0, which :meth:`to_rows` leaves out. Tasks
    without rows get no block, unless a block is cheaper than leaving it out.

    :param tasks: task index of each row, shape ``(rows,)``
    :param n_tasks: number of tasks of the networks
    """

    def __init__(self, tasks: np.ndarray, n_tasks: int) -> None:
        self.tasks = np.asarray(tasks, dtype=np.int64)
        self.n_tasks = n_tasks
        counts = np.bincount(self.tasks, minlength=n_tasks)
        order = np.argsort(self.tasks, kind="stable")
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self.rank = np.empty_like(self.tasks)  # how many earlier rows have the same task, (rows,)
        self.rank[order] = np.arange(len(self.tasks)) - first[self.tasks[order]]
        present = np.flatnonzero(counts)
        # Some tasks' networks are copies of their weights; all of them are none, but compute rows that nobody wants.
        if (n_tasks - len(present)) * counts.max(initial=0) <= _ROWS_PER_COPY * len(present):
            present = np.arange(n_tasks)
        block = np.searchsorted(present, self.tasks)
        index = np.zeros((len(present), counts.max(initial=0)), dtype=np.int64)
        index[block, self.rank] = np.arange(len(self.tasks))
        #: the tasks that have blocks, or None when all have
        self.present = None if len(present) == n_tasks else th.from_numpy(present)
        self.tasks_tensor = th.from_numpy(self.tasks)
        # The usual order, task by task and round again, needs no indices.
        self._in_turn = len(self.tasks) % n_tasks == 0 and bool(
            (self.tasks == np.arange(len(self.tasks)) % n_tasks).all()
        )
        self._index = th.from_numpy(index)  # (tasks with blocks, rows of the fullest task)
        self._position = th.from_numpy(block), th.from_numpy(self.rank)

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
