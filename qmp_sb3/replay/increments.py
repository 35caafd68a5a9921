"""A replay buffer in pieces: each row is handed out once, when it is new; what changes afterwards, whole.

Rows of a task are numbered from the first one ever, as in :class:`~qmp_sb3.replay.segments.SegmentIndex`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

if TYPE_CHECKING:
    from qmp_sb3.replay.multitask_replay_buffer import MultiTaskReplayBuffer


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of each task.

    :param first: number of each task's first row, ``(tasks,)``
    :param end: number after each task's last row, ``(tasks,)``
    :param rows: task after task, ``(sum of end - first, width)`` float32
    """

    first: np.ndarray
    end: np.ndarray
    rows: np.ndarray

    def tree(self) -> dict[str, Any]:
        """As plain values."""
        return {"first": self.first, "end": self.end, "rows": self.rows}

    @property
    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Task and number of every row, ``(rows,)`` each."""
        counts = self.end - self.first
        tasks = np.repeat(np.arange(len(counts)), counts)
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        return tasks, np.arange(len(tasks)) - before[tasks] + self.first[tasks]


def oldest(buffer: MultiTaskReplayBuffer) -> np.ndarray:
    """Number of the oldest row that each task still has, ``(tasks,)``."""
    return buffer.written - buffer.sizes


def rows_since(buffer: MultiTaskReplayBuffer, since: np.ndarray) -> Rows:
    """The rows that a buffer has, from some on.

    :param since: number of the first row that is wanted of each task, ``(tasks,)``
    """
    first, end = np.minimum(np.maximum(since, oldest(buffer)), buffer.written), buffer.written.copy()
    piece = Rows(first, end, np.zeros((0, buffer.form.width), np.float32))
    return Rows(first, end, buffer.rows.on_host(_places(buffer, *piece.numbers)))


def snapshot(buffer: MultiTaskReplayBuffer) -> dict[str, Any]:
    """All of a buffer but its rows, as plain values: counters, priorities, sums and segments that are not complete."""
    index, priorities = buffer.segment_index, buffer.priorities
    return {
        "shape": _shape(buffer),
        "written": buffer.written.copy(),
        "sums": buffer.n_step_sums.snapshot(),
        "segments": None if index is None else index.snapshot() | {"next_row": _next_rows(buffer)},
        "priorities": None if priorities is None else priorities.snapshot(),
    }


def restore(buffer: MultiTaskReplayBuffer, snapshot: Mapping[str, Any], pieces: Iterable[Rows]) -> None:
    """Give a buffer what another one had.

    :param snapshot: of the other one, by :func:`snapshot`
    :param pieces: its rows, oldest first
    :raises ValueError: if that one was of another size or form, or if rows are missing; the buffer is empty then
    """
    shape = [int(number) for number in snapshot["shape"]]
    if shape != _shape(buffer):
        raise ValueError(f"the rows are of a replay buffer (rows, tasks, width) {shape}; this one is {_shape(buffer)}")
    written = np.array(snapshot["written"])
    if written.shape != (buffer.n_tasks,) or written.dtype != np.int64 or (written < 0).any():
        raise ValueError(f"the rows ever written are {written.tolist()}, which are no {buffer.n_tasks} numbers")
    buffer.reset()
    wanted = np.maximum(written - buffer.buffer_size, 0)
    reached = wanted.copy()
    for piece in pieces:
        if (piece.first > reached).any():
            break
        tasks, numbers = piece.numbers
        needed = (numbers >= reached[tasks]) & (numbers < written[tasks])
        buffer.rows.write(_places(buffer, tasks[needed], numbers[needed]), piece.rows[needed])
        reached = np.clip(piece.end, reached, written)
    if (reached < written).any():
        raise ValueError(
            f"the replay buffers miss {int((written - reached).sum())} of {int((written - wanted).sum())} rows"
        )
    buffer.written, buffer.sizes, buffer.positions = written, written - wanted, written % buffer.buffer_size
    buffer.n_step_sums.restore(snapshot["sums"])
    if buffer.segment_index is not None:
        segments = snapshot["segments"]
        buffer.segment_index.resume(segments)
        buffer.rows.put(_first_places(buffer), buffer.form.places["next_row"].start, segments["next_row"])
    if buffer.priorities is not None:
        buffer.priorities.restore(snapshot["priorities"])


def _shape(buffer: MultiTaskReplayBuffer) -> list[int]:
    return [buffer.buffer_size, buffer.n_tasks, buffer.form.width]


def _places(buffer: MultiTaskReplayBuffer, tasks: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return numbers % buffer.buffer_size * buffer.n_tasks + tasks


def _first_places(buffer: MultiTaskReplayBuffer) -> np.ndarray:
    """The places of all rows up to the last one that some task uses."""
    return np.arange(buffer.size() * buffer.n_tasks)


def _next_rows(buffer: MultiTaskReplayBuffer) -> np.ndarray:
    """How far each of those rows' successor is: written when that comes, after the row itself."""
    places = th.from_numpy(_first_places(buffer)).to(buffer.rows.home)
    return buffer.rows.column(places, buffer.form.places["next_row"].start).cpu().numpy()
