"""How many transitions of each task go into a batch: own, equal, pooled or by priority."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from qmp_sb3.replay.water_filling import water_filling, whole
from qmp_sb3.serialization.tags import vocabulary


class Allocation(ABC):
    """How a batch is divided among the tasks."""

    #: whether the tasks' transitions compete with each other, so that new ones get the largest priority of all
    together: ClassVar[bool] = False
    #: whether it divides by priorities, so that transitions must have some
    needs_priorities: ClassVar[bool] = False
    #: whether its importance weights are about the tasks too, which needs rows that count alike whatever their task
    weighs_tasks: bool = False
    #: whether the native update has it
    compiled: ClassVar[bool] = False

    def bind(self, batch_size: int, n_tasks: int) -> None:
        """Check that a batch can be divided like this; called when the model is built.

        :raises ValueError: if it cannot
        """

    @abstractmethod
    def counts(self, batch_size: int, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transitions of each task, ``(tasks,)``.

        :param batch_size: the model's, per task
        :param masses: what each task has, ``(tasks,)``, not all zero: the number of its transitions, or the sum of
            their priorities where they have some
        :param rng: source of random counts
        """

    def shares(self, counts: np.ndarray, masses: np.ndarray) -> np.ndarray | None:
        """Probability of each task, ``(tasks,)``, where importance weights correct the choice among all tasks'
        transitions; None where they correct each task's own choice only.

        :param counts: as drawn, ``(tasks,)``
        :param masses: as for :meth:`counts`
        """
        return None


class Own(Allocation):
    """``batch_size`` of each task: as many separate learners would take."""

    compiled = True

    def __repr__(self) -> str:
        return "own"

    def counts(self, batch_size: int, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(masses > 0, batch_size, 0)


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

    def of_all(self, batch_size: int, n_tasks: int) -> int:
        """Transitions in a batch, all tasks together."""
        return batch_size * n_tasks if self.total is None else self.total


class Equal(_Total):
    """The same number of each task, ``total // tasks``: with ``total=None`` the same as :class:`Own`."""

    compiled = True

    def counts(self, batch_size: int, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        each = max(1, self.of_all(batch_size, len(masses)) // len(masses))
        return np.where(masses > 0, each, 0)


class Pool(_Total):
    """Drawn from all transitions together, as from one buffer: tasks get random numbers of rows, perhaps none."""

    together = True

    def counts(self, batch_size: int, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.multinomial(self.of_all(batch_size, len(masses)), masses / masses.sum())

    def shares(self, counts: np.ndarray, masses: np.ndarray) -> np.ndarray:
        return masses / masses.sum()


class Mass(_Total):
    """In proportion to the tasks' sums of priorities, within limits: k_i = clip(K P_i / sum_j P_j, k_min, k_max) with
    sum_i k_i = K (TA-PER: Shared-Unique Features, equation 5).

    What the limits take or give is divided among the other tasks, again in proportion, and fractions go to the largest
    remainders (:mod:`qmp_sb3.replay.water_filling`). Tasks without transitions get none; limits that the others cannot
    keep then, or that a smaller batch than the model's cannot keep, widen to the equal share.

    :param total: K, all tasks together; None for ``batch_size`` per task
    :param k_min: fewest rows of a task; None for a quarter of the equal share, K / 4N
    :param k_max: most rows of a task; None for half of the batch, K / 2
    :param importance: ``"task"``: importance weights correct the choice within each task, since more rows of a task are
        the method's purpose; ``"global"``: that among the tasks too, for ``task_weights="mean"``
    """

    together = True
    needs_priorities = True

    def __init__(
        self,
        total: int | None = None,
        k_min: int | None = None,
        k_max: int | None = None,
        importance: str = "task",
    ) -> None:
        super().__init__(total)
        for name, value, least in (("k_min", k_min, 0), ("k_max", k_max, 1)):
            if value is not None and (value != int(value) or value < least):
                raise ValueError(f"mass({name}={value}): a task has a whole number of rows, {name} is at least {least}")
        if k_min is not None and k_max is not None and k_min > k_max:
            raise ValueError(f"mass(k_min={k_min}, k_max={k_max}): k_min is at most k_max")
        if importance not in ("task", "global"):
            raise ValueError(f"mass(importance={importance!r}) is unknown; known: 'task', 'global'")
        self.k_min, self.k_max, self.importance = k_min, k_max, importance
        self.weighs_tasks = importance == "global"

    def __repr__(self) -> str:
        given = [] if self.total is None else [str(self.total)]
        given += [f"{name}={getattr(self, name)}" for name in ("k_min", "k_max") if getattr(self, name) is not None]
        given += [] if self.importance == "task" else [f"importance={self.importance!r}"]
        return f"mass({', '.join(given)})" if given else "mass"

    def bind(self, batch_size: int, n_tasks: int) -> None:
        rows = self.of_all(batch_size, n_tasks)
        batch = f"a batch of {n_tasks} task(s) has {rows} rows"
        if self.k_min is not None and self.k_min * n_tasks > rows:
            raise ValueError(f"replay={self!r}: {batch}, k_min is at most {rows // n_tasks}")
        if self.k_max is not None and self.k_max * n_tasks < rows:
            raise ValueError(f"replay={self!r}: {batch}, k_max is at least {-(-rows // n_tasks)}")

    def limits(self, rows: int, n_tasks: int) -> tuple[int, int]:
        """k_min and k_max for a batch of ``rows``, as far as they can be kept by ``n_tasks`` tasks."""
        k_min = rows // (4 * n_tasks) if self.k_min is None else self.k_min
        k_max = rows // 2 if self.k_max is None else self.k_max
        return min(k_min, rows // n_tasks), max(k_max, -(-rows // n_tasks))

    def counts(self, batch_size: int, masses: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows, there = self.of_all(batch_size, len(masses)), np.flatnonzero(masses)
        counts = np.zeros(len(masses), dtype=np.int64)
        counts[there] = whole(water_filling(masses[there], rows, *self.limits(rows, len(there))))
        return counts

    def shares(self, counts: np.ndarray, masses: np.ndarray) -> np.ndarray | None:
        return counts / counts.sum() if self.weighs_tasks else None


#: word -> class
ALLOCATIONS: dict[str, type[Allocation]] = vocabulary(
    "replay", Allocation, {"own": Own, "equal": Equal, "pool": Pool, "mass": Mass}
)
