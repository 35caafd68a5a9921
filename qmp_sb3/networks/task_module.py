"""The networks part: which parameters does task i see?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch as th
from torch import nn


class TaskModule(nn.Module, ABC):
    """A function approximator indexed by task.

    :param n_in: size of the input
    :param n_out: size of the output
    :param n_tasks: number of tasks
    :param copies: independent copies of the whole module (two for twin critics)
    """

    #: False where the output is the same for all tasks: then there is no policy of another task to act with
    knows_tasks: ClassVar[bool] = True

    def __init__(self, n_in: int, n_out: int, n_tasks: int, copies: int = 1) -> None:
        super().__init__()
        self.n_in, self.n_out, self.n_tasks, self.copies = n_in, n_out, n_tasks, copies

    @abstractmethod
    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        """Each block of rows through the parameters of its task.

        :param inputs: ``(tasks, batch, n_in)``
        :param tasks: the task of each block, None for all tasks in order
        :param copies: how many of the copies to evaluate, from the first; None for all
        :return: ``(copies, tasks, batch, n_out)``
        """

    @abstractmethod
    def every(self, inputs: th.Tensor) -> th.Tensor:
        """All rows through the parameters of every task.

        :param inputs: ``(batch, n_in)``
        :return: ``(copies, tasks, batch, n_out)``
        """
