"""The runs of a report: read from run directories and results files, put in order, by task set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.measures import BY_IMPORTANCE
from qmp_sb3.experiments.analysis.results import (
    Results,
    by_task_set,
    common_end,
    curves,
    is_finished,
    result_places,
    scores,
    tell_apart,
)
from qmp_sb3.experiments.report.palette import Style, styles
from qmp_sb3.experiments.report.words import listed, number_of
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.methods import presets

LAST = 3
"""Evaluations that a score is the mean of, where every run has so many: single ones drop when a task is lost for a
moment."""


@dataclass(frozen=True)
class Run:
    """One run.

    :param results: its rows, under the name that tells it from other runs of the method
    :param directory: its run directory; None if all that is there is a results file
    """

    results: Results
    directory: Path | None

    @cached_property
    def method(self) -> str:
        return self.results.key[1]

    @cached_property
    def seed(self) -> int:
        return self.results.key[2]

    @property
    def about(self) -> Mapping[str, Any]:
        return self.results.about

    @property
    def spec(self) -> Mapping[str, Any]:
        """The run's own description of what it is; others' agents need not have one."""
        return self.about.get("run") or {}

    @cached_property
    def steps(self) -> int:
        """The step of the last evaluation."""
        return int(self.results.column("step").max())

    @cached_property
    def evaluated(self) -> np.ndarray:
        """Steps of the evaluations of the tasks' own policies, ``(points,)``; ValueError where there is none."""
        steps = np.unique(self.results.where(policy="own").column("step"))
        if not len(steps):
            raise ValueError(f"{self.method}, seed {self.seed}, has no evaluations of the policy 'own'")
        return steps

    @property
    def single(self) -> bool:
        """Whether it was evaluated only once, as an agent is whose training nobody evaluated."""
        return len(self.evaluated) == 1

    @property
    def seconds(self) -> float | None:
        """Wall time up to the last evaluation."""
        seconds = self.results.column("seconds")
        if not np.isnan(seconds).all():
            return float(np.nanmax(seconds))
        whole = self.about.get("seconds")
        return None if whole is None else float(whole)

    @property
    def finished(self) -> bool:
        """Whether it was evaluated at the end that it was meant to reach."""
        return is_finished(self.results)


