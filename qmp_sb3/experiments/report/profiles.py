"""Methods compared by all their runs and tasks at once: how scores are distributed, and who beats whom.

After Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice" (2021), sections 4.2
and 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import altair as alt
import numpy as np

from qmp_envs.measures import MEASURES, SHARES
from qmp_sb3.experiments.analysis.statistics import (
    bootstrap,
    mean_ranks,
    performance_profile,
    probability_of_improvement,
)
from qmp_sb3.experiments.report.estimates import RESAMPLES
from qmp_sb3.experiments.report.figure import Chart, Figure, Panel, columns_of, data, method_scales, plain
from qmp_sb3.experiments.report.palette import INK, Style
from qmp_sb3.experiments.report.remarks import in_a_sentence, remarks
from qmp_sb3.experiments.report.sources import TaskSetRuns
from qmp_sb3.experiments.report.words import axis_labels, listed

LEVELS = 51
"""Scores at which a profile is computed."""
MOST_PAIRS = 15
"""With more, only those of the method with the best rank are shown."""
PROFILE = ("method", "level", "mean", "low", "high")
PAIRS = ("pair", "better", "other", "mean", "low", "high")
PERCENT = "format(datum.value, '.0%')"
ESTIMATE = {"mean": "share", "low": "from", "high": "to"}


def profile(runs: TaskSetRuns, measure: str) -> Figure:
    """For every score, in what share of runs and tasks a method is above it."""
    scores = runs.scores(measure)
    ends = min(one.min() for one in scores.values()), max(one.max() for one in scores.values())
    lowest, highest = (0.0, 1.0) if measure in SHARES else ends
    levels = np.linspace(lowest, highest, LEVELS)  # (levels,)
    records, halves = [], []
    for method, values in scores.items():
        found = bootstrap(lambda drawn: performance_profile(drawn, levels), values, resamples=RESAMPLES)
        records += [
            {"method": method, "level": plain(level), **_estimate(*point)}
            for level, *point in zip(levels.tolist(), *found, strict=True)
        ]
        halves.append(f"{method} {found.value[LEVELS // 2]:.0%}")
    middle = f"{levels[LEVELS // 2]:.2f}" if measure in SHARES else f"{levels[LEVELS // 2]:,.4g}"
    return Figure(
        f"{runs.slug}-{measure}-profile",
        f"Distribution over seeds and tasks: {MEASURES[measure].label}",
        f"Share of all seeds and tasks with more than a level of {MEASURES[measure].label} at {runs.scored_at:,} steps "
        f"({runs.about_scores()}): higher is better, and where curves cross, neither method is better throughout. "
        f"Bands are 95% stratified bootstrap intervals; a method with one seed has none.{in_a_sentence(remarks(runs))}",
        _profile_chart(runs.styles_of(scores), measure),
        (
            Panel(
                "seeds and tasks",
                columns_of(records, PROFILE),
                f"Performance profiles. Share of seeds and tasks above {middle}: {listed(halves, 20)}.",
            ),
        ),
        {"method": "method", "level": f"{MEASURES[measure].label} above", "mean": "share", "low": "from", "high": "to"},
    )


def improvement(runs: TaskSetRuns, measure: str) -> Figure:
    """For pairs of methods, how probably a run of one beats a run of the other on a task."""
    scores = runs.scores(measure)
    ranks = dict(zip(scores, mean_ranks(*scores.values()).tolist(), strict=True))
    order = sorted(scores, key=lambda method: ranks[method])
    pairs = list(combinations(order, 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [(order[0], other) for other in order[1:]]
    records = []
    for better, other in pairs:
        found = bootstrap(probability_of_improvement, scores[better], scores[other], resamples=RESAMPLES)
        records.append(
            {"pair": f"{better} over {other}", "better": better, "other": other} | _estimate(*map(float, found))
        )
    said = [f"{one['pair']} {one['mean']:.0%}" for one in records]
    return Figure(
        f"{runs.slug}-{measure}-improvement",
        f"Probability of improvement: {MEASURES[measure].label}",
        "Probability that a run of the first method has more than a run of the second on a task, the mean over tasks; "
        "equal ones count half, so 50% is no difference. Lines are 95% stratified bootstrap intervals; where a method "
        f"has one seed, there is none.{in_a_sentence(remarks(runs))}",
        _pairs_chart(order, [str(one["pair"]) for one in records]),
        (Panel("pairs of methods", columns_of(records, PAIRS), f"Probability of improvement: {listed(said, 20)}."),),
        {"pair": "methods", "mean": "probability", "low": "from", "high": "to"},
    )


def _profile_chart(styles: Mapping[str, Style], measure: str) -> Chart:
    methods = list(styles)
    color, dash = method_scales(styles)
    x = alt.X("level:Q", title=f"{MEASURES[measure].label} above", scale=alt.Scale(nice=False, zero=False))
    x = x.axis(labelExpr=axis_labels(measure), tickCount=6, labelFlush=True)
    y = alt.Y("mean:Q", title="share of seeds and tasks", scale=alt.Scale(domain=[0, 1]))
    y = y.axis(tickCount=4, labelExpr=PERCENT)
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.method) >= 0")
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("level:Q", title="above", format=".0%" if measure in SHARES else ",.4~r"),
        *(alt.Tooltip(f"{name}:Q", title=title, format=".0%") for name, title in ESTIMATE.items()),
    ]
    layers = (
        shown.mark_area(opacity=0.16, interpolate="step-after").encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=color),
        shown.mark_line(strokeWidth=2, interpolate="step-after").encode(x=x, y=y, color=color, strokeDash=dash),
        shown.mark_point(size=90, opacity=0, filled=True).encode(x=x, y=y, color=color, tooltip=tooltip),
    )
    return alt.layer(*layers).add_params(alt.param(name="shown", value=methods)).properties(height=240)


def _pairs_chart(methods: list[str], pairs: list[str]) -> Chart:
    axis = alt.Axis(labelExpr=PERCENT, tickCount=4, grid=True)
    x = alt.X("mean:Q", title="probability of improvement", scale=alt.Scale(domain=[0, 1]), axis=axis)
    y = alt.Y("pair:N", title=None, sort=pairs).axis(ticks=False, domain=False, labelPadding=8, labelLimit=320)
    shown = alt.Chart(data()).transform_filter("indexof(shown, datum.better) >= 0 && indexof(shown, datum.other) >= 0")
    tooltip = [
        alt.Tooltip("pair:N", title="methods"),
        *(alt.Tooltip(f"{name}:Q", title=title, format=".0%") for name, title in ESTIMATE.items()),
    ]
    layers = (
        shown.mark_rule(strokeDash=[4, 4], color=INK, strokeWidth=1).encode(x=alt.datum(0.5)),
        shown.transform_filter("datum.low !== null")
        .mark_rule(strokeWidth=2, color=INK)
        .encode(x="low:Q", x2="high:Q", y=y),
        shown.mark_point(size=80, filled=True, opacity=1, color=INK).encode(x=x, y=y, tooltip=tooltip),
    )
    return alt.layer(*layers).add_params(alt.param(name="shown", value=methods)).properties(height=24 * len(pairs) + 20)


def _estimate(mean: float, low: float, high: float) -> dict[str, float | None]:
    values = {"mean": mean, "low": low, "high": high}
    return {name: plain(number) for name, number in values.items()}
