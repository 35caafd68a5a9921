"""Methods beside each other: what runs reached, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from qmp_envs.measures import MEASURES, SHARES
from qmp_envs.results.table import Results
from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.analysis import statistics
from qmp_sb3.experiments.analysis.results import common_end, is_finished, progress, scores
from qmp_sb3.experiments.analysis.statistics import Interval
from qmp_sb3.experiments.runs.summary import cell

HEADINGS = {"iqm": "IQM", "mean": "mean", "median": "median", "optimality_gap": "optimality gap"}
"""Statistic: heading of its column."""


@dataclass(frozen=True)
class Row:
    """One method by one measure.

    :param runs: how many
    :param step: environment steps of all tasks together at the evaluations; of the latest if they differ
    :param statistic: name of :data:`~qmp_sb3.experiments.analysis.statistics.AGGREGATES`
    :param value: of the statistic over runs and tasks
    :param mean: over runs and tasks
    :param rank: mean over tasks of the method's rank among the compared ones; 1 is the best. None where
        neither more nor less is better
    :param tasks: task -> mean over runs
    """

    method: str
    measure: str
    runs: int
    step: int
    statistic: str
    value: Interval
    mean: Interval
    rank: float | None
    tasks: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an interval is ``[low, high]``, null where there is a single run."""
        plain: dict[str, Any] = {"method": self.method, "measure": self.measure, "runs": self.runs, "step": self.step}
        for name, interval in ((self.statistic, self.value), ("mean", self.mean)):
            value, low, high = map(float, interval)
            plain |= {name: value, f"{name}_interval": None if np.isnan(low) else [low, high]}
        return {**plain, "rank": self.rank, "tasks": self.tasks}


@dataclass(frozen=True)
class Comparison:
    """Methods on one task set.

    :param rows: by measure, then method
    :param notes: what a reader has to know of the runs, in sentences
    """

    task_set: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"task_set": self.task_set, "rows": [row.to_dict() for row in self.rows], "notes": list(self.notes)}

    def table(self, tasks: bool = False) -> Table:
        """For a terminal: a row per method and measure; ``tasks`` adds a column for every task."""
        table = Table(title=self.task_set, title_justify="left")
        for heading in ("measure", "method"):
            table.add_column(heading)
        statistic = HEADINGS[self.rows[0].statistic] if self.rows else ""
        headings = ["runs", "steps", statistic, "95 % interval", "mean", "rank", *(self.tasks if tasks else ())]
        for heading in headings:
            table.add_column(heading, justify="right")
        shown = ""
        for row in self.rows:
            name = row.measure
            if row.measure != shown:
                table.add_section()
            by_task = [cell(name, row.tasks[task]) for task in self.tasks] if tasks else []
            values = [cell(name, float(row.value.value)), _interval(name, row.value), cell(name, float(row.mean.value))]
            first = MEASURES[name].heading if name != shown else ""
            rank = "-" if row.rank is None else f"{row.rank:.1f}"
            table.add_row(first, row.method, str(row.runs), f"{row.step:,}", *values, rank, *by_task)
            shown = name
        return table


def compare(
    runs: Sequence[Results],
    measures: Sequence[str] | None = None,
    at: int | None = None,
    last: int = 1,
    policy: str = "own",
    statistic: str = "iqm",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare the methods of single runs of one task set.

    Unfinished runs are named, and are not counted if there are others, unless ``at`` asks for a step.

    :param measures: None for all that every run has and the statistic is made for
    :param at: environment steps, None for the last that every run reached; see
        :func:`~qmp_sb3.experiments.analysis.results.scores`, also for ``last`` and ``policy``
    :param statistic: name of :data:`~qmp_sb3.experiments.analysis.statistics.AGGREGATES`; the optimality gap
        is that to 1, so it is only there for shares
    :param resamples: of the bootstrap intervals
    :param seed: of the resamples
    :raises ValueError: for an unknown statistic, one that the measure does not have, and as :func:`scores`
    """
    of_scores = statistics.AGGREGATES[one_of("statistic", statistic, statistics.AGGREGATES)]
    without = set(MEASURES).difference(SHARES) if statistic == "optimality_gap" else set()
    runs, notes = _counted(runs, at)
    if measures is None:
        whole = [name for name in MEASURES if not any(np.isnan(run.column(name)).any() for run in runs)]
        measures = [name for name in whole if name not in without]
    for name in without.intersection(measures):
        raise ValueError(f"{name} has no {statistic}: that is the distance of a share to 1")
    rows, end = [], common_end(runs) if at is None else at
    for measure in measures:
        by_method = scores(runs, measure, at, last, policy)
        ranked = MEASURES[measure].larger_is_better is not None
        ranks = statistics.mean_ranks(*by_method.values()).tolist() if ranked else [None] * len(by_method)
        for (method, values), rank in zip(by_method.items(), ranks, strict=True):
            value, mean = (
                statistics.bootstrap(aggregate, values, resamples=resamples, seed=seed)
                for aggregate in (of_scores, statistics.mean)
            )
            tasks = dict(zip(runs[0].tasks, values.mean(axis=0).tolist(), strict=True))
            step = max(_evaluated_at(run, end) for run in runs if run.key[1] == method)
            rows.append(Row(method, measure, len(values), step, statistic, value, mean, rank, tasks))
    return Comparison(runs[0].key[0], runs[0].tasks, tuple(rows), notes)


def _counted(runs: Sequence[Results], at: int | None) -> tuple[list[Results], tuple[str, ...]]:
    """The runs to compare, and what to say of the unfinished ones."""
    finished = [run for run in runs if is_finished(run)]
    unfinished = [run for run in runs if not is_finished(run)]
    if not unfinished:
        return finished, ()
    if not finished:
        return unfinished, ("None of these runs reached its end.",)
    names = ", ".join(map(progress, unfinished))
    if at is None:
        return finished, (f"Not counted, because unfinished: {names}.",)
    return list(runs), (f"Unfinished: {names}.",)


def _evaluated_at(run: Results, end: int) -> int:
    """The step of the evaluation that counts."""
    steps = np.unique(run.column("step"))
    return int(steps[-1] if len(steps) == 1 else steps[steps <= end][-1])


def _interval(measure: str, interval: Interval) -> str:
    low, high = float(interval.low), float(interval.high)
    if np.isnan(low):
        return "one run"
    return f"{low:.0%} to {high:.0%}" if measure in SHARES else f"{low:,.1f} to {high:,.1f}"
