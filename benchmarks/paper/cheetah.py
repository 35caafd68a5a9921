"""HalfCheetah under five gravities: the sharing of parameters, with QMP and with CTPG's guide, and PaCo.

``python -m benchmarks.paper.cheetah`` trains, then prints the return over time and of every task, in the environment's
own units. Options are those of :mod:`benchmarks.paper.reacher`; CTPG's own regime is that of ``--methods
mtsac,preset=ctpg-paper``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import qmp_envs
from benchmarks.paper import curves
from benchmarks.paper.curves import Curves
from benchmarks.paper.training import Study

STUDY = Study(
    "cheetah",
    "QMP/HalfCheetahGravity-v0",
    methods=("mtsac", "mtsac+qmp", "mtsac+ctpg", "paco"),
    seeds=(0,),
    steps=1_000_000,
    eval_every=50_000,
    settings={"eval_episodes": 3},
)


def over_time(by_method: Mapping[str, list[Curves]]) -> str:
    """A markdown table: the return, the mean over tasks and seeds."""
    return curves.over_time(by_method, "returns", "mean return at", ",.0f")


def by_task(by_method: Mapping[str, list[Curves]]) -> str:
    """A markdown table: each task's return at the last step that all runs reached, the mean of three evaluations."""
    names = qmp_envs.task_names(STUDY.id)
    end = min(int(one.steps[-1]) for runs in by_method.values() for one in runs)
    lines = [f"| return at {end:,} steps | mean | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for method, runs in by_method.items():
        last = np.mean([one.at("returns", end) for one in runs], axis=0)  # (tasks,)
        lines.append(f"| {method} | {last.mean():,.0f} | {' | '.join(f'{value:,.0f}' for value in last)} |")
    return "\n".join(lines)


def main() -> None:
    options = STUDY.options(__doc__.splitlines()[0])
    by_method = STUDY.train(options)
    print(f"{over_time(by_method)}\n\n{by_task(by_method)}")


if __name__ == "__main__":
    main()
