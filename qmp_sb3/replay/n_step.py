"""Sums of several rewards, which wait for the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qmp_sb3.replay.row_format import CONTINUATION, DONE, REWARD, RowFormat
from qmp_sb3.serialization.tags import tagged

Finished = tuple[np.ndarray, np.ndarray]
"""Rows ``(finished, width)`` and their tasks ``(finished,)``, at most one row of a slot."""


@tagged("n_step_sums")
class NStepSums:
    """The last transitions of every slot, until ``n_steps`` rewards follow them or their episode ends.

    A finished row goes from the first transition's s and a to the last one's s', with r = sum_k gamma^k r_k and the
    last continuation times gamma^(k-1), for the k rewards that it sums.

    :param n_steps: rewards in a sum
    :param gamma: discount inside a sum
    :param slots: slots of the vector environment
    :param form: what a row holds
    """

    def __init__(self, n_steps: int, gamma: float, slots: int, form: RowFormat) -> None:
        self.n_steps, self.form = n_steps, form
        self.discounts = gamma ** np.arange(n_steps)
        self.rows = np.zeros((slots, n_steps, form.width), dtype=np.float32)  # oldest first, zeros after the newest
        self.lengths = np.zeros(slots, dtype=np.int64)
        self.tasks = np.zeros(slots, dtype=np.int64)

    def add(self, rows: np.ndarray, tasks: np.ndarray) -> Iterator[Finished]:
        """Take one transition of every slot, ``(slots, width)``; rows that are finished by it come out."""
        self.rows[np.arange(len(rows)), self.lengths] = rows
        self.lengths += 1
        self.tasks = tasks
        done = rows[:, DONE] != 0.0
        yield from self._released((self.lengths == self.n_steps) | done)
        while (waiting := done & (self.lengths > 0)).any():
            yield from self._released(waiting)

    def flush(self) -> Iterator[Finished]:
        """End all sums here."""
        while self.lengths.any():
            yield from self._released(self.lengths > 0)

    def snapshot(self) -> dict[str, Any]:
        """The rows that wait, as plain values."""
        return {"rows": self.rows.copy(), "lengths": self.lengths.copy(), "tasks": self.tasks.copy()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Wait with the rows of a :meth:`snapshot`.

        :raises ValueError: if it was of other slots or rows
        """
        rows, lengths, tasks = (np.array(snapshot[name]) for name in ("rows", "lengths", "tasks"))
        fits = rows.shape == self.rows.shape and lengths.shape == tasks.shape == self.lengths.shape
        if not fits or lengths.max(initial=0) > self.n_steps:
            raise ValueError(f"the rows that wait are {rows.shape}, these are {self.rows.shape}")
        self.rows, self.lengths, self.tasks = rows, lengths, tasks

    def _released(self, which: np.ndarray) -> Iterator[Finished]:
        slots = np.flatnonzero(which)
        if len(slots) == 0:
            return
        rows, lengths = self.rows[slots], self.lengths[slots]
        finished = rows[np.arange(len(slots)), lengths - 1]
        finished[:, : self.form.action.stop] = rows[:, 0, : self.form.action.stop]
        finished[:, REWARD] = rows[..., REWARD] @ self.discounts
        finished[:, CONTINUATION] *= self.discounts[lengths - 1]
        self.rows[slots, :-1] = rows[:, 1:]
        self.rows[slots, -1] = 0.0
        self.lengths[slots] -= 1
        yield finished, self.tasks[slots]
