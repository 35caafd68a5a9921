"""Independent networks: one multilayer perceptron per task, stacked so that one batched product serves all tasks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from torch import nn

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.native.perceptrons import NativePerceptrons
from qmp_sb3.networks.initialization import INITIALIZATIONS
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.stacked_linear import stacked_linear
from qmp_sb3.networks.task_module import PolicyHead, TaskModule

FEW_ROWS = 16  # rows per network up to which NumPy is the faster one on a CPU


def _relu_(hidden: np.ndarray) -> None:
    np.maximum(hidden, 0.0, out=hidden)


def _tanh_(hidden: np.ndarray) -> None:
    np.tanh(hidden, out=hidden)


#: activation -> the same in NumPy, in place
NUMPY_ACTIVATIONS: dict[type[nn.Module], Callable[[np.ndarray], None]] = {nn.ReLU: _relu_, nn.Tanh: _tanh_}


def _forward_numpy(
    hidden: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]], activation: Callable[[np.ndarray], None]
) -> np.ndarray:
    """What PyTorch would do, on the same memory: with a few rows, starting operations is most of the time."""
    for weight, bias in layers[:-1]:
        hidden = np.matmul(hidden, weight)
        hidden += bias
        activation(hidden)
    return np.matmul(hidden, layers[-1][0]) + layers[-1][1]


class IndependentMLP(TaskModule):
    """``copies x n_tasks`` separate perceptrons; stacked weights, copy-major: ``(copies * tasks, in, out)``.

    :param spec: sizes, and how the layers look and start
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.activation = nn.ReLU(inplace=True) if spec.activation_fn is nn.ReLU else spec.activation_fn()
        if any(True for _ in self.activation.parameters()):
            raise ValueError(f"activation_fn={spec.activation_fn} has parameters, which all tasks would share")
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        initialize, networks = INITIALIZATIONS[spec.initialization], spec.copies * spec.n_tasks
        for fan_in, fan_out in pairwise([spec.n_in, *spec.hidden, spec.n_out]):
            weight, bias = th.empty(networks, fan_in, fan_out), th.empty(networks, 1, fan_out)
            for network in range(networks):
                initialize(weight[network], bias[network], spec.generator)
            self.weights.append(nn.Parameter(weight))
            self.biases.append(nn.Parameter(bias))
        self._library_wanted = True
        self._threads: int | None = None
        self._bound: tuple[np.ndarray, NativePerceptrons | None] | None = None
        # A plain list: looking parameters up in a ParameterList takes longer than a small layer does.
        self.layers = list(zip(self.weights, self.biases, strict=True))

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        copies = self.copies if copies is None else copies
        return self.stacked(inputs.repeat(copies, 1, 1) if copies > 1 else inputs, tasks, copies)

    def stacked(self, hidden: th.Tensor, tasks: th.Tensor | None, copies: int) -> th.Tensor:
        """As :meth:`forward`, with inputs ``(copies * tasks, batch, n_in)`` of each network's own."""
        outputs = self._forward(hidden, tasks, copies, 0)
        return outputs.view(copies, -1, *outputs.shape[1:])

    def _forward(self, hidden: th.Tensor, tasks: th.Tensor | None, copies: int, first: int) -> th.Tensor:
        """The layers from ``first`` on, by NumPy or PyTorch, whichever is the faster one."""
        activation = NUMPY_ACTIVATIONS.get(type(self.activation))
        if activation and tasks is None and hidden.shape[1] <= FEW_ROWS and not th.is_grad_enabled() and self._on_cpu:
            networks = copies * self.n_tasks
            arrays = [(weight.array[:networks], bias.array[:networks]) for weight, bias in self.layers[first:]]
            return th.from_numpy(_forward_numpy(hidden.numpy(), arrays, activation))
        return self._forward_torch(hidden, self._selected(tasks, copies)[first:])

    @property
    def _on_cpu(self) -> bool:
        return getattr(self.layers[0][0], "array", None) is not None

    def _selected(self, tasks: th.Tensor | None, copies: int) -> list[tuple[th.Tensor, th.Tensor]]:
        if tasks is None and copies == self.copies:
            return self.layers
        layers = self.layers
        return [(self._select(weight, tasks, copies), self._select(bias, tasks, copies)) for weight, bias in layers]

    def _forward_torch(self, hidden: th.Tensor, layers: list[tuple[th.Tensor, th.Tensor]]) -> th.Tensor:
        for weight, bias in layers[:-1]:
            hidden = self.activation(stacked_linear(hidden, weight, bias))  # (copies * tasks, batch, width)
        return stacked_linear(hidden, *layers[-1])

    def every(self, inputs: th.Tensor) -> th.Tensor:
        native = self._compiled()
        if native is not None:
            return native.every(inputs)
        return self.forward(inputs.expand(self.n_tasks, *inputs.shape))

    def every_policy(self, inputs: th.Tensor, head: PolicyHead) -> tuple[th.Tensor, th.Tensor]:
        native = self._compiled() if head.compiled else None
        if native is None:
            return super().every_policy(inputs, head)
        outputs, means = native.every_policy(inputs)
        return outputs[0], means

    def by_row(self, inputs: th.Tensor, layout: TaskLayout) -> th.Tensor:
        native = self._compiled()
        return super().by_row(inputs, layout) if native is None else native.by_row(inputs, layout)

    def candidates(
        self, states: th.Tensor, candidates: th.Tensor, layout: TaskLayout, copies: int | None = None
    ) -> th.Tensor:
        copies, native = self.copies if copies is None else copies, self._compiled()
        if native is not None:
            return native.candidates(states, candidates, layout, copies)
        if len(self.layers) == 1:
            return super().candidates(states, candidates, layout, copies)
        # W [s, a] = W_s s + W_a a: the first layer reads each state once
        weight, bias = self._selected(layout.present, copies)[0]
        by_task = layout.to_tasks(states).repeat(copies, 1, 1)  # (copies * tasks, batch, state)
        rest = layout.to_tasks(candidates).repeat(copies, 1, 1, 1)  # (copies * tasks, batch, candidates, rest)
        of_states = th.baddbmm(bias, by_task, weight[:, : states.shape[1]])
        of_rest = th.bmm(rest.flatten(1, 2), weight[:, states.shape[1] :]).view(*rest.shape[:3], -1)
        hidden = self.activation(of_rest + of_states[:, :, None]).flatten(1, 2)
        outputs = self._forward(hidden, layout.present, copies, 1).view(copies, -1, *rest.shape[1:3], self.n_out)
        return layout.to_rows(outputs.permute(1, 2, 0, 3, 4)).transpose(0, 1)

    def _compiled(self) -> NativePerceptrons | None:
        """The compiled code on the parameters' present memory, where there is one and no gradient is wanted."""
        if th.is_grad_enabled() or not self._on_cpu:
            return None
        memory = self.layers[0][0].array  # gathering the parameters anew gives another one
        if self._bound is None or self._bound[0] is not memory:
            layers = [(weight.array, bias.array) for weight, bias in self.layers]
            activation = type(self.activation)
            suits = self._library_wanted and NativePerceptrons.suit(layers, activation)
            self._bound = memory, NativePerceptrons(layers, self.n_tasks, activation, self._threads) if suits else None
        return self._bound[1]

    def own_parameters(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def use_library(self, wanted: bool, threads: int | None) -> None:
        """Whether compiled code answers where it can, and over how many threads; None for PyTorch's number."""
        self._library_wanted, self._threads, self._bound = wanted, threads, None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bound": None}  # addresses are no part of a copy

    def only(self, task: int) -> IndependentMLP:
        """This network with one of its tasks only, as plain parameters of its own."""
        stacks = (self.weights, self.biases)
        for stack in stacks:
            for layer, parameter in enumerate(stack):
                stacked = parameter.data.view(self.copies, self.n_tasks, *parameter.shape[1:])
                stack[layer] = nn.Parameter(stacked[:, task].clone())
        self.n_tasks = 1
        self.layers = list(zip(self.weights, self.biases, strict=True))
        return self

    def every_constant(self, inputs: th.Tensor, copies: int) -> th.Tensor:
        """As :meth:`every`, of the first ``copies``, with the parameters taken as constants."""
        layers = [(weight.detach(), bias.detach()) for weight, bias in self._selected(None, copies)]
        outputs = self._forward_torch(inputs.expand(copies * self.n_tasks, *inputs.shape), layers)
        return outputs.view(copies, self.n_tasks, *outputs.shape[1:])

    def _select(self, parameter: th.Tensor, tasks: th.Tensor | None, copies: int) -> th.Tensor:
        first = parameter[: copies * self.n_tasks]
        if tasks is None:
            return first
        stacked = first.view(copies, self.n_tasks, *parameter.shape[1:])
        return stacked[:, tasks.to(parameter.device)].flatten(0, 1)
