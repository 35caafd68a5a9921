"""Wrappers of a behavior: when does the rule inside decide, and over which candidates?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from qmp_envs.task_set import TaskSet
from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.fixed import FixedPolicies
from qmp_sb3.behaviors.proposals import Proposals
from qmp_sb3.learner import Learner


class Wrapper(Behavior):
    """A behavior around a behavior, which it leaves as it is.

    :param inner: the behavior inside
    """

    #: whether what the behavior inside decided may be replaced while its decision lasts
    interrupts: ClassVar[bool] = False

    def __init__(self, inner: Behavior) -> None:
        wrapper = type(self).__name__.lower()
        if not isinstance(inner, Behavior):
            raise ValueError(f"{wrapper}(...) wraps a behavior; {inner!r} is none, did you mean argmax({inner!r})?")
        if self.interrupts and inner.columns():
            raise ValueError(
                f"{wrapper}(..., {inner!r}): the behavior inside learns from the steps that it directs itself; "
                f"leave {wrapper} out"
            )
        self.inner = inner

    def bind(self, n_tasks: int, task_set: TaskSet | None = None) -> None:
        self.inner.bind(n_tasks, task_set)

    def attach(self, learner: Learner) -> None:
        self.inner.attach(learner)

    def learn(self, learner: Learner) -> None:
        self.inner.learn(learner)

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        return self.inner.columns()

    def staged(self) -> dict[str, np.ndarray]:
        return self.inner.staged()

    def fixed_policies(self) -> tuple[FixedPolicies, ...]:
        return self.inner.fixed_policies()

    def restart(self, n_slots: int) -> None:
        self.inner.restart(n_slots)

    def ended(self, dones: np.ndarray) -> None:
        self.inner.ended(dones)


class Hold(Wrapper):
    """Decides every H steps and when an episode begins; between, the chosen policy goes on acting (H-step QMP,
    appendix E.6). Each state still gets a fresh action of it. The rule inside is asked for all slots whenever one of
    them is due, and only the due ones follow.

    :param steps: H, in environment steps of one slot
    :param inner: the behavior that decides
    """

    interrupts = True

    def __init__(self, steps: int, inner: Behavior) -> None:
        if isinstance(steps, Behavior) or steps != int(steps) or steps < 1:
            raise ValueError(f"hold({steps}, ...): a choice is held for a whole number of steps, at least 1")
        super().__init__(inner)
        self.steps = int(steps)

    def __repr__(self) -> str:
        return f"hold({self.steps}, {self.inner!r})"

    def restart(self, n_slots: int) -> None:
        self._held = np.zeros(n_slots, dtype=np.int64)
        self._left = np.zeros(n_slots, dtype=np.int64)  # steps for which the choice still holds
        self.inner.restart(n_slots)

    def ended(self, dones: np.ndarray) -> None:
        self._left[dones] = 0
        super().ended(dones)

    def choose(self, proposals: Proposals) -> np.ndarray:
        due = self._left == 0
        if due.any():
            self._held = np.where(due, self.inner.choose(proposals), self._held)
            self._left[due] = self.steps
        self._left -= 1
        return self._held


class Own(Wrapper):
    """The task's own policy with probability p, else what the rule inside chooses (QMP on MT10, appendix H.5).

    :param probability: p, per decision
    :param inner: the behavior that decides otherwise
    """

    interrupts = True

    def __init__(self, probability: float, inner: Behavior) -> None:
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"own({probability}, ...): a probability lies in [0, 1]")
        super().__init__(inner)
        self.probability = float(probability)

    def __repr__(self) -> str:
        return f"own({self.probability:g}, {self.inner!r})"

    def choose(self, proposals: Proposals) -> np.ndarray:
        keep = proposals.rng.random(len(proposals.tasks)) < self.probability
        return np.where(keep, proposals.tasks, self.inner.choose(proposals))


class Warmup(Wrapper):
    """The task's own policy for the first steps of training, then the rule inside (QMP, appendix H.5).

    :param steps: environment steps, all tasks together
    :param inner: the behavior that decides afterwards
    """

    def __init__(self, steps: float, inner: Behavior) -> None:
        if steps < 0:
            raise ValueError(f"warmup({steps}, ...): the number of steps is negative")
        super().__init__(inner)
        self.steps = float(steps)

    def __repr__(self) -> str:
        return f"warmup({self.steps:g}, {self.inner!r})"

    def choose(self, proposals: Proposals) -> np.ndarray:
        return proposals.tasks if proposals.num_timesteps < self.steps else self.inner.choose(proposals)


class Also(Wrapper):
    """More candidates than the tasks' own policies: fixed ones, after them in order (QMP, section 5.2).

    :param inner: the behavior that decides
    :param policies: the fixed candidates, ``gaussian(...)`` or ``load(...)``; one needs no list
    """

    def __init__(self, inner: Behavior, policies: FixedPolicies | Sequence[FixedPolicies]) -> None:
        super().__init__(inner)
        self.policies = (policies,) if isinstance(policies, FixedPolicies) else tuple(policies)
        for policy in self.policies:
            if not isinstance(policy, FixedPolicies):
                raise ValueError(f"also(...) adds fixed policies, gaussian(...) or load(...); {policy!r} is none")

    def __repr__(self) -> str:
        return f"also({self.inner!r}, [{', '.join(map(repr, self.policies))}])"

    def fixed_policies(self) -> tuple[FixedPolicies, ...]:
        return self.inner.fixed_policies() + self.policies

    def choose(self, proposals: Proposals) -> np.ndarray:
        return self.inner.choose(proposals)
