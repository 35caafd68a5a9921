"""The Multistage Reacher of the paper's sections 6 and 7: what does sharing gain over separate learners?

``python -m benchmarks.paper.reacher`` trains every method with every seed, two runs at a time with one thread each, and
prints a table. Runs go on where they were interrupted, and finished ones are only read. Fifteen runs of 300,000 steps
take an hour or less on two cores. ``--methods parameters parameters+qmp data`` takes any names, joined ones too.
``--record`` keeps the curves in ``results/reacher.json``, which tables of the documentation are made of
(:mod:`benchmarks.paper.measured`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.paper.curves import MEASURES, Curves
from benchmarks.paper.training import Study

STUDY = Study(
    "reacher",
    "QMP/MultistageReacher-v0",
    methods=("no-sharing", "qmp", "qmp-uniform"),
    seeds=(0, 1, 2, 3, 4),
    steps=300_000,
    eval_every=25_000,
)
SPARSE = 3  # index of the task with a sparse reward


def summary(runs: Iterable[Curves], steps: int) -> dict[str, np.ndarray]:
    """Per measure, the mean over tasks of every run, ``(runs,)``; with ``sparse solved``: 1 where task 3 is solved."""
    runs = list(runs)
    result = {measure: np.array([one.at(measure, steps).mean() for one in runs]) for measure in MEASURES}
    result["sparse solved"] = np.array([one.at("success_any", steps)[SPARSE] > 0.5 for one in runs], dtype=float)
    return result


def table(by_method: Mapping[str, list[Curves]], steps: int) -> str:
    """A markdown table: mean over seeds, the seeds' own values of the published measure, and the time to get there."""
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


def minutes(runs: Iterable[Curves], steps: int) -> str:
    """Wall time of ``steps`` steps with their evaluations: the least and the most of the finished runs."""
    times = np.array([one.pace for one in runs if not np.isnan(one.pace)]) * steps / 60
    if len(times) == 0:
        return ""
    least, most = (f"{value:.1f}" for value in (times.min(), times.max()))
    return least if least == most else f"{least} to {most}"


def main() -> None:
    options = STUDY.options(__doc__.splitlines()[0])
    print(table(STUDY.train(options), options.steps))


if __name__ == "__main__":
    main()
