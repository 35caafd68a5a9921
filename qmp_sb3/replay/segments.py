"""Segments: consecutive transitions of one environment that a behavior directed by one decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.replay.batch import Batch
from qmp_sb3.replay.tables import Table

#: what a row keeps besides: the candidate that acted and whether a segment begins, which the behavior says; and how
#: many rows further the episode goes on, 0 where it does not (yet), which the replay buffer writes
SEGMENT_COLUMNS: Mapping[str, tuple[int, ...]] = {"chosen": (), "segment_start": (), "next_row": ()}


@dataclass
class Segments:
    """Segments of some tasks. One that an episode's end cut short repeats its last row.

    :param tasks: the task of each block, ``(blocks,)``
    :param batch: their rows, ``(blocks, segments, steps, ...)`` instead of ``(tasks, batch, ...)``
    :param present: the rows that are there, ``(blocks, segments, steps)`` bool; the first one always is
    """

    tasks: np.ndarray
    batch: Batch
    present: th.Tensor

    @property
    def first_observations(self) -> th.Tensor:
        """s_t, ``(blocks, segments, features)``"""
        return self.batch.observations[:, :, 0]

    @property
    def last_observations(self) -> th.Tensor:
        """The observation after the last row that is there, s_{t+K} of a whole segment."""
        return self.batch.next_observations[:, :, -1]

    @property
    def chosen(self) -> th.Tensor:
        """The candidate that acted, ``(blocks, segments)`` integers."""
        return self.batch.rows[:, :, 0, self.batch.form.places["chosen"]].squeeze(-1).long()


class SegmentIndex:
    """Where each task's segments begin, oldest first, and which of them are still being written.

    Rows of a task are numbered from the first one ever: number n is at place n modulo ``buffer_size``. The rows of
    several environments of a task take turns in its ring, so a row's successor is found by its distance.

    :param buffer_size: rows of each task's ring
    :param n_tasks: number of tasks
    """

    def __init__(self, buffer_size: int, n_tasks: int) -> None:
        self.buffer_size, self.n_tasks = buffer_size, n_tasks
        self.written = np.zeros(n_tasks, dtype=np.int64)  # rows ever written, per task
        # np.zeros maps memory only when it is written to
        self._starts = np.zeros((n_tasks, buffer_size), dtype=np.int64)  # row numbers, a ring of entries per task
        self._oldest = np.zeros(n_tasks, dtype=np.int64)  # entries are numbered, too: the first that is kept ...
        self._end = np.zeros(n_tasks, dtype=np.int64)  # ... and the next one
        self.cut(0)

    def cut(self, slots: int) -> None:
        """No episode goes on; the segments that were being written are what they are."""
        self._tasks = np.zeros(slots, dtype=np.int64)  # the slot's task
        self._rows = np.full(slots, -1, dtype=np.int64)  # the slot's last row, if its episode goes on
        self._open = np.full(slots, -1, dtype=np.int64)  # the entry of the segment that it is in

    def add(
        self, layout: TaskLayout, starts: np.ndarray, dones: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take note of one new row of each slot.

        :param layout: the task of each slot
        :param starts: the slots whose segment begins with the row, ``(slots,)`` bool
        :param dones: the slots whose episode ends with it, ``(slots,)`` bool
        :return: places and tasks of the rows that these follow, and the distances to them, ``(rows that go on,)`` each
        """
        tasks = layout.tasks
        if len(self._rows) != len(tasks):
            self.cut(len(tasks))
        rows = self.written[tasks] + layout.rank
        distances = rows - self._rows
        follows = np.flatnonzero((self._rows >= 0) & (distances < self.buffer_size))
        followed = self._rows[follows] % self.buffer_size, tasks[follows], distances[follows]
        self.written = self.written + np.bincount(tasks, minlength=self.n_tasks)
        self._begin(np.flatnonzero(starts), tasks, rows)
        self._rows = np.where(dones, -1, rows)
        self._open[dones] = -1
        self._tasks = tasks
        self._forget()
        return followed

    def _begin(self, slots: np.ndarray, tasks: np.ndarray, rows: np.ndarray) -> None:
        if len(slots) == 0:
            return
        of = TaskLayout.of(tasks[slots], self.n_tasks)
        entries = self._end[of.tasks] + of.rank
        self._starts[of.tasks, entries % self.buffer_size] = rows[slots]
        self._open[slots] = entries
        self._end = self._end + np.bincount(of.tasks, minlength=self.n_tasks)

    def _forget(self) -> None:
        """Drop the entries of rows that were overwritten: at most one for each row of the last step."""
        every = np.arange(self.n_tasks)
        while True:
            oldest = self._starts[every, self._oldest % self.buffer_size]
            gone = (self._oldest < self._end) & (oldest < self.written - self.buffer_size)
            if not gone.any():
                return
            self._oldest = self._oldest + gone

    def counts(self) -> np.ndarray:
        """Whole segments of each task, ``(tasks,)``: those that began before the oldest one that still goes on."""
        end, going_on = self._end.copy(), np.flatnonzero(self._open >= 0)
        if len(going_on):
            np.minimum.at(end, self._tasks[going_on], self._open[going_on])
        return np.maximum(end - self._oldest, 0)

    def draw(self, tasks: np.ndarray, segments: int, rng: np.random.Generator) -> np.ndarray:
        """Random whole segments of tasks that have some, with replacement: places of their first rows, ``(len(tasks),
        segments)``.
        """
        drawn = rng.integers(0, self.counts()[tasks][:, None], size=(len(tasks), segments))
        entries = self._oldest[tasks][:, None] + drawn
        return self._starts[tasks[:, None], entries % self.buffer_size] % self.buffer_size

    def snapshot(self) -> dict[str, Any]:
        """All segments and the episodes that go on, as plain values."""
        counts = self._end - self._oldest
        tasks = np.repeat(np.arange(self.n_tasks), counts)
        entries = np.concatenate([np.arange(*ends) for ends in zip(self._oldest, self._end, strict=True)])
        return {
            "written": self.written.copy(),
            "oldest": self._oldest.copy(),
            "end": self._end.copy(),
            "starts": self._starts[tasks, entries % self.buffer_size],  # task after task, oldest first
            "rows": self._rows.copy(),
            "open": self._open.copy(),
            "tasks": self._tasks.copy(),
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where a :meth:`snapshot` was taken."""
        self.written, self._oldest, self._end = (np.array(snapshot[name]) for name in ("written", "oldest", "end"))
        self._rows, self._open, self._tasks = (np.array(snapshot[name]) for name in ("rows", "open", "tasks"))
        tasks = np.repeat(np.arange(self.n_tasks), self._end - self._oldest)
        entries = np.concatenate([np.arange(*ends) for ends in zip(self._oldest, self._end, strict=True)])
        self._starts[tasks, entries % self.buffer_size] = snapshot["starts"]

    def restore(self, starts: np.ndarray, positions: np.ndarray, sizes: np.ndarray) -> None:
        """Find the segments of rows that are there; each is taken as whole.

        :param starts: the rows that begin one, ``(rows, tasks)`` bool
        :param positions: the next place to write, per task
        :param sizes: rows in use, per task
        """
        full = sizes == self.buffer_size
        self.written = positions + np.where(full, self.buffer_size, 0)
        for task in range(self.n_tasks):
            numbers = np.arange(self.written[task] - sizes[task], self.written[task])
            begun = numbers[starts[numbers % self.buffer_size, task]]
            self._starts[task, : len(begun)] = begun
            self._oldest[task], self._end[task] = 0, len(begun)
        self.cut(0)


def follow(
    table: Table, starts: np.ndarray, tasks: np.ndarray, steps: int, next_row: int
) -> tuple[th.Tensor, th.Tensor]:
    """The rows of segments, along the distances that ``next_row`` holds; computed where the table is.

    :param table: of ``(rows, tasks, width)``
    :param starts: places of first rows, ``(blocks, segments)``
    :param tasks: the task of each block, ``(blocks,)``
    :param steps: K, rows of a whole segment
    :param next_row: the column of the distances
    :return: where the rows are in the table, ``(blocks, segments, steps)``, and which are there; one that is not
        repeats the one before
    """
    rows, n_tasks, _ = table.shape
    place, block = th.from_numpy(starts).to(table.home), th.from_numpy(tasks).to(table.home)[:, None]
    places, present = [place], [th.ones_like(place, dtype=th.bool)]
    for _ in range(steps - 1):
        distance = table.column(place * n_tasks + block, next_row).long()
        place = (place + distance) % rows
        places.append(place)
        present.append(distance > 0)
    return th.stack(places, dim=2) * n_tasks + block[..., None], th.stack(present, dim=2)
