"""Multi-head networks: one trunk for all tasks, and one linear layer per task on top of it."""

from __future__ import annotations

from dataclasses import replace

import torch as th
from torch import nn

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule


class MultiheadMLP(TaskModule):
    """A shared trunk of hidden layers that is not told the task, and a linear head for each task ("Parameters" in the
    QMP paper's section 6.2).

    :param spec: ``hidden`` are the trunk's layers, at least one
    """

    def __init__(self, spec: NetworkSpec) -> None:
        if not spec.hidden:
            raise ValueError("multihead networks need a hidden layer that the tasks share; net_arch is empty")
        super().__init__(spec)
        *before, width = spec.hidden
        self.trunk = IndependentMLP(replace(spec, n_out=width, n_tasks=1, hidden=before))
        self.heads = IndependentMLP(replace(spec, n_in=width, hidden=()))

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
