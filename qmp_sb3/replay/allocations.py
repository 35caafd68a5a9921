"""How many transitions of each task go into a batch: own, equal or pooled."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np


class Allocation(ABC):
    """How a batch is divided among the tasks."""

    @abstractmethod
    def counts(self, batch_size: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transitions of each task, ``(tasks,)``.

        :param batch_size: the model's, per task
        :param sizes: transitions that each task has, ``(tasks,)``, not all zero
        :param rng: source of random counts
        """


class Own(Allocation):
    """``batch_size`` of each task: as many separate learners would take."""

    def __repr__(self) -> str:
        return "own"

    def counts(self, batch_size: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(sizes > 0, batch_size, 0)


class _Total(Allocation):
    """An allocation of one number of transitions among all tasks.

    :param total: transitions in a batch, all tasks together; None for ``batch_size`` per task
    """

    def __init__(self, total: int | None = None) -> None:
        if total is not None and (total != int(total) or total < 1):
            raise ValueError(f"{type(self).__name__.lower()}({total}): a batch has a whole number of rows, at least 1")
        self.total = None if total is None else int(total)

    def __repr__(self) -> str:
        name = type(self).__name__.lower()
        return name if self.total is None else f"{name}({self.total})"


class Equal(_Total):
    """The same number of each task, ``total // tasks``: with ``total=None`` the same as :class:`Own`."""

    def counts(self, batch_size: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        each = batch_size if self.total is None else max(1, self.total // len(sizes))
        return np.where(sizes > 0, each, 0)


class Pool(_Total):
    """Drawn from all transitions alike, as from one buffer: tasks get random numbers of rows, perhaps none."""

    def counts(self, batch_size: int, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        total = batch_size * len(sizes) if self.total is None else self.total
        return rng.multinomial(total, sizes / sizes.sum())


#: word -> class
ALLOCATIONS: dict[str, type[Allocation]] = {"own": Own, "equal": Equal, "pool": Pool}
