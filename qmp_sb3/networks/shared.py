"""Shared networks: all tasks use one multilayer perceptron, with or without being told which task it is."""

from __future__ import annotations

from dataclasses import replace

import torch as th

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule


class SharedMLP(TaskModule):
    """One perceptron for all tasks, which is not told the task (fully shared, QMP section 6.2).

    :param spec: sizes, and how the layers look and start
    """

    knows_tasks = False

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.shared = IndependentMLP(replace(spec, n_tasks=1))

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        return self.shared(inputs.flatten(0, 1)[None], copies=copies).view(-1, *inputs.shape[:2], self.n_out)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.shared(inputs[None]).expand(-1, self.n_tasks, -1, -1)


class OneHotMLP(TaskModule):
    """One perceptron for all tasks, which reads the task as a one-hot vector after its input (MTSAC).

    :param spec: sizes, and how the layers look and start; ``n_in`` is without the one-hot vector
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.shared = SharedMLP(replace(spec, n_in=spec.n_in + spec.n_tasks))
        self.one_hot: th.Tensor
        self.register_buffer("one_hot", th.eye(spec.n_tasks), persistent=False)  # (tasks, tasks)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        one_hot = self.one_hot if tasks is None else self.one_hot[tasks.to(self.one_hot.device)]
        told = one_hot[:, None].expand(-1, inputs.shape[1], -1)
        return self.shared(th.cat([inputs, told], dim=-1), copies=copies)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.forward(inputs.expand(self.n_tasks, *inputs.shape))
