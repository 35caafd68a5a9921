"""Shared networks: all tasks use one multilayer perceptron, with or without being told which task it is."""

from __future__ import annotations

from typing import Any

import torch as th

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.task_module import TaskModule


class SharedMLP(TaskModule):
    """One perceptron for all tasks, which is not told the task (fully shared, QMP section 6.2).

    :param n_in: size of the input
    :param n_out: size of the output
    :param n_tasks: number of tasks
    :param copies: independent copies of the whole module
    :param settings: those of :class:`~qmp_sb3.networks.independent.IndependentMLP`: ``hidden``, ``activation_fn``,
        ``initialization``, ``generator``
    """

    knows_tasks = False

    def __init__(self, n_in: int, n_out: int, n_tasks: int, copies: int = 1, **settings: Any) -> None:
        super().__init__(n_in, n_out, n_tasks, copies)
        self.shared = IndependentMLP(n_in, n_out, 1, copies=copies, **settings)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        return self.shared(inputs.flatten(0, 1)[None], copies=copies).view(-1, *inputs.shape[:2], self.n_out)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.shared(inputs[None]).expand(-1, self.n_tasks, -1, -1)


class OneHotMLP(TaskModule):
    """One perceptron for all tasks, which reads the task as a one-hot vector after its input (MTSAC).

    Arguments as for :class:`SharedMLP`.
    """

    def __init__(self, n_in: int, n_out: int, n_tasks: int, copies: int = 1, **settings: Any) -> None:
        super().__init__(n_in, n_out, n_tasks, copies)
        self.shared = SharedMLP(n_in + n_tasks, n_out, n_tasks, copies, **settings)
        self.one_hot: th.Tensor
        self.register_buffer("one_hot", th.eye(n_tasks), persistent=False)  # (tasks, tasks)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        one_hot = self.one_hot if tasks is None else self.one_hot[tasks.to(self.one_hot.device)]
        told = one_hot[:, None].expand(-1, inputs.shape[1], -1)
        return self.shared(th.cat([inputs, told], dim=-1), copies=copies)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.forward(inputs.expand(self.n_tasks, *inputs.shape))
