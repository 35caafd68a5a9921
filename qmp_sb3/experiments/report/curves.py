"""Learning curves: all tasks together, and every task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np

from qmp_envs.measures import MEASURES, SHARES
from qmp_sb3.experiments.analysis.statistics import Interval
from qmp_sb3.experiments.report.estimates import of_all_tasks, of_each_task
from qmp_sb3.experiments.report.figure import (
    ALONE,
    Chart,
    Figure,
    Panel,
    columns_of,
    data,
    line_ends,
    method_scales,
    plain,
)
from qmp_sb3.experiments.report.palette import Style
from qmp_sb3.experiments.report.sources import TaskSetRuns
from qmp_sb3.experiments.report.words import axis_labels, listed, number_of, value

MOST_POINTS = 100
"""Points that a curve of all tasks has at most, and that all panels of a task set share."""
MOST_POINTS_IN_PANELS = 1500

NAMES = ("method", "seed", "step", "mean", "low", "high")
SHORT = "format(datum.value, '~s')"
"""Steps on an axis: 50k, 1.5M."""
HEADINGS = {"method": "method", "seed": "seed", "step": "steps", "mean": "{}", "low": "from", "high": "to"}


def total(runs: TaskSetRuns, measure: str) -> Figure:
    """The mean over all tasks of a measure, with its interval and every run."""
    records: list[dict[str, Any]] = []
    ends = []
    for method in runs.methods:
        steps, values = runs.curve(method, measure)
        kept = thinned(len(steps), MOST_POINTS)
        steps, values = steps[kept], values[:, :, kept]
        records += records_of(method, steps, of_all_tasks(values))
        for seed, of_tasks in zip(runs.seeds(method), values.mean(axis=1), strict=True):
            records += [
                _record(method, step, mean, seed=seed) for step, mean in zip(steps.tolist(), of_tasks, strict=True)
            ]
        ends.append(f"{method} {value(float(values[..., -1].mean()), measure)}")
    name = MEASURES[measure].label
    description = f"Learning curves of {listed(runs.methods)}: {name} over steps. At the end: {listed(ends, 20)}."
    return Figure(
        f"{runs.slug}-{measure}",
        f"Learning curves: {MEASURES[measure].label}, mean of {number_of(len(runs.tasks), 'task')}",
        f"{MEASURES[measure].meaning.capitalize()}, of each task's own deterministic policy. {runs.about_seeds()} "
        f"{_band(runs)} The x axis counts environment steps of all tasks together.",
        chart(runs.styles_of(runs.methods), measure, every_run=True, height=300),
        (Panel("all tasks", columns_of(records, NAMES), description),),
        {name: heading.format(MEASURES[measure].label) for name, heading in HEADINGS.items()},
        settings={"until": runs.end},
    )


def by_task(runs: TaskSetRuns, measure: str) -> Figure:
    """One panel per task."""
    most = max(12, MOST_POINTS_IN_PANELS // (len(runs.tasks) * len(runs.methods)))
    curves = {}
    for method in runs.methods:
        steps, values = runs.curve(method, measure)
        kept = thinned(len(steps), most)
        curves[method] = steps[kept], of_each_task(values[:, :, kept])
    panels = []
    for place, task in enumerate(runs.tasks):
        records = [
            record
            for method, (steps, interval) in curves.items()
            for record in records_of(method, steps, Interval(*(array[place] for array in interval)))
        ]
        ends = [f"{m} {value(float(v.value[place, -1]), measure)}" for m, (_, v) in curves.items()]
        description = (
            f"Learning curves of task {task}: {MEASURES[measure].label} over steps. At the end: {listed(ends, 20)}."
        )
        panels.append(Panel(task, columns_of(records, NAMES), description))
    longest = max(len(runs.curve(method, measure)[0]) for method in runs.methods)
    thin = f" Drawn at {most} of up to {longest} evaluations." if longest > most else ""
    return Figure(
        f"{runs.slug}-{measure}-tasks",
        f"Every task: {MEASURES[measure].label}",
        f"As above, one task at a time. {_band(runs)}{thin}",
        chart(runs.styles_of(runs.methods), measure, every_run=False, height=150),
        tuple(panels),
        {name: heading.format(MEASURES[measure].label) for name, heading in HEADINGS.items() if name != "seed"},
        kind="grid",
        settings={"until": runs.end},
    )


def chart(styles: Mapping[str, Style], measure: str, every_run: bool, height: int) -> Chart:
    """Lines with bands over steps; parameters say which methods are shown, from where to where."""
    form = ".0%" if measure in SHARES else ",.4~r"
    methods = list(styles)
    color, dash = method_scales(styles)
    # The step of a run's last evaluation is the end of the axis.
    window = alt.Scale(nice=False, domain=[alt.expr("from"), alt.expr("until")])
    x = alt.X("step:Q", title="environment steps", scale=window)
    x = x.axis(labelExpr=SHORT, tickCount=6 if height > 200 else 3, labelFlush=True)
    scale = alt.Scale(domain=[0, 1]) if measure in SHARES else alt.Scale(zero=False)
    y = alt.Y("mean:Q", title=MEASURES[measure].label, scale=scale).axis(tickCount=4, labelExpr=axis_labels(measure))
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.method) >= 0")
    mean = shown.transform_filter("datum.seed === null")
    drag = alt.selection_interval(
        name="drag",
        encodings=["x"],
        on="[pointerdown[event.pointerType !== 'touch'], window:pointerup] > window:pointermove!",
    )
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("step:Q", title="steps", format=","),
        alt.Tooltip("mean:Q", title=MEASURES[measure].label, format=form),
        alt.Tooltip("low:Q", title="from", format=form),
        alt.Tooltip("high:Q", title="to", format=form),
    ]
    # A point at the end of the axis is drawn whole, hence no clip; but none outside the window.
    ends = line_ends(shown, "mean", ["method", "seed"])
    alone = f"{ALONE} && inrange(datum.step, [from, until])"
    layers: list[alt.Chart] = [
        mean.mark_area(opacity=0.16, clip=True).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=color),
    ]
    if every_run:
        runs = shown.transform_filter("datum.seed !== null")
        line = runs.mark_line(strokeWidth=1, opacity=alt.expr("every_run ? 0.45 : 0"), clip=True)
        layers.append(line.encode(x=x, y=y, color=color, detail="seed:N"))
        dots = ends.transform_filter("datum.seed !== null").mark_point(size=25, filled=True)
        opacity = alt.condition(f"{alone} && every_run", alt.value(0.45), alt.value(0))
        layers.append(dots.encode(x=x, y=y, color=color, opacity=opacity))
    layers += [
        mean.mark_line(strokeWidth=2, clip=True).encode(x=x, y=y, color=color, strokeDash=dash),
        ends.transform_filter("datum.seed === null")
        .mark_point(size=50, filled=True)
        .encode(x=x, y=y, color=color, opacity=alt.condition(alone, alt.value(1), alt.value(0))),
        # What a pointer finds: larger than the line.
        mean.mark_point(size=90, opacity=0, filled=True, clip=True)
        .encode(x=x, y=y, color=color, tooltip=tooltip)
        .add_params(drag),
    ]
    return (
        alt.layer(*layers)
        .add_params(
            alt.param(name="shown", value=methods),
            alt.param(name="every_run", value=False),
            alt.param(name="from", value=0),
            alt.param(name="until", value=1),
        )
        .properties(height=height)
    )


def records_of(method: str, steps: np.ndarray, interval: Interval) -> list[dict[str, Any]]:
    """Rows of a chart of arrays ``(points,)``."""
    return [_record(method, *point) for point in zip(steps.tolist(), *interval, strict=True)]


def thinned(points: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of so many points, evenly spaced, with the first and the last."""
    return np.unique(np.linspace(0, points - 1, min(points, most)).round().astype(int))


def _record(
    method: str, step: int, mean: float, low: float = np.nan, high: float = np.nan, seed: int | None = None
) -> dict[str, Any]:
    values: Mapping[str, float] = {"mean": mean, "low": low, "high": high}
    return {"method": method, "seed": seed, "step": step, **{name: plain(number) for name, number in values.items()}}


def _band(runs: TaskSetRuns) -> str:
    if all(len(runs.seeds(method)) == 1 for method in runs.methods):
        return "One seed each: no interval."
    alone = [method for method in runs.methods if len(runs.seeds(method)) == 1]
    exception = f" One seed, hence no band: {listed(alone)}." if alone else ""
    return f"The band is the 95% bootstrap interval of the mean over seeds, resampled within each task.{exception}"
