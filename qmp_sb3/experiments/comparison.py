"""Methods beside each other: what runs reached, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from qmp_envs.results import MEASURES, Results
from qmp_sb3.experiments import statistics
from qmp_sb3.experiments.results import common_end, scores
from qmp_sb3.experiments.statistics import Interval
from qmp_sb3.experiments.summary import COLUMNS, cell


@dataclass(frozen=True)
class Row:
    """One method by one measure.

    :param runs: how many
    :param step: environment steps of all tasks together at the evaluations; of the latest if they differ
    :param iqm: over runs and tasks
    :param mean: the same
    :param rank: mean over tasks of the method's rank among the compared ones; 1 is the best
    :param tasks: task -> mean over runs
    """

    method: str
    measure: str
    runs: int
    step: int
    iqm: Interval
    mean: Interval
    rank: float
    tasks: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; an interval is ``[low, high]``, null where there is a single run."""
        plain: dict[str, Any] = {"method": self.method, "measure": self.measure, "runs": self.runs, "step": self.step}
        for name in ("iqm", "mean"):
            value, low, high = map(float, getattr(self, name))
            plain |= {name: value, f"{name}_interval": None if np.isnan(low) else [low, high]}
        return {**plain, "rank": self.rank, "tasks": self.tasks}


@dataclass(frozen=True)
class Comparison:
    """Methods on one task set.

    :param rows: by measure, then method
    """

    task_set: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"task_set": self.task_set, "rows": [row.to_dict() for row in self.rows]}

    def table(self, tasks: bool = False) -> Table:
        """For a terminal: a row per method and measure; ``tasks`` adds a column for every task."""
        table = Table(title=self.task_set, title_justify="left")
        for heading in ("measure", "method"):
            table.add_column(heading)
        headings = ["runs", "steps", "IQM", "95 % interval", "mean", "rank", *(self.tasks if tasks else ())]
        for heading in headings:
            table.add_column(heading, justify="right")
        shown = ""
        for row in self.rows:
            name = row.measure
            if row.measure != shown:
                table.add_section()
            by_task = [cell(name, row.tasks[task]) for task in self.tasks] if tasks else []
            values = [cell(name, float(row.iqm.value)), _interval(name, row.iqm), cell(name, float(row.mean.value))]
            first = COLUMNS[name] if name != shown else ""
            table.add_row(first, row.method, str(row.runs), f"{row.step:,}", *values, f"{row.rank:.1f}", *by_task)
            shown = name
        return table


def compare(
    runs: Sequence[Results],
    measures: Sequence[str] | None = None,
    at: int | None = None,
    last: int = 1,
    policy: str = "own",
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare the methods of single runs of one task set.

    :param measures: None for all that every run has
    :param at: environment steps, None for the last that every run reached; see
        :func:`~qmp_sb3.experiments.results.scores`, also for ``last`` and ``policy``
    :param resamples: of the bootstrap intervals
    :param seed: of the resamples
    """
    if measures is None:
        measures = [name for name in MEASURES if not any(np.isnan(run.column(name)).any() for run in runs)]
    rows, end = [], common_end(runs) if at is None else at
    for measure in measures:
        by_method = scores(runs, measure, at, last, policy)
        better = [-values if measure == "length" else values for values in by_method.values()]
        ranks = statistics.mean_ranks(*better)
        for (method, values), rank in zip(by_method.items(), ranks, strict=True):
            iqm, mean = (
                statistics.bootstrap(statistic, values, resamples=resamples, seed=seed)
                for statistic in (statistics.iqm, statistics.mean)
            )
            tasks = dict(zip(runs[0].tasks, values.mean(axis=0).tolist(), strict=True))
            step = max(_evaluated_at(run, end) for run in runs if run.key[1] == method)
            rows.append(Row(method, measure, len(values), step, iqm, mean, float(rank), tasks))
    return Comparison(runs[0].key[0], runs[0].tasks, tuple(rows))


def _evaluated_at(run: Results, end: int) -> int:
    """The step of the evaluation that counts."""
    steps = np.unique(run.column("step"))
    return int(steps[-1] if len(steps) == 1 else steps[steps <= end][-1])


def _interval(measure: str, interval: Interval) -> str:
    low, high = float(interval.low), float(interval.high)
    if np.isnan(low):
        return "one run"
    return f"{low:,.1f} to {high:,.1f}" if measure in ("return", "length") else f"{low:.0%} to {high:.0%}"
