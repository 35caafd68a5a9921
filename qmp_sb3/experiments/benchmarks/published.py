"""Ours beside theirs: what the runs of a definition reached, in the unit of the published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from qmp_sb3.experiments.analysis.results import Results, curves, scores
from qmp_sb3.experiments.analysis.statistics import Interval, bootstrap, iqm
from qmp_sb3.experiments.benchmarks.benchmark import UNITS, Arm, Benchmark, Part, Published
from qmp_sb3.experiments.runs.mixture import Mixture
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec

RESAMPLES = 2000
"""Of the runs, for an interval in the table."""
LAST = 3
"""Evaluations that a result is the mean of: single ones drop when a task is lost for a moment."""


@dataclass(frozen=True)
class Row:
    """A method on a task set, or on one task of it.

    :param task: None where the row is of all tasks
    :param scores: of finished runs, in the part's unit, ``(runs, tasks)``
    :param planned: runs that there are to be
    """

    part: Part
    arm: Arm
    task: str | None
    scores: np.ndarray
    planned: int

    @property
    def published(self) -> Published | None:
        """What the authors have here."""
        return None if self.task else self.part.published.get(self.arm.name)

    @property
    def mean(self) -> float:
        """Over runs and tasks; NaN without a run."""
        return float(self.scores.mean()) if len(self.scores) else float("nan")

    @property
    def spread(self) -> float:
        """Standard deviation over runs of their means over tasks; NaN with fewer than two."""
        return float(self.scores.mean(axis=1).std(ddof=1)) if len(self.scores) > 1 else float("nan")

    @property
    def iqm(self) -> Interval | None:
        """Interquartile mean with its 95 % bootstrap interval over runs; None without a run."""
        return bootstrap(iqm, self.scores, resamples=RESAMPLES) if len(self.scores) else None


def compare(benchmark: Benchmark, runs: Iterable[tuple[RunSpec, Path]]) -> list[Row]:
    """A row for each method on each task set, in the definition's order, of finished runs.

    :param runs: specs and run directories; those that are none of the definition's are left out
    """
    planned: dict[tuple[str, str], list[Path]] = {}
    for spec, path in runs:
        place = benchmark.place(spec)
        if place is not None:
            planned.setdefault((place[0].label, place[1].name), []).append(path)
    rows = []
    for part in benchmark.parts:
        for arm in map(benchmark.arms.__getitem__, part.arms):
            paths = planned.get((part.label, arm.name), [])
            finished = [path for path in paths if RunDirectory(path).result() is not None]
            tasks, values = reached(finished, part.measure, benchmark.moment)
            values = values * UNITS[part.unit]
            rows.append(Row(part, arm, None, values, len(paths)))
            if benchmark.per_task:
                rows += [Row(part, arm, task, values[:, [i]], len(paths)) for i, task in enumerate(tasks)]
    return rows


def reached(paths: Sequence[Path], measure: str, moment: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the tasks, and what every run reached on each, ``(runs, tasks)``; ``(0, 1)`` without runs.

    :param paths: run directories of one method on one task set
    :param measure: key of :data:`~qmp_sb3.experiments.benchmarks.benchmark.MEASURES`
    :param moment: key of :data:`~qmp_sb3.experiments.benchmarks.benchmark.MOMENTS`
    """
    if not paths:
        return (), np.zeros((0, 1))
    if measure == "hours":
        seconds = [(RunDirectory(path).result() or {})["seconds"] for path in paths]
        return ("all",), np.array(seconds)[:, None] / 3600.0
    if measure == "borrowed":
        mixtures = [Mixture.read(path) for path in paths]
        return mixtures[0].tasks, np.stack([borrowed(mixture.acted.sum(axis=0)) for mixture in mixtures])
    runs = [Results.read(path) for path in paths]
    if moment == "best":
        [values] = curves(runs, measure).values.values()
        return runs[0].tasks, values[:, :, values.mean(axis=(0, 1)).argmax()]
    evaluations = min(len(run.where(policy="own").unique("step")) for run in runs)
    [matrix] = scores(runs, measure, last=min(LAST, evaluations)).values()
    return runs[0].tasks, matrix


def borrowed(acted: np.ndarray) -> np.ndarray:
    """Share of each task's steps in which another policy acted, ``(tasks,)``, from steps ``(tasks, candidates)``."""
    total = acted.sum(axis=1)
    return 1.0 - np.diagonal(acted) / np.maximum(total, 1)


HEADINGS = ("task set", "method", "runs", "mean ± sd of seeds", "IQM [95 %]", "published")
DIGITS = {"percent": 1, "share": 2, "return": 1, "thousands": 2, "hours": 2}
"""Decimals that a number of this unit is shown with."""


def cells(row: Row) -> tuple[str, ...]:
    """A row as text below :data:`HEADINGS`, for a terminal and for a report."""
    name = f"{row.arm.label}: {row.task}" if row.task else row.arm.label
    place = f"{row.part.label} ({row.part.measure}, {row.part.unit})"
    return place, name, f"{len(row.scores)} of {row.planned}", *_figures(row), str(row.published or "-")


def comparison_table(benchmark: Benchmark, rows: Sequence[Row]) -> Table:
    """The rows for a terminal, a section for each task set."""
    table = Table(title=f"{benchmark.title}: {benchmark.source}", title_justify="left")
    headings = HEADINGS[: None if benchmark.published else -1]
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number > 1 else "left")
    shown = ""
    for place, *others in map(cells, rows):
        if shown and place != shown:
            table.add_section()
        table.add_row("" if place == shown else place, *others[: len(headings) - 1])
        shown = place
    return table


def _figures(row: Row) -> tuple[str, str]:
    """Mean and IQM as text, with as many digits as the unit needs."""
    if row.iqm is None:
        return "-", "-"
    digits = DIGITS[row.part.unit]
    spread = "" if np.isnan(row.spread) else f" ± {row.spread:,.{digits}f}"
    low, high = float(row.iqm.low), float(row.iqm.high)
    interval = "" if np.isnan(low) else f" [{low:,.{digits}f}, {high:,.{digits}f}]"
    return f"{row.mean:,.{digits}f}{spread}", f"{float(row.iqm.value):,.{digits}f}{interval}"
