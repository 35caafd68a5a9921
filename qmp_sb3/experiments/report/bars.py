"""What every method reached on every task, as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt

from qmp_envs.measures import MEASURES, SHARES
from qmp_sb3.experiments.report.estimates import of_each_task
from qmp_sb3.experiments.report.figure import Chart, Figure, Panel, columns_of, data, method_scales, plain
from qmp_sb3.experiments.report.palette import INK, Style
from qmp_sb3.experiments.report.remarks import in_a_sentence, remarks
from qmp_sb3.experiments.report.sources import TaskSetRuns
from qmp_sb3.experiments.report.words import axis_labels, listed, value

NAMES = ("task", "method", "mean", "low", "high")


def bars(runs: TaskSetRuns, measure: str) -> Figure:
    """One group of bars per task, one bar per method."""
    scores = runs.scores(measure)
    reached = {method: of_each_task(values[..., None]) for method, values in scores.items()}
    records = [
        {"task": task, "method": method}
        | {name: plain(array[place, 0]) for name, array in zip(("mean", "low", "high"), interval, strict=True)}
        for place, task in enumerate(runs.tasks)
        for method, interval in reached.items()
    ]
    best, notes = [], remarks(runs)
    compared = [method for method in reached if method not in notes] or list(reached)
    for place, task in enumerate(runs.tasks):
        top = max(compared, key=lambda method: reached[method].value[place, 0])
        best.append(f"{task} {top} {value(float(reached[top].value[place, 0]), measure)}")
    description = (
        f"Bars of {MEASURES[measure].label} for every task and method. The highest of each task: {listed(best, 50)}."
    )
    return Figure(
        f"{runs.slug}-{measure}-bars",
        f"At the end: {MEASURES[measure].label} of every task",
        f"Mean over seeds at {runs.scored_at:,} steps ({runs.about_scores()}). The lines are 95% bootstrap intervals "
        f"of the mean over seeds; a method with one seed has none.{in_a_sentence(notes)}",
        chart(runs.styles_of(scores), runs.tasks, measure),
        (Panel("tasks", columns_of(records, NAMES), description),),
        {"task": "task", "method": "method", "mean": MEASURES[measure].label, "low": "from", "high": "to"},
    )


def chart(styles: Mapping[str, Style], tasks: Sequence[str], measure: str) -> Chart:
    """Horizontal bars, tasks below each other; a parameter says which methods are shown."""
    methods = list(styles)
    form = ".0%" if measure in SHARES else ",.4~r"
    thickness = 11 if len(tasks) * len(methods) <= 80 else 6
    y = alt.Y("task:N", title=None, sort=list(tasks)).axis(ticks=False, domain=False, labelPadding=8)
    y = y.scale(paddingInner=0.28, paddingOuter=0.1)
    offset = alt.YOffset("method:N", sort=methods)
    middle = alt.YOffset("method:N", sort=methods, bandPosition=0.5)
    scale = alt.Scale(domain=[0, 1]) if measure in SHARES else alt.Scale(nice=True)
    axis = alt.Axis(grid=True, tickCount=5, labelExpr=axis_labels(measure))
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.method) >= 0")
    color, _ = method_scales(styles)
    # So that a bar of length 0 can be seen.
    edge = alt.Stroke("method:N", legend=None, scale=color["scale"])
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("method:N"),
        alt.Tooltip("mean:Q", title=MEASURES[measure].label, format=form),
        alt.Tooltip("low:Q", title="from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
    ]
    bars = shown.mark_bar(strokeWidth=1).encode(
        x=alt.X("mean:Q", title=MEASURES[measure].label, scale=scale, axis=axis),
        y=y,
        yOffset=offset,
        color=color,
        stroke=edge,
        tooltip=tooltip,
    )
    rules = (
        shown.transform_filter("datum.low !== null")
        .mark_rule(strokeWidth=1.2, color=INK)
        .encode(x="low:Q", x2="high:Q", y=y, yOffset=middle)
    )
    height = round(len(tasks) * (thickness * len(methods) / 0.72 + 4)) + 20
    return alt.layer(bars, rules).add_params(alt.param(name="shown", value=methods)).properties(height=height)
