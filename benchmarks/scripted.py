"""How often do Meta-World's scripted policies solve its tasks here? ``python -m benchmarks.scripted``

Runs them through ``qmp_envs.evaluate`` and prints a Markdown table, one row per task. An episode is solved if any of
its steps has ``success``; it is not ended by that, so every episode has its full length.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence

import numpy as np

import qmp_envs
from docs.generators.tables import markdown
from docs.scripted_policies import Policy, meta_world_cds_policy, meta_world_policy
from qmp_envs.results.provenance import processor

MAKERS: dict[str, Callable[[str], Policy]] = {
    "QMP/MetaWorldCDS-v0": meta_world_cds_policy,
    "QMP/MT10-v0": meta_world_policy,
    "QMP/MT25-v0": meta_world_policy,
    "QMP/MT50-v0": meta_world_policy,
}
"""id -> what makes the policy of a task's name"""
EPISODES = 20


class Scripted:
    """A policy per task for a batch of observations.

    :param id: of the task set, one of ``MAKERS``
    """

    def __init__(self, id: str) -> None:
        self.policies = [MAKERS[id](name) for name in qmp_envs.task_names(id)]

    def __call__(self, observations: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        """``(slots, obs), (slots,)`` -> actions ``(slots, 4)`` in [-1, 1]; those of the scripts may be larger."""
        actions = [self.policies[task](row) for task, row in zip(task_ids, observations, strict=True)]
        return np.clip(actions, -1.0, 1.0).astype(np.float32)


def rows(id: str, episodes: int, seed: int, tasks: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """One row per task: set, task, solved episodes, return."""
    policy = Scripted(id)
    results = [
        qmp_envs.evaluate(policy, id, seeds=(seed,), episodes=episodes, **options)
        for options in ([{}] if tasks is None else [{"task": task} for task in tasks])
    ]
    return [
        (f"`{id}`", f"`{name}`", f"{solved.sum():.0f} of {episodes}", f"{returns.mean():.0f} ± {returns.std():.0f}")
        for result in results
        for name, solved, returns in zip(result.task_names, result["success_any"], result["return"], strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ids", nargs="+", choices=list(MAKERS), default=["QMP/MetaWorldCDS-v0", "QMP/MT10-v0"])
    parser.add_argument("--tasks", nargs="+", help="of every id (default: all)")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"per task (default {EPISODES})")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", r"Constant\(s\) may be too high")  # Meta-World's, of what is clipped here
    table = [row for id in given.ids for row in rows(id, given.episodes, given.seed, given.tasks)]
    print(f"{given.episodes} episodes per task, seed {given.seed}, {processor()}\n")
    print(markdown(("task set", "task", "solved", "return"), table))


if __name__ == "__main__":
    main()
