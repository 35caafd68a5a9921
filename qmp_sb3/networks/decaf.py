"""DECAF: every task's action value is a learned mixture of all tasks' action values."""

from __future__ import annotations

from dataclasses import replace

import torch as th
from torch import nn

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule


class DecafMixture(TaskModule):
    """Q~_i(s, a) = sum_j w_ij(s, a) Q_j(s, a) with w_i = softmax(MLP_i(s, a)) (DECAF; QMP, appendix E.5).

    A loss of task i trains Q_i and its mixer; the other tasks' Q_j are read only, though the gradient with respect to
    the action passes through them. A target network is a copy of the whole module: all Q_j in it follow.

    :param spec: ``hidden`` are the layers of the critics and of the mixers
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.values = IndependentMLP(spec)
        self.mixers = IndependentMLP(replace(spec, n_out=spec.n_tasks))
        self.same_task: th.Tensor
        self.register_buffer("same_task", th.eye(spec.n_tasks, dtype=th.bool), persistent=False)  # (tasks, tasks)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        weights = self.mixers(inputs, tasks, copies).softmax(dim=-1)  # (copies, tasks, batch, tasks)
        every = self.values.every_constant(inputs.flatten(0, 1), len(weights))
        every = every.view(len(weights), self.n_tasks, *inputs.shape[:2], self.n_out).permute(0, 2, 3, 1, 4)
        if th.is_grad_enabled() and next(self.values.parameters()).requires_grad:
            own = self.values(inputs, tasks, copies)  # (copies, tasks, batch, out)
            is_own = self.same_task if tasks is None else self.same_task[tasks.to(self.same_task.device)]
            every = th.where(is_own[:, None, :, None], own[..., None, :], every)
        return (weights[..., None] * every).sum(dim=-2)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.forward(inputs.expand(self.n_tasks, *inputs.shape))

    def own_parameters(self) -> list[nn.Parameter]:
        return list(self.parameters())
