"""Rules of a behavior: from scores, or from a table, to the policy that acts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch as th

from qmp_envs.task_set import TaskSet
from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.domain_knowledge import domain_table
from qmp_sb3.behaviors.proposals import Proposals

Score = Callable[[Proposals], th.Tensor]


def categorical(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One index per row of ``probabilities``, ``(rows, choices)``, whose rows sum to one."""
    thresholds = np.cumsum(probabilities, axis=1)
    thresholds[thresholds == thresholds[:, -1:]] = np.inf  # choices of probability 0 at the end are never taken
    return (rng.random((len(probabilities), 1)) >= thresholds).sum(axis=1)


def _checked(score: Score, rule: str) -> Score:
    if isinstance(score, Behavior) or not callable(score):
        raise ValueError(f"{rule}(...) needs a score such as q; {score!r} is none")
    return score


class Argmax(Behavior):
    """The candidate with the best score, the first one on ties (QMP, definition 4.2).

    :param score: function of proposals, ``(slots, candidates)``
    """

    def __init__(self, score: Score) -> None:
        self.score = _checked(score, "argmax")

    def __repr__(self) -> str:
        return f"argmax({self.score!r})"

    def choose(self, proposals: Proposals) -> np.ndarray:
        if proposals.candidates == 1:
            return proposals.tasks
        return self.score(proposals).numpy(force=True).argmax(axis=1)


class Softmax(Behavior):
    """Candidate j with probability proportional to exp(score_j / T) (QMP, appendix G.1).

    :param temperature: T, positive; towards 0 this becomes :class:`Argmax`
    :param score: function of proposals, ``(slots, candidates)``
    """

    def __init__(self, temperature: float, score: Score) -> None:
        if not temperature > 0:
            raise ValueError(
                f"the temperature of softmax is {temperature}; it must be positive (argmax is its limit at 0)"
            )
        self.temperature, self.score = float(temperature), _checked(score, "softmax")

    def __repr__(self) -> str:
        return f"softmax({self.temperature:g}, {self.score!r})"

    def choose(self, proposals: Proposals) -> np.ndarray:
        probabilities = th.softmax(self.score(proposals).double() / self.temperature, dim=1)
        return categorical(probabilities.numpy(force=True), proposals.rng)


def identity_table(n_tasks: int, task_set: TaskSet | None = None) -> np.ndarray:
    """Every task's own policy: no behavior sharing."""
    return np.eye(n_tasks)


def uniform_table(n_tasks: int, task_set: TaskSet | None = None) -> np.ndarray:
    """Every policy alike (QMP-Uniform)."""
    return np.full((n_tasks, n_tasks), 1.0 / n_tasks)


#: name -> function of the number of tasks and the task set, giving ``(tasks, tasks)``
TABLES: dict[str, Callable[[int, TaskSet | None], np.ndarray]] = {
    "self": identity_table,
    "uniform": uniform_table,
    "domain": domain_table,
}


class Table(Behavior):
    """Candidate j acts for task i with a probability known beforehand.

    :param probabilities: ``"self"`` (no sharing), ``"uniform"`` (QMP-Uniform), ``"domain"`` (QMP-Domain: tasks that
        share a segment of their way, appendix D.1), or a matrix ``(tasks, tasks)`` whose rows sum to one
    """

    def __init__(self, probabilities: str | Sequence[Sequence[float]]) -> None:
        if isinstance(probabilities, str) and probabilities not in TABLES:
            raise ValueError(f"table({probabilities!r}): the known tables are {', '.join(TABLES)}")
        self.probabilities = probabilities

    def __repr__(self) -> str:
        known = self.probabilities
        return known if isinstance(known, str) else f"table({np.asarray(known).round(6).tolist()})"

    def bind(self, n_tasks: int, task_set: TaskSet | None = None) -> None:
        if isinstance(self.probabilities, str):
            matrix = TABLES[self.probabilities](n_tasks, task_set)
        else:
            matrix = np.asarray(self.probabilities, dtype=np.float64)
        if matrix.shape != (n_tasks, n_tasks):
            raise ValueError(
                f"the behavior's table has shape {matrix.shape}; {n_tasks} tasks need {(n_tasks, n_tasks)}"
            )
        if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1.0):
            raise ValueError(
                f"the rows of the behavior's table must be non-negative and sum to 1; they sum to {matrix.sum(axis=1)}"
            )
        self.matrix = matrix
        self._is_identity = bool((matrix == np.eye(n_tasks)).all())

    def choose(self, proposals: Proposals) -> np.ndarray:
        if self._is_identity:
            return proposals.tasks
        return categorical(self.matrix[proposals.tasks], proposals.rng)
