"""What every method reached on every task, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np

from qmp_sb3.experiments.report.estimates import mean_interval
from qmp_sb3.experiments.report.figure import Figure, Panel, columns_of, data
from qmp_sb3.experiments.report.palette import INK, Look
from qmp_sb3.experiments.report.sources import TaskSetRuns
from qmp_sb3.experiments.report.words import MEASURES, RATES, listed, value

NAMES = ("task", "method", "mean", "low", "high")


def bars(runs: TaskSetRuns, measure: str) -> Figure:
    """One group of bars per task, one bar per method."""
    scores = runs.scores(measure)
    records, best = [], []
    for place, task in enumerate(runs.tasks):
        means = {}
        for method, values in scores.items():
            of_task = values[:, place : place + 1, None]
            mean, (low, high) = of_task.mean(), mean_interval(of_task)
            means[method] = float(mean)
            records.append(
                {"task": task, "method": method, "mean": _plain(mean), "low": _plain(low[0]), "high": _plain(high[0])}
            )
        top = max(means, key=lambda method: means[method])
        best.append(f"{task} {top} {value(means[top], measure)}")
    description = f"Bars of {MEASURES[measure]} for every task and method. The highest of each task: {listed(best, 50)}."
    return Figure(
        f"{runs.slug}-{measure}-bars",
        f"At the end: {MEASURES[measure]} of every task",
        f"Mean over seeds at {runs.scored_at:,} steps ({runs.about_scores()}). The lines are 95% bootstrap intervals "
        "of the mean over seeds; a method with one seed has none.",
        chart(runs.looks_of(scores), runs.tasks, measure),
        (Panel("tasks", columns_of(records, NAMES), description),),
        {"task": "task", "method": "method", "mean": MEASURES[measure], "low": "from", "high": "to"},
    )


def chart(looks: Mapping[str, Look], tasks: Sequence[str], measure: str) -> alt.LayerChart:
    """Horizontal bars, tasks below each other; a parameter says which methods are shown."""
    methods = list(looks)
    form = ".0%" if measure in RATES else ",.4~r"
    thickness = 11 if len(tasks) * len(methods) <= 80 else 6
    y = alt.Y("task:N", title=None, sort=list(tasks)).axis(ticks=False, domain=False, labelPadding=8)
    y = y.scale(paddingInner=0.28, paddingOuter=0.1)
    offset = alt.YOffset("method:N", sort=methods)
    scale = alt.Scale(domain=[0, 1]) if measure in RATES else alt.Scale(nice=True)
    axis = alt.Axis(format="%" if measure in RATES else "~s", grid=True, tickCount=5)
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.method) >= 0")
    color = alt.Color("method:N", legend=None).scale(domain=methods, range=[look.color for look in looks.values()])
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("method:N"),
        alt.Tooltip("mean:Q", title=MEASURES[measure], format=form),
        alt.Tooltip("low:Q", title="from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
    ]
    bars = shown.mark_bar(cornerRadiusEnd=1).encode(
        x=alt.X("mean:Q", title=MEASURES[measure], scale=scale, axis=axis), y=y, yOffset=offset, color=color, tooltip=tooltip
    )
    rules = (
        shown.transform_filter("datum.low !== null")
        .mark_rule(strokeWidth=1.2, color=INK)
        .encode(x="low:Q", x2="high:Q", y=y, yOffset=offset)
    )
    step = alt.Step(thickness * len(methods) / 0.72 + 4, **{"for": "position"})
    return alt.layer(bars, rules).add_params(alt.param(name="shown", value=methods)).properties(height=step)


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(f"{number:.4g}")
