"""Who acted for whom while the runs learned: QMP's Figures 14 and 15."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from qmp_sb3.experiments.report.curves import SHORT, thinned
from qmp_sb3.experiments.report.figure import ALONE, LEGEND, Chart, Figure, Panel, columns_of, data, line_ends
from qmp_sb3.experiments.report.palette import INK, PAPER, QUIET, task_colors
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns, slug
from qmp_sb3.experiments.report.words import listed, number_of
from qmp_sb3.experiments.runs.mixture import Mixture

MOST_TIMES = 40
MOST_CELLS = 60_000
"""Numbers in all heatmaps of a task set; with many tasks there are fewer points in time."""
FEW = 10
"""Up to so many candidates each has a color of its own."""
WIDE = 12
"""Up to so many candidates the cells of a heatmap are wide enough for a share."""
LARGEST = 3
"""Candidates that are named where there are more."""
OTHERS = "all others together"


@dataclass(frozen=True)
class Shares:
    """Who acted for whom in a method's runs, the mean over them.

    :param steps: end of each part of training, ``(times,)``
    :param values: share of task i's steps in which candidate j acted, ``(times, tasks, candidates)``
    :param candidates: the tasks, then fixed policies
    :param seeds: number of runs
    """

    method: str
    tasks: tuple[str, ...]
    candidates: tuple[str, ...]
    steps: np.ndarray
    values: np.ndarray
    overall: np.ndarray
    seeds: int

    @property
    def others(self) -> np.ndarray:
        """The values with 0 where a task's own policy acts."""
        return self.without_own(self.values)

    def without_own(self, values: np.ndarray) -> np.ndarray:
        """``values (..., tasks, candidates)`` with 0 where a task's own policy acts."""
        own = np.equal.outer(np.array(self.tasks), np.array(self.candidates))
        return np.where(own, 0.0, values)


