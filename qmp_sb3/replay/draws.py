"""Which of a task's transitions go into a batch: uniformly drawn, or by priority."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from qmp_sb3.replay.priorities import Priorities
from qmp_sb3.serialization.tags import vocabulary


class Draw(ABC):
    """How the transitions of a batch are drawn."""

    #: whether every transition has a priority
    prioritized: ClassVar[bool] = False
    #: exponent of the importance weights of what is drawn
    beta: float = 1.0
    #: whether the native update has it
    compiled: ClassVar[bool] = False

    def anneal(self, remaining: float) -> None:
        """Be told, before updates, how much of the training remains.

        :param remaining: from 1 at the beginning to 0 at the end
        """

    def measures(self) -> dict[str, float]:
        """What is logged of it, by name."""
        return {}

    @abstractmethod
    def make_priorities(self, known: Priorities | None, written: np.ndarray, rows: int) -> Priorities | None:
        """The priorities that a replay buffer is to keep, None for none.

        :param known: those that it has
        :param written: transitions of each task that it has, ``(tasks,)``
        :param rows: size of a task's ring
        """


class Uniform(Draw):
    """Every transition of a task is as likely as any other."""

    compiled = True

    def __repr__(self) -> str:
        return "uniform"

    def make_priorities(self, known: Priorities | None, written: np.ndarray, rows: int) -> None:
        return None


class Prioritized(Draw):
    """Proportional prioritized replay (Schaul et al., 2016, section 3): transition m is drawn with probability
    P(m) = p_m^alpha / sum_j p_j^alpha, and its critic's loss is weighted by (1 / (n P(m)))^beta, divided by the batch's
    largest weight.

    p = |delta| + epsilon with the error of the last update that it was in; new transitions have the largest priority
    that there is. ``beta`` grows linearly to 1 until the end of training.

    :param alpha: in [0, 1]; 0 draws uniformly
    :param beta: at the beginning, in [0, 1]; 1 corrects the choice fully
    :param epsilon: priority of a transition without error, above 0
    """

    prioritized = True

    def __init__(self, alpha: float = 0.6, beta: float = 0.4, epsilon: float = 1e-6) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not 0.0 <= value <= 1.0:
                near = min(max(value, 0.0), 1.0)
                raise ValueError(f"per({name}={value:g}): {name} is in [0, 1]; the nearest is {near:g}")
        if not epsilon > 0.0:
            raise ValueError(f"per(epsilon={epsilon:g}): epsilon is above 0, or some transitions are never drawn again")
        self.alpha, self.first_beta, self.epsilon = float(alpha), float(beta), float(epsilon)
        self.remaining = 1.0

    def __repr__(self) -> str:
        last = "" if self.epsilon == 1e-6 else f", {self.epsilon:g}"
        return f"per({self.alpha:g}, {self.first_beta:g}{last})"

    @property
    def beta(self) -> float:  # type: ignore[override]
        """As far as it has come."""
        return 1.0 - (1.0 - self.first_beta) * self.remaining

    def anneal(self, remaining: float) -> None:
        self.remaining = min(max(float(remaining), 0.0), 1.0)

    def measures(self) -> dict[str, float]:
        return {"beta": self.beta}

    def make_priorities(self, known: Priorities | None, written: np.ndarray, rows: int) -> Priorities:
        if known is None:
            return Priorities(rows, written, self.alpha, self.epsilon)
        known.follow(self.alpha, self.epsilon)
        return known


#: word -> class
DRAWS: dict[str, type[Draw]] = vocabulary("draw", Draw, {"uniform": Uniform, "per": Prioritized})
