"""Results of several runs as the matrices that statistics are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmp_envs.results import FILE_NAME, MEASURES, POLICIES, Results
from qmp_envs.task_set import closest

__all__ = [
    "Curves",
    "Results",
    "by_task_set",
    "common_end",
    "curves",
    "read_runs",
    "result_files",
    "scores",
    "tell_apart",
]


class Curves(NamedTuple):
    """Learning curves of several methods on a task set."""

    steps: np.ndarray
    """Environment steps of all tasks together, ``(points,)``."""
    values: dict[str, np.ndarray]
    """Method: mean over the episodes of each evaluation, ``(runs, tasks, points)``."""
    tasks: tuple[str, ...]


def read_runs(paths: Iterable[str | os.PathLike[str]]) -> list[Results]:
    """Every run in result files, run directories and folders that hold run directories; see :func:`tell_apart`.

    :raises FileNotFoundError: for a path without results
    :raises ValueError: if a file is damaged, or the same run is there twice
    """
    found: dict[tuple[str, str, int], Path] = {}
    runs: list[Results] = []
    places: list[Path] = []
    for path in map(Path, paths):
        for file in result_files(path):
            for run in Results.read(file).runs():
                runs.append(run)
                places.append(file)
    runs = tell_apart(runs)
    for run, file in zip(runs, places, strict=True):
        if run.key in found:
            task_set, method, seed = run.key
            raise ValueError(f"{method} on {task_set} with seed {seed} is in {found[run.key]} and again in {file}")
        found[run.key] = file
    return runs


def result_files(path: Path) -> list[Path]:
    """The results files that a path stands for: itself, a run directory's, those of the run directories in a folder."""
    if not path.is_dir() or (path / FILE_NAME).is_file():
        return [path]
    files = sorted(path.glob(f"*/{FILE_NAME}"))
    if not files:
        raise FileNotFoundError(f"{path}: no results there (no {FILE_NAME}, nor folders that have one)")
    return files


def tell_apart(runs: Sequence[Results]) -> list[Results]:
    """The runs, with settings in the method's name where runs of a method differ in them: ``"qmp gamma=0.9"``.

    Settings are the preset and the overrides of the run; those that all of the method's runs share are not named.
    """
    named = []
    for run in runs:
        task_set, method, _ = run.key
        own = _settings(run)
        others = [_settings(other) for other in runs if other.key[:2] == (task_set, method)]
        different = [key for key, value in own.items() if any(other.get(key) != value for other in others)]
        named.append(run.renamed(" ".join([method, *(f"{key}={own[key]}" for key in different)])))
    return named


def _settings(run: Results) -> dict[str, object]:
    """What may differ between two runs of a method; the preset is only there if it is not the usual one."""
    described = run.about.get("run") or {}
    preset = described.get("preset", "fast")
    return ({} if preset == "fast" else {"preset": preset}) | dict(described.get("overrides") or {})


def by_task_set(runs: Iterable[Results]) -> dict[str, list[Results]]:
    """The runs of each task set, in the order of their first run."""
    groups: dict[str, list[Results]] = {}
    for run in runs:
        groups.setdefault(run.key[0], []).append(run)
    return groups


def common_end(runs: Iterable[Results]) -> int:
    """The last step that every run was evaluated at or after."""
    return min(int(run.column("step").max()) for run in runs)


def scores(
    runs: Sequence[Results], measure: str, at: int | None = None, last: int = 1, policy: str = "own"
) -> dict[str, np.ndarray]:
    """What every run reached on every task.

    :param runs: single runs of one task set
    :param measure: ``return``, ``length``, ``success_any``, ``success_all`` or ``subgoals``
    :param at: environment steps; the evaluation is the last one up to there. None is :func:`common_end`.
    :param last: a score is the mean over so many evaluations, up to that one
    :param policy: ``"own"`` or ``"mixture"``
    :return: method -> ``(runs, tasks)``, runs by seed, tasks as in the first run
    :raises ValueError: if a run ends before ``at``, or the task set does not define the measure
    """
    if last < 1:
        raise ValueError(f"last is {last}; it must be at least 1")
    tasks = _checked(runs, measure, policy)
    at = common_end(runs) if at is None else at
    reached: dict[str, list[np.ndarray]] = {}
    for run in _ordered(runs):
        steps, values = _curve(run, measure, tasks, policy)
        if steps[-1] < at:
            raise ValueError(f"{_name(run)} ends at step {steps[-1]:,}, before {at:,}")
        there = values[:, steps <= at]
        if there.shape[1] < last:
            raise ValueError(f"{_name(run)} has {there.shape[1]} evaluations up to step {at:,}, fewer than {last}")
        reached.setdefault(run.key[1], []).append(there[:, -last:].mean(axis=1))
    return {method: np.stack(rows) for method, rows in reached.items()}