def mixtures(runs: TaskSetRuns) -> list[Shares]:
    """Of every method in which other policies act too, and whose runs say so."""
    found = []
    for method in runs.methods:
        recorded = [mixture for run in runs.of(method) if (mixture := _recorded(run)) is not None]
        # Runs of a method have the same candidates, unless somebody gave different things one name.
        recorded = [one for one in recorded if one.candidates == recorded[0].candidates]
        if not recorded or not len(recorded[0].steps):
            continue
        tasks, candidates = recorded[0].tasks, recorded[0].candidates
        times = max(4, min(MOST_TIMES, MOST_CELLS // (len(tasks) * len(candidates) * len(runs.methods))))
        evaluated = np.unique(np.concatenate([one.steps for one in recorded]))
        edges = evaluated[thinned(len(evaluated), times)[1 if len(evaluated) > times else 0 :]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a part of training without any run's record
            values = np.nanmean(np.stack([_by_part(one, edges) for one in recorded]), axis=0)
            overall = np.nanmean(np.stack([_share(one.acted.sum(axis=0)) for one in recorded]), axis=0)
        known = ~np.isnan(values).all(axis=(1, 2))
        shares = Shares(method, tasks, candidates, edges[known], values[known], overall, len(recorded))
        if np.nanmax(shares.others, initial=0) > 0:
            found.append(shares)
    return found


def average(runs: TaskSetRuns, several: Sequence[Shares]) -> Figure:
    """Who acted for whom over the whole training: Figure 15."""
    panels = tuple(
        Panel(mixture.method, _cells(mixture, mixture.overall[None], [0]), _description(mixture, "on average"))
        for mixture in several
    )
    return _heatmap(
        runs,
        several,
        f"{runs.slug}-mixture-average",
        "Who acted for whom, over the whole training",
        f"Share of each task's steps (row) in which each policy (column) acted. {_of(several)} The cells on the "
        "diagonal, a task's own policy, are left white so that the others show. QMP's Figure 15.",
        panels,
    )


def over_time(runs: TaskSetRuns, several: Sequence[Shares]) -> Figure:
    """The same with a slider through time."""
    panels = tuple(
        Panel(
            mixture.method,
            _cells(mixture, mixture.values, range(len(mixture.steps))),
            _description(mixture, "at a time of training that a slider chooses"),
        )
        for mixture in several
    )
    longest = max(several, key=lambda mixture: len(mixture.steps))
    from_step, to_step = [0, *longest.steps.tolist()][-2:]
    last = f"Who acted for whom, steps {from_step:,} to {to_step:,}"
    return _heatmap(
        runs,
        several,
        f"{runs.slug}-mixture-over-time",
        "Who acted for whom, through training",
        f"As above, of one part of training at a time; {number_of(len(longest.steps), 'part')}, each "
        "from one evaluation to a later one. Move the slider with the pointer or the arrow keys.",
        panels,
        controls="time",
        settings={"steps": longest.steps.tolist(), "time": len(longest.steps) - 1, "in_pictures": last},
    )


def curves(runs: TaskSetRuns, mixture: Shares) -> Figure:
    """The share of every other policy, per task: Figure 14."""
    few = len(mixture.candidates) <= FEW
    panels = []
    for row, task in enumerate(mixture.tasks):
        shares = mixture.others[:, row]  # (times, candidates)
        others = [place for place, name in enumerate(mixture.candidates) if name != task]
        shown = others if few else sorted(others, key=lambda place: -shares[:, place].mean())[:LARGEST]
        lines = {mixture.candidates[place]: shares[:, place] for place in shown} | {OTHERS: shares.sum(axis=1)}
        records = [
            {
                "step": int(step),
                "candidate": name,
                "series": name if few or name == OTHERS else f"{number + 1}",
                "share": _plain(share),
                "last": bool(step == mixture.steps[-1]),
            }
            for number, (name, values) in enumerate(lines.items())
            for step, share in zip(mixture.steps, values, strict=True)
        ]
        first, last = lines[OTHERS][0], lines[OTHERS][-1]
        description = (
            f"Other policies acted in {first:.0%} of the steps of {task} at first and in {last:.0%} at the end."
        )
        panels.append(Panel(task, columns_of(records, ("step", "candidate", "series", "share", "last")), description))
    highest = float(np.nanmax(mixture.others.sum(axis=2)))
    series = [*mixture.candidates, OTHERS] if few else [*(f"{n + 1}" for n in range(LARGEST)), OTHERS]
    named = "" if few else f" Named are the {LARGEST} that acted most."
    return Figure(
        f"{runs.slug}-mixture-curves-{slug(mixture.method)}",
        f"Other policies over training: {mixture.method}",
        f"Share of a task's steps in which policies of other tasks acted; the rest is its own.{named} "
        f"{_of([mixture])} QMP's Figure 14.",
        _curves_chart(series, few, highest),
        tuple(panels),
        {"step": "steps", "candidate": "policy", "share": "share"},
        kind="grid",
        controls="legend" if few else "",
        settings={"names": series, "colors": _series_colors(series)},
    )


def _heatmap(
    runs: TaskSetRuns,
    several: Sequence[Shares],
    name: str,
    title: str,
    caption: str,
    panels: tuple[Panel, ...],
    **more: Any,
) -> Figure:
    highest = max(float(np.nanmax(mixture.others)) for mixture in several)
    candidates = max((mixture.candidates for mixture in several), key=len)
    headings = {"step": "until step", "task": "task", "candidate": "policy", "share": "share"}
    if not more:
        headings.pop("step")
    return Figure(name, title, caption, _matrix(runs.tasks, candidates, highest), panels, headings, "matrix", **more)


def _matrix(tasks: Sequence[str], candidates: Sequence[str], highest: float) -> Chart:
    few = len(candidates) <= WIDE
    size: dict[str, Any] = {"width": alt.Step(46 if few else 11), "height": alt.Step(34 if few else 11)}
    axis: dict[str, Any] = {"ticks": False, "domain": False, "labelPadding": 6, "labelFontSize": 11 if few else 8}
    # Vega measures overlap by the upright boxes around slanted labels, and would leave out some that do not touch.
    axis["labelOverlap"] = False
    x = alt.X("candidate:N", title="policy that acts", sort=list(candidates))
    x = x.axis(orient="top", labelAngle=-45 if few else -90, **axis)
    y = alt.Y("task:N", title="task", sort=list(tasks)).axis(**axis)
    now = alt.Chart(data()).transform_filter("datum.time === time")
    # A light cell is a small share on a light page and on a dark one.
    strength = alt.Opacity("share:Q", legend=None).scale(domain=[0, highest], range=[0.04, 1], clamp=True)
    tooltip = [
        alt.Tooltip("task:N"),
        alt.Tooltip("candidate:N", title="policy"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("step:Q", title="until step", format=","),
    ]
    other = now.transform_filter("datum.task !== datum.candidate")
    own = now.transform_filter("datum.task === datum.candidate")
    layers = [
        other.mark_rect(color="var(--accent)", stroke=PAPER, strokeWidth=1).encode(
            x=x, y=y, opacity=strength, tooltip=tooltip
        ),
        own.mark_rect(fillOpacity=0, stroke="var(--line)", strokeWidth=1).encode(x=x, y=y, tooltip=tooltip),
    ]
    if few:
        text: dict[str, Any] = {"fontSize": 10, "baseline": "middle"}
        bright = alt.condition(f"datum.share > {0.55 * highest}", alt.value(PAPER), alt.value(INK))
        form = alt.Text("share:Q", format=".0%")
        layers += [
            other.mark_text(**text).encode(x=x, y=y, text=form, color=bright),
            own.mark_text(**text).encode(x=x, y=y, text=form, color=alt.value(QUIET)),
        ]
    return alt.layer(*layers).add_params(alt.param(name="time", value=0)).properties(**size)


def _curves_chart(series: Sequence[str], few: bool, highest: float) -> Chart:
    color = alt.Color("series:N", legend=LEGEND).scale(domain=list(series), range=_series_colors(series))
    x = alt.X("step:Q", title="environment steps").axis(labelExpr=SHORT, tickCount=3, labelFlush=True).scale(nice=False)
    y = alt.Y("share:Q", title="share of steps").axis(format="%", tickCount=4)
    y = y.scale(domain=[0, min(1.0, highest * 1.05)], nice=False)
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.series) >= 0")
    tooltip = [
        alt.Tooltip("candidate:N", title="policy"),
        alt.Tooltip("step:Q", title="steps", format=","),
        alt.Tooltip("share:Q", format=".1%"),
    ]
    dash = alt.condition(f"datum.series === '{OTHERS}'", alt.value([4, 3]), alt.value([1, 0]))
    layers = [
        shown.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color, detail="candidate:N", strokeDash=dash),
        line_ends(shown, "share", ["candidate"])
        .mark_point(size=40, filled=True)
        .encode(x=x, y=y, color=color, opacity=alt.condition(ALONE, alt.value(1), alt.value(0))),
        shown.mark_point(size=60, opacity=0, filled=True).encode(x=x, y=y, color=color, tooltip=tooltip),
    ]
    if not few:
        ends = shown.transform_filter(f"datum.last && datum.series !== '{OTHERS}'")
        layers.append(
            ends.mark_text(align="right", dx=-3, dy=-5, fontSize=9).encode(x=x, y=y, text="candidate:N", color=color)
        )
    return alt.layer(*layers).add_params(alt.param(name="shown", value=list(series))).properties(height=150)


def _series_colors(series: Sequence[str]) -> list[str]:
    return [*task_colors(series[:-1]), INK]


def _recorded(run: Run) -> Mixture | None:
    """A run's mixture; None where it has none."""
    try:
        return None if run.directory is None else Mixture.read(run.directory)
    except FileNotFoundError:
        return None


def _by_part(mixture: Mixture, edges: np.ndarray) -> np.ndarray:
    """Shares in each part of training, ``(parts, tasks, candidates)``; NaN where nothing was recorded."""
    acted = np.zeros((len(edges), *mixture.acted.shape[1:]))
    there = mixture.steps <= edges[-1]
    np.add.at(acted, np.searchsorted(edges, mixture.steps[there]), mixture.acted[there])
    return _share(acted)


def _share(acted: np.ndarray) -> np.ndarray:
    """Steps ``(..., tasks, candidates)`` as shares of each task's; NaN where it has none."""
    totals = acted.sum(axis=-1, keepdims=True)
    return np.divide(acted, totals, out=np.full(acted.shape, np.nan), where=totals > 0)


def _cells(mixture: Shares, shares: np.ndarray, times: Sequence[int]) -> dict[str, list[Any]]:
    """Rows of the heatmap; ``shares (times, tasks, candidates)``."""
    grid = np.indices(shares.shape).reshape(3, -1)
    steps = mixture.steps if len(shares) == len(mixture.steps) else mixture.steps[-1:]
    return {
        "time": [times[t] for t in grid[0].tolist()],
        "step": steps[grid[0]].tolist(),
        "task": [mixture.tasks[i] for i in grid[1].tolist()],
        "candidate": [mixture.candidates[j] for j in grid[2].tolist()],
        "share": [_plain(share) for share in shares.reshape(-1)],
    }


def _description(mixture: Shares, when: str) -> str:
    average = mixture.without_own(mixture.overall)
    total = average.sum(axis=1)
    most, least = int(total.argmax()), int(total.argmin())
    return (
        f"Heatmap of {mixture.method}: share of each task's steps in which each policy acted, {when}. "
        f"Other policies act most for {mixture.tasks[most]} ({total[most]:.0%} of its steps) and least for "
        f"{mixture.tasks[least]} ({total[least]:.0%})."
    )


def _of(several: Sequence[Shares]) -> str:
    counts = [f"{mixture.method} {number_of(mixture.seeds, 'seed')}" for mixture in several]
    return f"Mean over seeds: {listed(counts, 20)}."


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else round(float(number), 3)
