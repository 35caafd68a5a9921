"""Curves as Markdown tables: what methods reached, over time and of every task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.paper.curves import Curves
from qmp_envs.measures import SHARES

COLUMNS = 10  # points in time that a table shows, at most
SPARSE = 3  # index of the Reacher's task with a sparse reward


def over_time(by_method: Mapping[str, list[Curves]], measure: str, heading: str, form: str = ".2f") -> str:
    """A measure, the mean over tasks and seeds, at some evaluations, among them the last one that all runs reached.

    :param heading: of the first column
    :param form: of a value
    """
    every = [one.steps for runs in by_method.values() for one in runs]
    steps, end = max(every, key=lambda steps: steps[-1]), min(steps[-1] for steps in every)
    shown = np.union1d(steps[:: -max(1, -(-len(steps) // COLUMNS))], steps[steps == end])
    times = " | ".join(f"{step // 1000:,}k" for step in shown)
    lines = [f"| {heading} | seeds | {times} | minutes per million steps |", "|---" * (len(shown) + 3) + "|"]
    for method, runs in by_method.items():
        there = [[one.values[measure][one.steps == step].mean() for one in runs if step in one.steps] for step in shown]
        values = " | ".join(f"{np.mean(some):{form}}" if some else "" for some in there)
        pace = np.mean([one.pace for one in runs]) * 1e6 / 60  # NaN for runs that were not finished
        lines.append(f"| {method} | {len(runs)} | {values} | {'' if np.isnan(pace) else f'{pace:.1f}'} |")
    return "\n".join(lines)


def reacher(by_method: Mapping[str, list[Curves]], steps: int) -> str:
    """Mean over seeds, the seeds' own values of the published measure, and the time to get to ``steps``."""
    lines = [
        f"| at {steps:,} steps | seeds | published (any) | each seed | strict (all) | subgoals | sparse task solved "
        "| minutes of a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, runs in by_method.items():
        there = [one for one in runs if one.steps[-1] >= steps]
        if not there:
            continue
        values = summary(there, steps)
        each = " ".join(f"{value:.2f}" for value in values["success_any"])
        means = {name: value.mean() for name, value in values.items()}
        lines.append(
            f"| {method} | {len(there)} | **{means['success_any']:.2f}** | {each} | {means['success_all']:.2f} "
            f"| {means['subgoals']:.2f} | {values['sparse solved'].sum():.0f} of {len(there)} "
            f"| {minutes(there, steps)} |"
        )
    return "\n".join(lines)


def summary(runs: Sequence[Curves], steps: int) -> dict[str, np.ndarray]:
    """Per measure, the mean over tasks of every run, ``(runs,)``; with ``sparse solved``: 1 where task 3 is solved."""
    result = {measure: np.array([one.at(measure, steps).mean() for one in runs]) for measure in SHARES}
    result["sparse solved"] = np.array([one.at("success_any", steps)[SPARSE] > 0.5 for one in runs], dtype=float)
    return result


def minutes(runs: Iterable[Curves], steps: int) -> str:
    """Wall time of ``steps`` steps with their evaluations: the least and the most of the finished runs."""
    times = np.array([one.pace for one in runs if not np.isnan(one.pace)]) * steps / 60
    if len(times) == 0:
        return ""
    least, most = (f"{value:.1f}" for value in (times.min(), times.max()))
    return least if least == most else f"{least} to {most}"


def found(by_method: Mapping[str, list[Curves]]) -> str:
    """The first evaluation in which more than half of a route's episodes reach the goal."""
    routes = next(iter(by_method.values()))[0].values["success_all"].shape[1]
    lines = [f"| first found | {' | '.join(map(str, range(routes)))} | steps run |", "|---" * (routes + 2) + "|"]
    for method, runs in by_method.items():
        for one in runs:
            solved = one.values["success_all"] > 0.5  # (evaluations, routes)
            first = np.where(solved.any(axis=0), one.steps[solved.argmax(axis=0)], 0)
            cells = " | ".join(f"{step // 1000:,}k" if step else "never" for step in first)
            lines.append(f"| {method} | {cells} | {one.steps[-1] // 1000:,}k |")
    return "\n".join(lines)


def returns(by_method: Mapping[str, list[Curves]], tasks: Sequence[str]) -> str:
    """Each task's return at the last step that all runs reached, the mean of three evaluations.

    :param tasks: their names
    """
    end = min(int(one.steps[-1]) for runs in by_method.values() for one in runs)
    lines = [f"| return at {end:,} steps | mean | {' | '.join(tasks)} |", "|---" * (len(tasks) + 2) + "|"]
    for method, runs in by_method.items():
        last = np.mean([one.at("return", end) for one in runs], axis=0)  # (tasks,)
        lines.append(f"| {method} | {last.mean():,.0f} | {' | '.join(f'{value:,.0f}' for value in last)} |")
    return "\n".join(lines)
