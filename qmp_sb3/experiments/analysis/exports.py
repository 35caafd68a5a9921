"""Results in the forms that other tools read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.measures import MEASURES
from qmp_envs.results.table import Results, replace
from qmp_sb3.evaluation.npz_export import write_evaluations
from qmp_sb3.experiments.analysis.results import by_task_set, common_end, curves, scores


def evaluations(runs: Sequence[Results], out: Path) -> list[Path]:
    """``METHOD/TASK-SET_SEED/evaluations.npz`` for every run: the folders that ``rl_zoo3.plots`` goes through."""
    files = []
    for run in runs:
        task_set, method, seed = run.key
        files.append(out / _word(method).lower() / f"{_word(task_set)}_{seed}" / "evaluations.npz")
        write_evaluations(run, files[-1])
    return files


def marl_eval(runs: Sequence[Results], out: Path) -> list[Path]:
    """One ``marl-eval.json`` of all runs, as marl-eval reads it: environment, task, algorithm, seed, evaluation.

    Each evaluation has ``step_count`` and the values of its episodes; ``absolute_metrics`` are those of the last one.
    marl-eval wants the same seeds of every method, and the same evaluations of every run: later ones are left out.

    :raises ValueError: if the seeds or the steps of the runs differ
    """
    tree: dict[str, Any] = {}
    for task_set, group in by_task_set(runs).items():
        end = common_end(group)
        group = [run.where(policy="own").until(end) for run in group]
        _check_same_seeds(task_set, group)
        steps = np.unique(group[0].column("step"))
        for run in group:
            if not np.array_equal(np.unique(run.column("step")), steps):
                raise ValueError(f"marl-eval wants evaluations at the same steps, which {run.key} does not have")
            _, method, seed = run.key
            for task in run.tasks:
                algorithms = tree.setdefault(task_set, {}).setdefault(task, {})
                # marl-eval's own files separate algorithms by commas.
                algorithms.setdefault(method.replace(",", ";"), {})[f"seed_{seed}"] = _evaluations(run, task, steps)
    path = out / "marl-eval.json"
    replace(path, lambda part: part.write_text(json.dumps(tree) + "\n", encoding="utf-8"))
    return [path]


def _evaluations(run: Results, task: str, steps: np.ndarray) -> dict[str, Any]:
    rows = run.where(task=task)
    at = rows.column("step")
    values = {name: rows.column(name).astype(float) for name in MEASURES}
    defined = {name: value for name, value in values.items() if not np.isnan(value).any()}
    found: dict[str, Any] = {}
    for number, step in enumerate(steps):
        episodes = {name: value[at == step].tolist() for name, value in defined.items()}
        found[f"step_{number}"] = {"step_count": int(step), **episodes}
    return {**found, "absolute_metrics": episodes}


def _check_same_seeds(task_set: str, runs: Sequence[Results]) -> None:
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.key[1], set()).add(run.key[2])
    if len({frozenset(some) for some in seeds.values()}) > 1:
        each = "; ".join(f"{method}: {', '.join(map(str, sorted(some)))}" for method, some in seeds.items())
        raise ValueError(f"marl-eval wants the same seeds of every method on {task_set}, which has {each}")


def rliable(runs: Sequence[Results], out: Path) -> list[Path]:
    """``TASK-SET_MEASURE_scores.npz`` with a matrix ``(runs, tasks)`` for every method, and ``..._curves.npz`` with
    ``(runs, tasks, points)``: ``dict(numpy.load(file))`` is what rliable takes. ``..._about.json`` has the rest.

    Scores are those at the last step that all runs reached.
    """
    files: list[Path] = []
    for task_set, group in by_task_set(runs).items():
        for measure in MEASURES:
            if any(np.isnan(run.column(measure)).any() for run in group):
                continue
            stem = f"{_word(task_set)}_{measure}"
            over_time = curves(group, measure)
            about = {
                "task_set": task_set,
                "measure": measure,
                "tasks": over_time.tasks,
                "steps": over_time.steps.tolist(),
                "seeds": _seeds(group),
            }
            arrays = {"scores": scores(group, measure), "curves": over_time.values}
            for name, by_method in arrays.items():
                files.append(out / f"{stem}_{name}.npz")
                _write_arrays(files[-1], by_method)
            files.append(out / f"{stem}_about.json")
            text = json.dumps(about, indent=2) + "\n"
            replace(files[-1], lambda part, text=text: part.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return files


def csv(runs: Sequence[Results], out: Path) -> list[Path]:
    """``TASK-SET.csv`` with all rows, and its ``.json``."""
    files = []
    for task_set, group in by_task_set(runs).items():
        files.append(out / f"{_word(task_set)}.csv")
        Results.concatenate(group).write(files[-1])
    return files


FORMATS: dict[str, Callable[[Sequence[Results], Path], list[Path]]] = {
    "evaluations": evaluations,
    "marl-eval": marl_eval,
    "rliable": rliable,
    "csv": csv,
}
"""Name on the command line: function of the runs and the folder to write into, which gives the files' paths."""


def _seeds(runs: Sequence[Results]) -> dict[str, list[int]]:
    """Seeds of the rows of each method's matrix."""
    seeds: dict[str, list[int]] = {}
    for run in runs:
        seeds.setdefault(run.key[1], []).append(run.key[2])
    return {method: sorted(some) for method, some in seeds.items()}


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    replace(path, lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]


def _word(text: str) -> str:
    """Something as a part of a file's name, with QMP/Maze-v0 as rl-zoo3 has it: QMP-Maze-v0."""
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", text)
