"""What a hook is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch as th

from qmp_sb3.replay import Batch

if TYPE_CHECKING:
    from qmp_sb3.algorithms.sac import MultiTaskSAC


class Hook(ABC):
    """Something that happens between updates. It is saved with the model, with all that it remembers."""

    #: whether the hook wants to be asked in every gradient step, which PyTorch computes then
    looks_into_updates: ClassVar[bool] = False

    def bind(self, model: MultiTaskSAC) -> None:
        """Check that the model is one that the hook is made for; called when the model is built.

        :raises ValueError: if it is not
        """

    def task_factor(self, model: MultiTaskSAC, critic_losses: th.Tensor) -> th.Tensor | float:
        """A factor on how much each task counts in this gradient step, ``(tasks,)``; with ``looks_into_updates``.

        :param critic_losses: ``(tasks,)``
        """
        return 1.0

    def after_update(self, model: MultiTaskSAC, batch: Batch, losses: th.Tensor) -> None:
        """Called at the end of every gradient step; with ``looks_into_updates``.

        :param batch: what was learned from
        :param losses: temperature, critic and actor loss of each task, ``(3, tasks)``
        """

    @abstractmethod
    def after_updates(self, model: MultiTaskSAC) -> None:
        """Called at the end of ``train()``."""
