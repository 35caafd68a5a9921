"""The behavior part: whose policy acts now?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from qmp_sb3.learner import Learner

if TYPE_CHECKING:
    from qmp_envs.task_set import TaskSet
    from qmp_sb3.behaviors.fixed import FixedPolicies
    from qmp_sb3.behaviors.proposals import Proposals


class Behavior(ABC):
    """Chooses a candidate policy for every slot, and counts who acted for whom.

    A behavior is an expression, ``hold(25, argmax(q))``: a score, a rule, wrappers around it. Its ``repr``
    is that expression, which stands in a saved model beside the attributes (:mod:`qmp_sb3.serialization.encoding`).
    """

    #: ``counts[i, j]``: environment steps of task i in which candidate j acted, since the last :meth:`start`
    counts: np.ndarray

    def bind(self, n_tasks: int, task_set: TaskSet | None = None) -> None:
        """Check and prepare for a number of tasks; called once, when the model is built.

        :param n_tasks: number of tasks
        :param task_set: the environment's task set, where it is one of ours
        :raises ValueError: if the behavior does not suit the tasks
        """

    def attach(self, learner: Learner) -> None:
        """Check the learner, and make what its observations and networks decide; called whenever a model is built.

        :raises ValueError: if the behavior does not suit the model
        """

    def learn(self, learner: Learner) -> None:
        """Called at the end of ``train()``, for behaviors that learn."""

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        """What the replay buffer keeps of each transition for :meth:`learn`, name -> shape."""
        return {}

    def staged(self) -> dict[str, np.ndarray]:
        """These columns ``(slots, ...)`` of the step just made, once."""
        return {}

    def fixed_policies(self) -> tuple[FixedPolicies, ...]:
        """Candidates besides the tasks' own policies."""
        return ()

    def n_fixed(self) -> int:
        """How many those are."""
        return sum(group.count for group in self.fixed_policies())

    def start(self, n_tasks: int, n_slots: int) -> None:
        """All slots begin an episode; the counts begin anew."""
        self.counts = np.zeros((n_tasks, n_tasks + self.n_fixed()), dtype=np.int64)
        self.restart(n_slots)

    def restart(self, n_slots: int) -> None:
        """All slots begin an episode."""
        self.ended(np.ones(n_slots, dtype=bool))

    def ended(self, dones: np.ndarray) -> None:
        """Episodes ended in the slots of the mask ``dones``, ``(slots,)``."""

    @abstractmethod
    def choose(self, proposals: Proposals) -> np.ndarray:
        """Index of the candidate that acts in each slot, ``(slots,)``."""

    def __call__(self, proposals: Proposals) -> np.ndarray:
        """:meth:`choose`, counted; without gradients (``torch.no_grad``), of which choosing needs none."""
        proposals.fixed = self.fixed_policies()
        chosen = self.choose(proposals)
        np.add.at(self.counts, (proposals.tasks, chosen), 1)
        return chosen

    def mixture(self) -> np.ndarray:
        """Share of task i's steps in which candidate j acted, ``(tasks, candidates)``; NaN rows without steps."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, totals, out=np.full(self.counts.shape, np.nan), where=totals > 0)
