"""``evaluations.npz``, as SB3's ``EvalCallback`` writes and rl-zoo3 reads it, from results. Nothing here reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qmp_envs.measures import MEASURES
from qmp_envs.results.table import Results, replace

FILE_NAME = "evaluations.npz"
PREFIXES = {"own": "", "mixture": "mixture_"}
"""Policy: what stands before the names of its arrays."""


def write_evaluations(run: Results, path: Path) -> None:
    """Write a run as ``evaluations.npz``.

    rl-zoo3 reads ``timesteps (evaluations,)``, ``results`` and ``ep_lengths (evaluations, tasks * episodes)``; the
    rest is as in :class:`~qmp_sb3.evaluation.callback.MultiTaskEvalCallback`.

    :param run: a single run, each evaluation with as many episodes of every task
    :raises ValueError: if evaluations have different numbers of episodes
    """
    arrays: dict[str, np.ndarray] = {}
    tasks = run.tasks
    for policy, prefix in PREFIXES.items():
        rows = run.where(policy=policy)
        if not len(rows):
            continue
        task_ids = pc.index_in(rows.table["task"], value_set=pa.array(tasks)).to_numpy().astype(np.int64)
        order = np.lexsort((rows.column("episode"), task_ids, rows.column("step")))
        steps, counts = np.unique(rows.column("step"), return_counts=True)
        if counts.min() != counts.max():
            raise ValueError(
                f"evaluations of {run.key[1]} have {counts.min()} to {counts.max()} episodes; they need as many"
            )
        arrays |= {"timesteps": steps, "task_ids": task_ids[order][: counts[0]], "task_names": np.array(tasks)}
        for name, measure in MEASURES.items():
            values = rows.column(name)[order].reshape(len(steps), -1).astype(float)
            arrays[prefix + measure.saved] = values
    replace(path, lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]
