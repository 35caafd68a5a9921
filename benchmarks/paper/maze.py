"""The Maze of the paper's section 7: ten routes through a large maze, found with and without sharing.

``python -m benchmarks.paper.maze`` trains, prints the success over time and when each route was found. A run of six
million steps takes 35 to 45 minutes. Options are those of :mod:`benchmarks.paper.reacher`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.paper import curves
from benchmarks.paper.curves import Curves
from benchmarks.paper.training import Study

STUDY = Study(
    "maze",
    "QMP/Maze-v0",
    methods=("no-sharing", "qmp", "qmp-hold"),
    seeds=(0,),
    steps=6_000_000,
    eval_every=100_000,
    settings={"eval_episodes": 5},
)


def over_time(by_method: Mapping[str, list[Curves]]) -> str:
    """A markdown table: success, the mean over routes and seeds."""
    return curves.over_time(by_method, "success_all", "mean success at")


def found(by_method: Mapping[str, list[Curves]]) -> str:
    """A markdown table: the first evaluation in which more than half of a route's episodes reach the goal."""
    routes = next(iter(by_method.values()))[0].values["success_all"].shape[1]
    lines = [f"| first found | {' | '.join(map(str, range(routes)))} | steps run |", "|---" * (routes + 2) + "|"]
    for method, runs in by_method.items():
        for one in runs:
            solved = one.values["success_all"] > 0.5  # (evaluations, routes)
            first = np.where(solved.any(axis=0), one.steps[solved.argmax(axis=0)], 0)
            cells = " | ".join(f"{step // 1000:,}k" if step else "never" for step in first)
            lines.append(f"| {method} | {cells} | {one.steps[-1] // 1000:,}k |")
    return "\n".join(lines)


def main() -> None:
    options = STUDY.options(__doc__.splitlines()[0])
    by_method = STUDY.train(options)
    print(f"{over_time(by_method)}\n\n{found(by_method)}")


if __name__ == "__main__":
    main()
