"""Priorities in sum trees, one per task: drawn in proportion and changed in batches, without a loop over rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from qmp_sb3.serialization.tags import tagged

BYTES_PER_ROW = 24
"""Of a full tree: a leaf, and as much again for the sums and for the maxima above it."""


@tagged("sum_trees")
class SumTrees:
    """A binary tree per task, whose leaves are priorities; every inner node has the sum and the maximum of the leaves
    below it, in double precision.

    A node is always made from its two children as they stand, never changed by a difference: rounding does not pile up,
    and equal leaves have equal trees, whatever was there before. Everything below is O(log rows) NumPy operations on
    whole batches.

    :param rows: leaves of each tree that can be used
    :param tasks: number of trees
    """

    def __init__(self, rows: int, tasks: int) -> None:
        self.rows, self.tasks = rows, tasks
        self.depth = (rows - 1).bit_length()
        # From the roots down to the leaves; node k of a level has the children 2k and 2k + 1 of the next.
        # np.zeros maps memory only when it is written to, so unused leaves cost nothing.
        self._sums = [np.zeros(tasks << level) for level in range(self.depth + 1)]
        self._maxima = [*(np.zeros(tasks << level) for level in range(self.depth)), self._sums[-1]]
        self._used = 0  # rows in use

    def total(self) -> np.ndarray:
        """The sum of each task's priorities, ``(tasks,)``."""
        return self._sums[0].copy()

    def maximum(self) -> np.ndarray:
        """The largest priority of each task, ``(tasks,)``; 0 where there is none."""
        return self._maxima[0].copy()

    def leaves(self) -> np.ndarray:
        """All priorities, ``(tasks, rows)``, 0 where there is none: a view."""
        return self._sums[-1].reshape(self.tasks, -1)[:, : self.rows]

    def used(self) -> np.ndarray:
        """The leaves up to the last one that was ever set, ``(tasks, rows in use)``: a view."""
        return self.leaves()[:, : self._used]

    def fill(self, leaves: np.ndarray) -> None:
        """Set the first leaves of new trees, ``(tasks, rows in use)``; the rest follows from them."""
        self._used = leaves.shape[1]
        self.used()[:] = leaves
        self._build()

    def at(self, tasks: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Priorities of some leaves; ``tasks`` and ``rows`` have one shape."""
        return self._sums[-1][(tasks << self.depth) + rows]

    def update(self, tasks: np.ndarray, rows: np.ndarray, priorities: np.ndarray) -> None:
        """Set the priorities of some leaves, ``(n,)`` each; of a leaf that is named several times, the last one counts.

        :param priorities: not negative and finite
        """
        if len(rows) == 0:
            return
        self._used = max(self._used, int(rows.max()) + 1)
        nodes = (tasks << self.depth) + rows
        self._sums[-1][nodes] = priorities
        for level in range(self.depth - 1, -1, -1):
            nodes >>= 1
            left = nodes << 1
            right = left + 1
            sums, maxima = self._sums[level + 1], self._maxima[level + 1]
            self._sums[level][nodes] = sums[left] + sums[right]
            self._maxima[level][nodes] = np.maximum(maxima[left], maxima[right])

    def find(self, tasks: np.ndarray, masses: np.ndarray) -> np.ndarray:
        """The rows at which the running sum of a task's priorities first exceeds a mass, ``(n,)`` each.

        Never a row without priority, however the sums are rounded; 0 in a tree that has none.

        :param masses: at least 0 and less than the task's total
        """
        nodes, rest = tasks.copy(), masses.copy()
        for sums in self._sums[1:]:
            nodes <<= 1
            left = sums[nodes]
            right = (rest >= left) & (sums[nodes + 1] > 0.0)
            rest -= left * right
            nodes += right
        return nodes - (tasks << self.depth)

    def _build(self) -> None:
        for level in range(self.depth - 1, -1, -1):
            sums, maxima = self._sums[level + 1], self._maxima[level + 1]
            np.add(sums[0::2], sums[1::2], out=self._sums[level])
            np.maximum(maxima[0::2], maxima[1::2], out=self._maxima[level])

    def raise_to(self, power: float) -> None:
        """Every priority to a power; leaves without one stay without."""
        used = self.used()
        np.power(used, power, out=used, where=used > 0.0)
        self._build()

    def __getstate__(self) -> dict[str, Any]:
        """Only the leaves in use: the rest follows from them."""
        return {"rows": self.rows, "tasks": self.tasks, "leaves": self.used().copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tasks, used = state["leaves"].shape
        if tasks != state["tasks"] or used > state["rows"]:
            raise ValueError(f"there are priorities of {tasks} tasks, {used} rows each")
        SumTrees.__init__(self, state["rows"], state["tasks"])
        self.fill(state["leaves"])
