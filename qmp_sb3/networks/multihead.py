"""Multi-head networks: one trunk for all tasks, and one linear layer per task on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.task_module import TaskModule


class MultiheadMLP(TaskModule):
    """A shared trunk of hidden layers that is not told the task, and a linear head for each task ("Parameters" in the
    QMP paper's section 6.2).

    :param n_in: size of the input
    :param n_out: size of each head's output
    :param n_tasks: number of tasks
    :param hidden: widths of the trunk's layers, at least one
    :param copies: independent copies of the whole module
    :param settings: as for :class:`~qmp_sb3.networks.independent.IndependentMLP`: ``activation_fn``,
        ``initialization``, ``generator``
    """

    def __init__(
        self, n_in: int, n_out: int, n_tasks: int, hidden: Sequence[int], copies: int = 1, **settings: Any
    ) -> None:
        if not hidden:
            raise ValueError("multihead networks need a hidden layer that the tasks share; net_arch is empty")
        super().__init__(n_in, n_out, n_tasks, copies)
        self.trunk = IndependentMLP(n_in, hidden[-1], 1, hidden[:-1], copies, **settings)
        self.heads = IndependentMLP(hidden[-1], n_out, n_tasks, (), copies, **settings)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        features = self._features(inputs.flatten(0, 1), copies)  # (copies, tasks * batch, width)
        blocks = features.view(-1, inputs.shape[1], features.shape[-1])  # (copies * tasks, batch, width)
        return self.heads.stacked(blocks, tasks, len(features))

    def every(self, inputs: th.Tensor) -> th.Tensor:
        features = self._features(inputs, None)  # (copies, batch, width)
        return self.heads.stacked(features.repeat_interleave(self.n_tasks, dim=0), None, len(features))

    def own_parameters(self) -> list[nn.Parameter]:
        return self.heads.own_parameters()

    def _features(self, rows: th.Tensor, copies: int | None) -> th.Tensor:
        return self.trunk.activation(self.trunk(rows[None], copies=copies)[:, 0])
