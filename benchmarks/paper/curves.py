"""Learning curves per task: read from run directories, kept as a small JSON file, read from it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.atomic_files import write_text
from qmp_envs.measures import SHARES
from qmp_envs.results.table import Results
from qmp_sb3.experiments.runs.run_directory import RunDirectory

RESULTS = Path(__file__).parent / "results"
LAST = 3  # evaluations that a result is the mean of: single ones drop when a task is lost for a moment
KEPT = (*SHARES, "return")
"""The measures of a curve; returns are those of the environment, whatever scale a learner sees."""


@dataclass(frozen=True)
class Curves:
    """One run: ``steps (evaluations,)``, per measure ``(evaluations, tasks)``, and seconds of training per step."""

    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    pace: float = float("nan")

    @classmethod
    def read(cls, path: Path) -> Curves:
        """From a run directory's results and, if it is finished, ``result.json``."""
        result = RunDirectory(path).result() or {"seconds": float("nan"), "steps": 1}
        rows = Results.read(path).where(policy="own")
        steps = np.unique(rows.column("step"))
        shape = (len(steps), len(rows.tasks), -1)
        values = {name: rows.column(name).reshape(shape).mean(axis=2) for name in KEPT}
        return cls(steps, values, result["seconds"] / result["steps"])

    @classmethod
    def from_record(cls, record: Mapping) -> Curves:
        """From what :meth:`record` gave."""
        values = {name: np.array(by_task) for name, by_task in record["values"].items()}
        pace = record["seconds"] / record["steps"][-1] if record["seconds"] else float("nan")
        return cls(np.array(record["steps"]), values, pace)

    def record(self) -> dict:
        """As plain values, rates with two decimals."""
        seconds = self.pace * int(self.steps[-1])
        return {
            "seconds": None if np.isnan(seconds) else round(seconds, 1),
            "steps": self.steps.tolist(),
            "values": {name: np.round(by_task, 2).tolist() for name, by_task in self.values.items()},
        }

    def at(self, measure: str, steps: int) -> np.ndarray:
        """Mean of the last three evaluations up to ``steps``, ``(tasks,)``; NaN if the run is not there yet."""
        done = np.flatnonzero(self.steps <= steps)
        if self.steps[-1] < steps:
            return np.full(self.values[measure].shape[1], np.nan)
        return self.values[measure][done[-LAST:]].mean(axis=0)


def load(path: Path) -> dict[str, list[Curves]]:
    """The runs of a file that :func:`save` wrote: method -> one run per seed, in the order of the seeds."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
    by_method: dict[str, list[Curves]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        by_method.setdefault(run["method"], []).append(Curves.from_record(run))
    return by_method


def save(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Add records of runs, each with ``method`` and ``seed``, to a file; those of the same are replaced."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = {(run["method"], run["seed"]): run for run in (*document.get("runs", ()), *runs)}
    lines = ",\n".join(f"  {json.dumps(known[key])}" for key in sorted(known))  # a run is a line, as is its change
    head = json.dumps({**document, "runs": []}, indent=1).removesuffix("]\n}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f"{head}\n{lines}\n ]\n}}\n")
