"""PaCo: every layer of a task's network is a combination of parameter sets that all tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.networks.common_modules import CommonModule
from qmp_sb3.networks.initialization import INITIALIZATIONS
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule


class TaskVectors(CommonModule):
    """w, the share of each parameter set in each task's network: ``vectors``, ``(tasks, sets)``.

    :param n_tasks: number of tasks
    :param sets: number of parameter sets
    :param rate: learning rate of its optimizer, None for the model's
    :param generator: source of the initial values, Xavier-uniform
    """

    def __init__(
        self, n_tasks: int, sets: int, rate: float | None = None, generator: th.Generator | None = None
    ) -> None:
        super().__init__()
        self.rate = rate
        self.vectors = nn.Parameter(nn.init.xavier_uniform_(th.empty(n_tasks, sets), generator=generator))
        self.lay_out()

    def forward(self, tasks: th.Tensor | None = None) -> th.Tensor:
        """w ``(tasks, sets)`` of all tasks, or of some."""
        return self.vectors if tasks is None else self.vectors[tasks.to(self.vectors.device)]


class CompositionalLayers(nn.Module):
    """y = sum_k w_ik (W_k x + b_k) in each layer, with an activation between two of them.

    Parameters are copy-major, ``(copies * sets, in, out)``.

    :param spec: sizes, and how the layers look and start
    :param sets: K, number of parameter sets
    :param identical: all sets of a copy start alike
    """

    def __init__(self, spec: NetworkSpec, sets: int, identical: bool) -> None:
        super().__init__()
        self.sets = sets
        self.activation = nn.ReLU(inplace=True) if spec.activation_fn is nn.ReLU else spec.activation_fn()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        initialize = INITIALIZATIONS[spec.initialization]
        for fan_in, fan_out in pairwise([spec.n_in, *spec.hidden, spec.n_out]):
            weight, bias = th.empty(spec.copies, sets, fan_in, fan_out), th.empty(spec.copies, sets, 1, fan_out)
            for copy in range(spec.copies):
                for number in range(1 if identical else sets):
                    initialize(weight[copy, number], bias[copy, number], spec.generator)
                if identical:
                    weight[copy], bias[copy] = weight[copy, 0].clone(), bias[copy, 0].clone()
            self.weights.append(nn.Parameter(weight.flatten(0, 1)))
            self.biases.append(nn.Parameter(bias.flatten(0, 1)))

    def forward(self, hidden: th.Tensor, vectors: th.Tensor, copies: int) -> th.Tensor:
        """``(copies * tasks, batch, in)`` to ``(copies, tasks, batch, out)``.

        :param vectors: w of the tasks, ``(tasks, sets)``
        :param copies: how many of the copies to evaluate, from the first
        """
        return self._from(0, hidden, vectors, copies)

    def every(self, inputs: th.Tensor, vectors: th.Tensor) -> th.Tensor:
        """All rows ``(batch, in)`` through every task's network: ``(copies, tasks, batch, out)``. In the first layer
        each set reads them once.
        """
        weight, bias = self.weights[0], self.biases[0]
        of_sets = th.baddbmm(bias, inputs.expand(len(weight), *inputs.shape), weight)  # (copies * sets, batch, width)
        copies, (rows, width) = len(weight) // self.sets, of_sets.shape[1:]
        hidden = (vectors @ of_sets.view(copies, self.sets, -1)).view(-1, rows, width)
        if len(self.weights) == 1:
            return hidden.view(copies, -1, rows, width)
        return self._from(1, self.activation(hidden), vectors, copies)

    def _from(self, first: int, hidden: th.Tensor, vectors: th.Tensor, copies: int) -> th.Tensor:
        last = len(self.weights) - 1
        for layer in range(first, last + 1):
            weight, bias = (self._composed(stack[layer], vectors, copies) for stack in (self.weights, self.biases))
            hidden = th.baddbmm(bias, hidden, weight)
            hidden = hidden if layer == last else self.activation(hidden)
        return hidden.view(copies, len(vectors), *hidden.shape[1:])

    def _composed(self, parameter: th.Tensor, vectors: th.Tensor, copies: int) -> th.Tensor:
        """sum_k w_ik W_k of each task, ``(copies * tasks, ...)``."""
        of_sets = parameter[: copies * self.sets].view(copies, self.sets, -1)
        return (vectors @ of_sets).view(copies * len(vectors), *parameter.shape[1:])


def check_compositional(word: str, sets: Any, rate: Any) -> None:
    """Refuse a number of parameter sets, or a learning rate of the task vectors, that has no meaning.

    :raises ValueError: naming it
    """
    if not isinstance(sets, int) or sets < 1:
        raise ValueError(f"{word}(sets={sets!r}): the number of parameter sets is whole, at least 1")
    if rate is not None and not (isinstance(rate, (int, float)) and rate > 0):
        raise ValueError(f"{word}(rate={rate!r}): the learning rate of the task vectors is positive, or None")


class PaCo(TaskModule):
    """Parameter-compositional networks: theta_i = sum_k w_ik phi_k, layer by layer (Sun et al., 2022, PaCo, section 3).

    Actor and critics share the task vectors w, which the losses of both train.

    :param spec: sizes, and how the layers look and start; all copies have the same task vectors
    :param sets: K, number of parameter sets
    :param identical: the sets start alike, so that at first only the vectors set tasks apart
    :param rate: learning rate of the task vectors, None for the model's
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        sets: int = 5,
        identical: bool = True,
        rate: float | None = None,
        common: Mapping[str, CommonModule] | None = None,
        learned: Sequence[str] | None = None,
    ) -> None:
        self.check(sets=sets, rate=rate)
        super().__init__(spec, common or self.in_common(spec, sets=sets, rate=rate), learned)
        self.layers = CompositionalLayers(spec, sets, identical)

    @classmethod
    def check(cls, **settings: Any) -> None:
        check_compositional("paco", settings["sets"], settings["rate"])

    @classmethod
    def in_common(
        cls, spec: NetworkSpec, *, sets: int = 5, rate: float | None = None, **others: Any
    ) -> dict[str, CommonModule]:
        return {"tasks": TaskVectors(spec.n_tasks, sets, rate, spec.generator)}

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        copies = self.copies if copies is None else copies
        return self.layers(inputs.repeat(copies, 1, 1), self.common["tasks"](tasks), copies)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.layers.every(inputs, self.common["tasks"]())
