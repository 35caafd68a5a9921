"""An evaluation as a few numbers per task: for result files and for tables."""

from __future__ import annotations

import numpy as np
from rich.table import Table

from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import MEASURES

Summary = dict[str, dict[str, float]]
"""Task name: measure: mean over its episodes. A measure that the task set does not define is left out."""


def summarize(evaluation: Evaluation) -> Summary:
    """The means of every task, and of all tasks under ``"mean of tasks"``."""
    means = {measure: evaluation.per_task(measure) for measure in MEASURES}
    defined = {measure: values for measure, values in means.items() if not np.isnan(values).all()}
    rows = {
        task: {measure: float(values[row]) for measure, values in defined.items() if not np.isnan(values[row])}
        for row, task in enumerate(evaluation.task_names)
    }
    return {
        **rows,
        "mean of tasks": {measure: float(np.nanmean(values)) for measure, values in defined.items()},
    }


def summary_table(summary: Summary) -> Table:
    """One row per task and one for their mean."""
    table = Table()
    table.add_column("task")
    for measure in MEASURES.values():
        table.add_column(measure.heading, justify="right")
    for task, row in summary.items():
        if task == "mean of tasks":
            table.add_section()
        table.add_row(task, *(cell(measure, row.get(measure)) for measure in MEASURES))
    return table


def cell(measure: str, value: float | None) -> str:
    """A value as it stands in a table, ``-`` where there is none; shares of success are colored."""
    if value is None:
        return "-"
    if measure in ("return", "length"):
        return f"{value:,.1f}"
    if measure == "own":
        return f"{value:.0%}"
    color = "green" if value >= 0.9 else "yellow" if value >= 0.1 else "red"
    return f"[{color}]{value:.0%}[/{color}]"
