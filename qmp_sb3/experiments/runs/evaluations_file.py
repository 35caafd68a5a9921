"""``evaluations.npz``, as SB3's ``EvalCallback`` writes and rl-zoo3 reads it: from results, and back."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.results.table import MEASURES, Results, replace, table
from qmp_sb3.evaluation.callback import SAVED
from qmp_sb3.experiments.runs.provenance import about_run
from qmp_sb3.experiments.runs.run_directory import RunDirectory

ARRAYS = {column: SAVED[name] for column, name in MEASURES.items()}
"""Column of the results: array of the file, ``(evaluations, tasks * episodes)``."""
PREFIXES = {"own": "", "mixture": "mixture_"}


def results_of_evaluations(path: str | os.PathLike[str]) -> Results:
    """The results of a run directory whose evaluations are only in ``evaluations.npz``; ``seconds`` is unknown.

    :raises FileNotFoundError: if there is no run, or no evaluation yet
    :raises ValueError: if the file is damaged
    """
    directory = RunDirectory(path)
    config, result = directory.config(), directory.result()
    if not directory.evaluations.is_file():
        raise FileNotFoundError(f"{directory.path} has no evaluations yet")
    try:
        with np.load(directory.evaluations) as saved:
            arrays = {key: saved[key] for key in saved.files}
        run = config["run"]
        rows = Results(_table(arrays, run["env"], run["method"], run["seed"]), {})
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{directory.evaluations} is damaged: {error}") from None
    return Results(rows.table, about_run(config, None if result is None else result["seconds"]))


def _table(arrays: dict[str, np.ndarray], task_set: str, method: str, seed: int) -> Any:
    """Rows in the order in which a run writes them: per evaluation the own policies', then the mixture's."""
    steps, names = arrays["timesteps"], arrays["task_names"]
    tasks = [str(names[task]) for task in arrays["task_ids"]]
    episodes = np.concatenate([np.arange(tasks.count(name)) for name in dict.fromkeys(tasks)])
    policies = [policy for policy, prefix in PREFIXES.items() if f"{prefix}results" in arrays]
    shape = (len(steps), len(policies), len(tasks))
    values: dict[str, Any] = {
        "task_set": [task_set] * np.prod(shape),
        "method": [method] * np.prod(shape),
        "seed": [seed] * np.prod(shape),
        "task": tasks * (shape[0] * shape[1]),
        "step": np.repeat(steps, shape[1] * shape[2]),
        "episode": np.tile(episodes, shape[0] * shape[1]),
        "policy": list(np.repeat(np.array(policies, object), shape[2])) * shape[0],
        "seconds": np.full(np.prod(shape), np.nan),
    }
    for column, array in ARRAYS.items():
        both = [arrays.get(PREFIXES[policy] + array, np.full((shape[0], shape[2]), np.nan)) for policy in policies]
        values[column] = np.stack(both, axis=1).astype(float).reshape(-1)
    return table(values)


def write_evaluations(run: Results, path: Path) -> None:
    """Write a run as ``evaluations.npz``.

    rl-zoo3 reads ``timesteps (evaluations,)``, ``results`` and ``ep_lengths (evaluations, tasks * episodes)``; the
    rest is as in :class:`~qmp_sb3.evaluation.callback.MultiTaskEvalCallback`.

    :param run: a single run, each evaluation with as many episodes of every task
    :param path: the file, or the folder to write ``evaluations.npz`` into
    :raises ValueError: if evaluations have different numbers of episodes
    """
    arrays: dict[str, np.ndarray] = {}
    tasks = run.tasks
    for policy, prefix in PREFIXES.items():
        rows = run.where(policy=policy)
        if not len(rows):
            continue
        task_ids = np.array([tasks.index(task) for task in rows.column("task")])
        order = np.lexsort((rows.column("episode"), task_ids, rows.column("step")))
        steps, counts = np.unique(rows.column("step"), return_counts=True)
        if counts.min() != counts.max():
            raise ValueError(
                f"evaluations of {run.key[1]} have {counts.min()} to {counts.max()} episodes; they need as many"
            )
        arrays |= {"timesteps": steps, "task_ids": task_ids[order][: counts[0]], "task_names": np.array(tasks)}
        for column, array in ARRAYS.items():
            values = rows.column(column)[order].reshape(len(steps), -1).astype(float)
            arrays[prefix + array] = values
    place = path if path.suffix == ".npz" else path / "evaluations.npz"
    replace(place, lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]
