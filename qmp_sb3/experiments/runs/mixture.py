"""Who acted for whom while a run collected its data: a row per evaluation, task and candidate."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qmp_envs.results.table import read_parquet, write_parquet
from qmp_sb3.experiments.runs.run_directory import RunDirectory

COLUMNS = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("candidate", pa.string(), nullable=False),
        pa.field("share", pa.float64()),
        pa.field("acted", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Mixture:
    """Steps in which each candidate acted for each task, between two evaluations.

    :param steps: environment steps of all tasks together at the evaluations, ``(points,)``
    :param tasks: names of the tasks
    :param candidates: names of the tasks' policies, then of fixed ones
    :param acted: steps since the point before in which a candidate acted for a task, ``(points, tasks, candidates)``
    :param about: the run, as in :class:`~qmp_envs.results.table.Results`
    """

    steps: np.ndarray
    tasks: tuple[str, ...]
    candidates: tuple[str, ...]
    acted: np.ndarray
    about: Mapping[str, Any]

    @property
    def shares(self) -> np.ndarray:
        """The same as shares of the task's steps, ``(points, tasks, candidates)``; NaN where it had none."""
        totals = self.acted.sum(axis=2, keepdims=True)
        return np.divide(self.acted, totals, out=np.full(self.acted.shape, np.nan), where=totals > 0)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Mixture:
        """The mixture in a ``mixture.parquet`` or a run directory.

        :raises FileNotFoundError: where there is none: the run has no evaluation yet, or a single policy
        :raises ValueError: if the file is damaged
        """
        path = Path(path)
        if path.is_dir():
            path = RunDirectory(path).mixture
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no mixture there")
        rows, about = read_parquet(path)
        try:
            rows = rows.select(COLUMNS.names).cast(COLUMNS)
            steps, tasks, candidates = (_unique(rows[name]) for name in ("step", "task", "candidate"))
            acted = rows["acted"].to_numpy().reshape(len(steps), len(tasks), len(candidates))
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise ValueError(f"{path} holds no mixture: {error}") from None
        return cls(np.array(steps, np.int64), tuple(tasks), tuple(candidates), acted, about or {})

    def write(self, path: Path) -> None:
        """Write the file in one step."""
        points, tasks, candidates = self.acted.shape
        values = {
            "step": np.repeat(self.steps, tasks * candidates),
            "task": list(np.repeat(np.array(self.tasks, object), candidates)) * points,
            "candidate": [*self.candidates] * (points * tasks),
            "share": self.shares.reshape(-1),
            "acted": self.acted.reshape(-1),
        }
        arrays = [pa.array(values[field.name], field.type, from_pandas=True) for field in COLUMNS]
        write_parquet(path, pa.table(arrays, schema=COLUMNS), self.about)

    def with_point(self, step: int, counts: np.ndarray) -> Mixture:
        """One point more.

        :param counts: steps in which each candidate acted for each task since training began, ``(tasks, candidates)``
        """
        window = counts - self.acted.sum(axis=0)
        if (window < 0).any():  # the behavior is another one than before: it counts from zero
            window = counts
        return Mixture(
            np.append(self.steps, step),
            self.tasks,
            self.candidates,
            np.concatenate([self.acted, window[None]]),
            self.about,
        )


def empty(tasks: Sequence[str], candidates: Sequence[str]) -> Mixture:
    """A mixture without points."""
    acted = np.zeros((0, len(tasks), len(candidates)), np.int64)
    return Mixture(np.zeros(0, np.int64), tuple(tasks), tuple(candidates), acted, {})


def _unique(column: pa.ChunkedArray) -> list[Any]:
    return column.unique().to_pylist()
