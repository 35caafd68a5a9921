"""The priorities of a replay buffer's transitions, and batches that are drawn in proportion to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from qmp_sb3.replay.sum_trees import BYTES_PER_ROW, SumTrees
from qmp_sb3.serialization.tags import tagged

PRIORITY_WIDTH = BYTES_PER_ROW // 4
"""What priorities take of each transition, in numbers of a row of the table."""

_LARGEST, _SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float64).tiny)


def priority(errors: np.ndarray, epsilon: float) -> np.ndarray:
    """p = |delta| + epsilon (Schaul et al., 2016, section 3.3), in double precision; errors of any shape."""
    # A diverging critic's errors are no numbers; the sums of the priorities have to stay finite.
    return np.nan_to_num(np.abs(errors, dtype=np.float64), nan=0.0, posinf=_LARGEST) + epsilon


def importance_weights(probabilities: np.ndarray, number: np.ndarray | int, beta: float) -> np.ndarray:
    """w = (1 / n * 1 / P)^beta (Schaul et al., 2016, section 3.4; Shared-Unique Features, equation 4).

    :param probabilities: P, of any shape, above 0
    :param number: n, the transitions that were drawn from
    :param beta: 0 corrects nothing, 1 everything
    """
    return (1.0 / (number * probabilities)) ** beta


@tagged("priorities")
class Priorities:
    """p^alpha of every transition, in a ring per task like the transitions themselves.

    What is written gets its priority before the next draw: priorities change between draws only, so that this is the
    largest one of when it was written, and the trees are climbed once for all that was collected in between.

    :param rows: size of a task's ring
    :param written: transitions of each task that are there already, ``(tasks,)``
    :param alpha: exponent of the priorities
    :param epsilon: priority of a transition without error
    """

    def __init__(self, rows: int, written: np.ndarray, alpha: float, epsilon: float) -> None:
        self.trees = SumTrees(rows, len(written))
        self.alpha, self.epsilon = alpha, epsilon
        self._written = np.array(written, dtype=np.int64)  # transitions ever, per task
        self._seen = np.zeros_like(self._written)  # of these, in the trees

    def add(self, added: np.ndarray) -> None:
        """The next transitions of the rings were written, ``(tasks,)`` of them."""
        self._written += added

    def masses(self, together: bool) -> np.ndarray:
        """sum p^alpha of each task, ``(tasks,)``.

        :param together: new transitions get the largest priority of all tasks, not of their own
        """
        self._take_in(together)
        return self.trees.total()

    def _take_in(self, together: bool) -> None:
        rows, tasks = self.trees.rows, self.trees.tasks
        new = np.minimum(self._written - self._seen, rows)  # (tasks,)
        if not new.any():
            return
        largest = self.trees.maximum()
        if together:
            largest[:] = largest.max()
        largest[largest == 0.0] = 1.0
        which = np.arange(new.max()) < new[:, None]  # (tasks, most new ones)
        task = np.broadcast_to(np.arange(tasks)[:, None], which.shape)[which]
        row = ((self._written - new)[:, None] + np.arange(new.max()))[which] % rows
        self.trees.update(task, row, largest[task])
        self._seen[:] = self._written

    def draw(self, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Rows of the rings in proportion to their priorities, ``(tasks, largest count)``; rows beyond a task's count
        are drawn alike, and tasks without transitions give row 0.

        The draw is stratified (Schaul et al., 2016, appendix B.2.1): a task's mass is cut into as many equal parts as
        it has rows in the batch, and one row comes from each, in random order.

        :param counts: rows of each task that count, ``(tasks,)``
        """
        shape = len(counts), int(counts.max())
        filled = np.arange(shape[1]) < counts[:, None]
        parts = np.where(filled, rng.random(shape), 2.0).argsort(axis=1)
        positions = rng.random(shape)
        positions = np.where(filled, (parts + positions) / np.maximum(counts, 1)[:, None], positions)
        masses = positions * self.trees.total()[:, None]
        tasks = np.repeat(np.arange(shape[0]), shape[1])
        return self.trees.find(tasks, masses.reshape(-1)).reshape(shape)

    def importance(self, rows: np.ndarray, counts: np.ndarray, shares: np.ndarray | None, beta: float) -> np.ndarray:
        """Importance weights over their maximum in the batch, as ``rows``; 0 for rows that do not count.

        :param rows: as drawn, ``(tasks, largest count)``
        :param counts: rows of each task that count, ``(tasks,)``
        :param shares: probability of each task, ``(tasks,)``: P, n and the maximum are then those of all tasks'
            transitions together; None for those of each task by itself
        :param beta: 0 corrects nothing, 1 everything
        """
        tasks = np.broadcast_to(np.arange(len(counts))[:, None], rows.shape)
        filled = np.arange(rows.shape[1]) < counts[:, None]
        number = np.clip(self._seen, 1, self.trees.rows)[:, None]
        probabilities = self.trees.at(tasks, rows) / np.maximum(self.trees.total(), _SMALLEST)[:, None]
        if shares is not None:
            probabilities, number = probabilities * shares[:, None], np.minimum(self._seen, self.trees.rows).sum()
        weights = importance_weights(np.where(filled, probabilities, 1.0), number, beta) * filled
        largest = weights.max(axis=1, keepdims=True) if shares is None else weights.max()
        return weights / np.maximum(largest, _SMALLEST)

    def learn(self, tasks: np.ndarray, rows: np.ndarray, errors: np.ndarray) -> None:
        """New errors of some transitions, ``(n,)`` each; of one that is named several times, the last counts."""
        self.trees.update(tasks, rows, priority(errors, self.epsilon) ** self.alpha)

    def snapshot(self) -> dict[str, Any]:
        """All priorities, ``(tasks, rows in use)``, and how far they have been taken in, as plain values."""
        return {"written": self._written.copy(), "seen": self._seen.copy(), "leaves": self.trees.used().copy()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Have the priorities of a :meth:`snapshot`; the settings stay."""
        self._written, self._seen = np.array(snapshot["written"]), np.array(snapshot["seen"])
        self.trees = SumTrees(self.trees.rows, self.trees.tasks)
        self.trees.fill(snapshot["leaves"])

    def follow(self, alpha: float, epsilon: float) -> None:
        """Other settings; what had no exponent so far goes on with equal priorities."""
        if alpha != self.alpha and self.alpha > 0.0:
            self.trees.raise_to(alpha / self.alpha)
        self.alpha, self.epsilon = alpha, epsilon