def curves(runs: Sequence[Results], measure: str, until: int | None = None, policy: str = "own") -> Curves:
    """The learning curves of every run and task.

    The points are the steps at which any run was evaluated, from where every run has a first evaluation; a run's
    value there is that of its last evaluation.

    :param runs: single runs of one task set
    :param measure: as in :func:`scores`
    :param until: the last step; None is :func:`common_end`
    :param policy: ``"own"`` or ``"mixture"``
    :raises ValueError: if a run ends before ``until``, or the task set does not define the measure
    """
    tasks = _checked(runs, measure, policy)
    until = common_end(runs) if until is None else until
    measured = [(run.key[1], _name(run), *_curve(run, measure, tasks, policy)) for run in _ordered(runs)]
    for _, name, steps, _ in measured:
        if steps[-1] < until:
            raise ValueError(f"{name} ends at step {steps[-1]:,}, before {until:,}")
    grid = np.unique(np.concatenate([steps for _, _, steps, _ in measured]))
    grid = grid[(grid >= max(steps[0] for _, _, steps, _ in measured)) & (grid <= until)]
    if not len(grid):
        raise ValueError(f"not every run was evaluated up to step {until:,}")
    rows: dict[str, list[np.ndarray]] = {}
    for method, _, steps, values in measured:
        rows.setdefault(method, []).append(values[:, np.searchsorted(steps, grid, side="right") - 1])
    return Curves(grid, {method: np.stack(several) for method, several in rows.items()}, tasks)


def _checked(runs: Sequence[Results], measure: str, policy: str) -> tuple[str, ...]:
    """The tasks of the runs; ValueError if these cannot be put together."""
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}; did you mean {closest(measure, MEASURES)!r}?")
    if policy not in POLICIES:
        raise ValueError(f"policy is {policy!r}; it must be {' or '.join(map(repr, POLICIES))}")
    if not runs:
        raise ValueError("there are no runs")
    groups = by_task_set(runs)
    if len(groups) > 1:
        raise ValueError(f"the runs are of several task sets, {', '.join(groups)}; take them one by one")
    tasks = runs[0].tasks
    for run in runs:
        if set(run.tasks) != set(tasks):
            raise ValueError(f"{_name(run)} has the tasks {', '.join(run.tasks)}; others have {', '.join(tasks)}")
    keys = [run.key for run in runs]
    for number, run in enumerate(runs):
        if run.key in keys[:number]:
            raise ValueError(f"{_name(run)} is there twice")
    return tasks


def _ordered(runs: Sequence[Results]) -> list[Results]:
    """Methods in the order of their first run, runs of a method by seed."""
    methods = list(dict.fromkeys(run.key[1] for run in runs))
    return sorted(runs, key=lambda run: (methods.index(run.key[1]), run.key[2]))


def _curve(run: Results, measure: str, tasks: Sequence[str], policy: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps ``(points,)`` and the mean over episodes ``(tasks, points)`` of a run's evaluations."""
    run = run.where(policy=policy)
    if not len(run):
        raise ValueError(f"the runs have no evaluations of the policy {policy!r}")
    steps, points = np.unique(run.column("step"), return_inverse=True)
    rows = np.array([list(tasks).index(task) for task in run.column("task")])
    values = run.column(measure)
    if np.isnan(values).any():
        defined = [name for name in MEASURES if not np.isnan(run.column(name)).any()]
        raise ValueError(f"{_name(run)} has no {measure} of every episode; it has {', '.join(defined)}")
    sums, counts = np.zeros((2, len(tasks), len(steps)))
    np.add.at(sums, (rows, points), values)
    np.add.at(counts, (rows, points), 1)
    if not counts.all():
        task, point = np.argwhere(counts == 0)[0]
        raise ValueError(f"{_name(run)} has no episode of {tasks[task]} at step {steps[point]:,}")
    return steps, sums / counts


def _name(run: Results) -> str:
    task_set, method, seed = run.key
    return f"{method} on {task_set}, seed {seed},"
