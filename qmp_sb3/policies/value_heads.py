"""Value heads: what the outputs of a critic network say about the return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th

from qmp_sb3.objectives.losses import absolute_errors, bellman_target, critic_loss


class ValueHead(ABC):
    """Action values, targets and losses from the outputs of the critics, ``(critics, tasks, batch, n_outputs)``."""

    #: whether the compiled library has this head
    compiled: ClassVar[bool] = False
    #: width of the network's last layer
    n_outputs: int

    @abstractmethod
    def values(self, outputs: th.Tensor) -> th.Tensor:
        """Expected returns, ``(..., n_outputs)`` to ``(...)``."""

    @abstractmethod
    def targets(
        self, next_outputs: th.Tensor, rewards: th.Tensor, discounts: th.Tensor, bonuses: th.Tensor
    ) -> th.Tensor:
        """What the critics are to say of a step, from what the target critics say of the next one.

        :param next_outputs: of the target critics at a' ~ pi(.|s'), ``(critics, tasks, batch, n_outputs)``
        :param rewards: ``(tasks, batch)``
        :param discounts: gamma, zero where the next state is terminal, ``(tasks, batch)``
        :param bonuses: what is added to the next state's value, such as its entropy, ``(tasks, batch)``
        :return: ``(tasks, batch, ...)``
        """

    @abstractmethod
    def losses(self, outputs: th.Tensor, targets: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
        """The critics' loss of each task, ``(tasks,)``.

        :param targets: as :meth:`targets` gives them
        :param weights: of the transitions in the mean of their task, ``(tasks, batch)``; None where all count alike
        """

    @abstractmethod
    def errors(self, outputs: th.Tensor, targets: th.Tensor) -> th.Tensor:
        """The size of the error at each transition, ``(tasks, batch)``, of which priorities are made."""


class Scalar(ValueHead):
    """One number, the expected return itself."""

    compiled = True
    n_outputs = 1

    def __repr__(self) -> str:
        return "scalar"

    def values(self, outputs: th.Tensor) -> th.Tensor:
        return outputs.squeeze(-1)

    def targets(
        self, next_outputs: th.Tensor, rewards: th.Tensor, discounts: th.Tensor, bonuses: th.Tensor
    ) -> th.Tensor:
        return bellman_target(rewards, discounts, self.values(next_outputs), bonuses)

    def losses(self, outputs: th.Tensor, targets: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
        return critic_loss(self.values(outputs), targets, weights)

    def errors(self, outputs: th.Tensor, targets: th.Tensor) -> th.Tensor:
        return absolute_errors(self.values(outputs), targets)


#: word -> class
VALUE_HEADS: dict[str, type[ValueHead]] = {"scalar": Scalar}
