"""What a hook is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th

from qmp_sb3.learner import Learner
from qmp_sb3.replay import Batch


class Hook(ABC):
    """Something that happens between updates. It is saved with the learner, with all that it remembers."""

    #: whether the hook wants to be asked in every gradient step, which PyTorch computes then
    looks_into_updates: ClassVar[bool] = False

    def bind(self, learner: Learner) -> None:
        """Check that the model is one that the hook is made for; called when the model is built.

        :raises ValueError: if it is not
        """

    def task_factor(self, learner: Learner, critic_losses: th.Tensor) -> th.Tensor | float:
        """A factor on how much each task counts in this gradient step, ``(tasks,)``; with ``looks_into_updates``.

        :param critic_losses: ``(tasks,)``
        """
        return 1.0

    def after_update(self, learner: Learner, batch: Batch, critic_losses: th.Tensor) -> None:
        """Called at the end of every gradient step; with ``looks_into_updates``.

        :param batch: what was learned from
        :param critic_losses: ``(tasks,)``
        """

    @abstractmethod
    def after_updates(self, learner: Learner) -> None:
        """Called at the end of ``train()``."""