@dataclass(frozen=True)
class TaskSetRuns:
    """All runs on one task set, in the order in which they were given.

    :param id: of the task set
    :param runs: at least one
    :param styles: how every method of the report is drawn
    """

    id: str
    runs: tuple[Run, ...]
    styles: Mapping[str, Style]

    @property
    def slug(self) -> str:
        """The id in letters that links and file names may have."""
        return slug(self.id.removeprefix("QMP/"))

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.runs[0].results.tasks

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """In the order of :attr:`styles`."""
        there = {run.method for run in self.runs}
        return tuple(method for method in self.styles if method in there)

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """The measures that every run has for every episode, the most important one first."""
        return tuple(
            measure
            for measure in BY_IMPORTANCE
            if not any(np.isnan(run.results.column(measure)).any() for run in self.runs)
        )

    @cached_property
    def unfinished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if not run.finished)

    @cached_property
    def compared(self) -> tuple[Run, ...]:
        """The runs that scores are made of: those that reached their end, or all if none did; not :attr:`late`."""
        return tuple(evaluated_together(self._ended))

    @cached_property
    def late(self) -> tuple[Run, ...]:
        """Runs without a score: their first evaluation comes after the last step that all runs reached."""
        return tuple(run for run in self._ended if run not in self.compared)

    @property
    def _ended(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.finished) or self.runs

    @property
    def end(self) -> int:
        """The last step of any run."""
        return max(run.steps for run in self.runs)

    def styles_of(self, methods: Iterable[str]) -> dict[str, Style]:
        """How these methods are drawn."""
        return {method: self.styles[method] for method in methods}

    def seeds(self, method: str) -> list[int]:
        """Of the runs of a method, in ascending order."""
        return sorted(run.seed for run in self.of(method))

    def of(self, method: str) -> list[Run]:
        """The runs of a method whose curves are drawn: the finished ones, or all if none is.

        Without those that have no point in common with the others, see :func:`evaluated_together`, and without those
        of a single evaluation if there are others.
        """
        runs = [run for run in self.runs if run.method == method]
        runs = evaluated_together([run for run in runs if run.finished] or runs)
        return sorted([run for run in runs if not run.single] or runs, key=lambda run: run.seed)

    def curve(self, method: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps ``(points,)`` and the values ``(runs, tasks, points)`` of a method, as far as all its runs go."""
        found = curves([run.results for run in self.of(method)], measure)
        order = [found.tasks.index(task) for task in self.tasks]
        return found.steps, found.values[method][:, order]

    @cached_property
    def scored_at(self) -> int:
        """The step at which runs are compared: the last one that all of them reached."""
        return common_end(run.results for run in self.compared)

    @cached_property
    def evaluations(self) -> int:
        """Evaluations that a score is the mean of; a run that has a single one is judged by that."""
        counts = [int((run.evaluated <= self.scored_at).sum()) for run in self.compared if not run.single]
        return LAST if min(counts, default=1) >= LAST else 1

    def scores(self, measure: str) -> dict[str, np.ndarray]:
        """Method -> ``(runs, tasks)`` of the runs that are compared, methods in order."""
        runs = [run.results for run in self.compared]
        found = scores(runs, measure, last=self.evaluations)
        order = [runs[0].tasks.index(task) for task in self.tasks]
        return {method: found[method][:, order] for method in self.methods if method in found}

    def about_scores(self) -> str:
        """What a score is, in words."""
        return "the mean of the last three evaluations" if self.evaluations == LAST else "the last evaluation"

    def about_seeds(self) -> str:
        """How many runs are behind each method, in a sentence."""
        counts = {method: len(self.seeds(method)) for method in self.methods}
        if len(set(counts.values())) == 1:
            return f"{number_of(next(iter(counts.values())), 'seed')} of each method."
        parts = [f"{method} {count}" for method, count in counts.items()]
        return f"Seeds: {listed(parts, 20)}."


def read(paths: Iterable[Path]) -> list[TaskSetRuns]:
    """The runs in run directories, folders of them and results files, by task set.

    :raises FileNotFoundError: for a path without results
    :raises ValueError: for a damaged file, or if the same run is there twice
    """
    found: list[tuple[Results, Path]] = []
    for file in dict.fromkeys(place.resolve() for path in paths for place in result_places(Path(path))):
        found += [(run, file) for run in Results.read(file).runs()]
    if not found:
        raise ValueError("the files hold no results: no row in any of them")
    named = tell_apart([results for results, _ in found])
    runs = [Run(results, directory_of(file)) for results, (_, file) in zip(named, found, strict=True)]
    check_no_doubles(runs, [file for _, file in found])
    groups = by_task_set(run.results for run in runs)
    of_methods = styles(in_order(run.method for run in runs))
    return [TaskSetRuns(id, tuple(run for run in runs if run.results.key[0] == id), of_methods) for id in groups]


def evaluated_together(runs: Sequence[Run]) -> list[Run]:
    """The runs that have an evaluation up to :func:`common_end`, or a single one, whenever it was."""
    end = common_end(run.results for run in runs)
    return [run for run in runs if run.single or (run.evaluated <= end).any()]


def in_order(methods: Iterable[str]) -> list[str]:
    """Each method once: those of the suite in the order of its registry, then others as they came."""
    known = list(presets.methods())

    def place(method: str) -> int:
        name = method.split(" ")[0]
        return known.index(name) if name in known else len(known)

    return sorted(dict.fromkeys(methods), key=place)


def check_no_doubles(runs: Sequence[Run], files: Sequence[Path]) -> None:
    """Raise for two runs that nothing tells apart: they would count one seed twice."""
    places: dict[tuple[str, str, int], Path] = {}
    for run, file in zip(runs, files, strict=True):
        other = places.setdefault(run.results.key, file)
        if other is not file:
            task_set, method, seed = run.results.key
            raise ValueError(
                f"{method} on {task_set} with seed {seed} is in {other} and again in {file}; name the runs to be shown"
            )


def directory_of(path: Path) -> Path | None:
    """The run directory that ``path`` is, or that it lies in as a file; None if there is none."""
    directory = RunDirectory(path if path.is_dir() else path.parent)
    return directory.path if directory.is_run else None


def slug(text: str) -> str:
    """``text`` in small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
