"""Results of several runs as the matrices that statistics are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from qmp_envs.measures import MEASURES
from qmp_envs.results.table import FILE_NAME, POLICIES, Results
from qmp_envs.suggestions import closest
from qmp_sb3.experiments.runs.run_directory import RunDirectory

__all__ = [
    "Curves",
    "Results",
    "by_task_set",
    "common_end",
    "curves",
    "is_finished",
    "progress",
    "read_runs",
    "result_places",
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
    found = [
        (run, place) for path in paths for place in result_places(Path(path)) for run in Results.read(place).runs()
    ]
    runs = tell_apart([run for run, _ in found])
    places: dict[tuple[str, str, int], Path] = {}
    for run, (_, place) in zip(runs, found, strict=True):
        if run.key in places:
            task_set, method, seed = run.key
            raise ValueError(f"{method} on {task_set} with seed {seed} is in {places[run.key]} and again in {place}")
        places[run.key] = place
    return runs


def result_places(path: Path) -> list[Path]:
    """Files and run directories that a path stands for."""
    if not path.is_dir() or (path / FILE_NAME).is_file() or RunDirectory(path).is_run:
        return [path]
    places = [place for place in sorted(path.iterdir()) if (place / FILE_NAME).is_file()]
    if not places:
        raise FileNotFoundError(f"{path}: no results there (no {FILE_NAME}, nor folders that have one)")
    return places


def tell_apart(runs: Sequence[Results]) -> list[Results]:
    """The runs, with settings in the method's name where runs of a method differ in them: ``"qmp gamma=0.9"``.

    Settings are the preset, the overrides and the reward of the run; those that all of the method's runs share are not
    named.
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
    """What may differ between two runs of a method; the preset is only there if it is not the usual one.

    Of the reward only what the overrides do not say already: options of the task set are in both.
    """
    described = run.about.get("run") or {}
    preset = described.get("preset", "fast")
    overrides = dict(described.get("overrides") or {})
    parts = str(run.about.get("reward") or "").split("; ")
    reward = "; ".join(part for part in parts if f"env_kwargs.{part.partition('=')[0]}" not in overrides)
    settings = ({} if preset == "fast" else {"preset": preset}) | overrides
    return settings | ({"reward": reward} if reward else {})


def is_finished(run: Results) -> bool:
    """Whether a run was evaluated at the end that it was meant to reach; others' agents need not name one."""
    return int(run.column("step").max()) >= int((run.about.get("run") or {}).get("steps") or 0)


def progress(run: Results) -> str:
    """Of an unfinished run: ``qmp seed 3 (40,000 of 100,000 steps)``."""
    _, method, seed = run.key
    return f"{method} seed {seed} ({int(run.column('step').max()):,} of {int(run.about['run']['steps']):,} steps)"


def by_task_set(runs: Iterable[Results]) -> dict[str, list[Results]]:
    """The runs of each task set, in the order of their first run."""
    groups: dict[str, list[Results]] = {}
    for run in runs:
        groups.setdefault(run.key[0], []).append(run)
    return groups


def common_end(runs: Iterable[Results]) -> int:
    """The last step that every run was evaluated at or after.

    A run with a single evaluation, of an agent whose training nobody evaluated, does not count if there are others.
    """
    runs = list(runs)
    watched = [run for run in runs if len(run.unique("step")) > 1]
    ends = [int(run.column("step").max()) for run in watched or runs]
    return min(ends) if watched else max(ends)


def scores(
    runs: Sequence[Results], measure: str, at: int | None = None, last: int = 1, policy: str = "own"
) -> dict[str, np.ndarray]:
    """What every run reached on every task.

    :param runs: single runs of one task set
    :param measure: ``return``, ``length``, ``success_any``, ``success_all`` or ``subgoals``
    :param at: environment steps; the evaluation is the last one up to there. None is :func:`common_end`, and the
        single evaluation of a run that has no other, whenever it was.
    :param last: a score is the mean over so many evaluations, up to that one
    :param policy: ``"own"`` or ``"mixture"``
    :return: method -> ``(runs, tasks)``, runs by seed, tasks as in the first run
    :raises ValueError: if a run ends before ``at``, or the task set does not define the measure
    """
    if last < 1:
        raise ValueError(f"last is {last}; it must be at least 1")
    tasks = _checked(runs, measure, policy)
    end = common_end(runs) if at is None else at
    reached: dict[str, list[np.ndarray]] = {}
    for run in _ordered(runs):
        steps, values = _curve(run, measure, tasks, policy)
        single = len(steps) == 1
        if steps[-1] < end and not single:
            raise ValueError(f"{_name(run)} ends at step {steps[-1]:,}, before {end:,}")
        there = values if single and at is None else values[:, steps <= end]
        if there.shape[1] < (1 if single else last):
            raise ValueError(f"{_name(run)} has {there.shape[1]} evaluations up to step {end:,}, fewer than {last}")
        reached.setdefault(run.key[1], []).append(there[:, -last:].mean(axis=1))
    return {method: np.stack(rows) for method, rows in reached.items()}


def curves(runs: Sequence[Results], measure: str, until: int | None = None, policy: str = "own") -> Curves:
    """The learning curves of every run and task.

    The points are the steps at which any run was evaluated, from where every run has a first evaluation; a run's
    value there is that of its last evaluation. Runs with a single evaluation are left out if there are others.

    :param runs: single runs of one task set
    :param measure: as in :func:`scores`
    :param until: the last step; None is :func:`common_end`
    :param policy: ``"own"`` or ``"mixture"``
    :raises ValueError: if a run ends before ``until``, or the task set does not define the measure
    """
    tasks = _checked(runs, measure, policy)
    until = common_end(runs) if until is None else until
    measured = [(run.key[1], _name(run), *_curve(run, measure, tasks, policy)) for run in _ordered(runs)]
    measured = [one for one in measured if len(one[2]) > 1] or measured
    for _, name, steps, _ in measured:
        if steps[-1] < until and len(steps) > 1:
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
    """The tasks of the runs; ValueError if these cannot be combined."""
    if measure not in MEASURES:
        raise ValueError(f"unknown measure {measure!r}; did you mean {closest(measure, list(MEASURES))!r}?")
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
