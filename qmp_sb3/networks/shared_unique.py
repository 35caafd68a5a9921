"""Shared-Unique Features: PaCo's trunk for what tasks share, and features of the state that tell tasks apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch as th
from torch import nn

from qmp_sb3.networks.common import CommonPart
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.paco import CompositionalLayers, TaskVectors, check_compositional
from qmp_sb3.networks.task_module import TaskModule

UNIQUE_HIDDEN = (50, 50)


class UniqueFeatures(CommonPart):
    """u(s): a perceptron on the observation alone. Only a loss of its own trains it, the triplet loss.

    :param n_state: size of an encoded observation
    :param size: of u
    :param activation_fn: the hidden units' activation
    :param generator: source of the initial weights
    """

    learns_from: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, n_state: int, size: int, activation_fn: Callable[[], nn.Module], generator: th.Generator | None
    ) -> None:
        super().__init__()
        self.n_state, self.size = n_state, size
        self.perceptron = IndependentMLP(n_state, size, 1, UNIQUE_HIDDEN, 1, activation_fn, generator=generator)
        self.lay_out()

    def forward(self, states: th.Tensor) -> th.Tensor:
        """``(tasks, batch, state)`` to ``(tasks, batch, size)``."""
        return self.perceptron(states.flatten(0, 1)[None]).view(*states.shape[:2], self.size)


class SharedUnique(TaskModule):
    """y = sum_k w_ik (V_k [h_i(x), u(s)] + c_k) with h_i PaCo's hidden layers and u(s) a constant (Multi-task
    reinforcement learning with shared-unique features, section 3; anonymous, under review).

    The hook ``triplet`` trains u, the losses of actor and critics all else. Actor and critics share u and the task
    vectors.

    :param n_in: size of the input
    :param n_out: size of the output
    :param n_tasks: number of tasks
    :param hidden: widths of the hidden layers, at least one
    :param copies: independent copies of all that is not in common
    :param activation_fn: the hidden units' activation, element-wise
    :param initialization: name in :data:`~qmp_sb3.networks.initialization.INITIALIZATIONS`
    :param generator: source of the initial weights
    :param sets: K, number of parameter sets
    :param unique: size of u
    :param identical: the sets begin alike
    :param rate: learning rate of the task vectors, None for the model's
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_tasks: int,
        hidden: Sequence[int],
        copies: int = 1,
        activation_fn: Callable[[], nn.Module] = nn.ReLU,
        initialization: str = "linear",
        generator: th.Generator | None = None,
        *,
        sets: int = 5,
        unique: int = 50,
        identical: bool = True,
        rate: float | None = None,
        common: Mapping[str, CommonPart] | None = None,
        learned: Sequence[str] | None = None,
    ) -> None:
        if not hidden:
            raise ValueError("shared_unique networks need a hidden layer; net_arch is empty")
        self.check(sets=sets, rate=rate, unique=unique)
        if not common:
            how: dict[str, Any] = dict(activation_fn=activation_fn, generator=generator)
            common = self.in_common(n_in, n_tasks, **how, sets=sets, rate=rate, unique=unique)
        super().__init__(n_in, n_out, n_tasks, copies, common, learned)
        self.activation, begin = activation_fn(), (activation_fn, initialization, generator, identical)
        self.trunk = CompositionalLayers([n_in, *hidden], sets, copies, *begin)
        self.head = CompositionalLayers([hidden[-1] + unique, n_out], sets, copies, *begin)

    @classmethod
    def check(cls, **settings: Any) -> None:
        check_compositional("shared_unique", settings["sets"], settings["rate"])
        if not isinstance(settings["unique"], int) or settings["unique"] < 1:
            raise ValueError(f"shared_unique(unique={settings['unique']!r}): the size of u is whole, at least 1")

    @classmethod
    def in_common(
        cls,
        n_state: int,
        n_tasks: int,
        *,
        generator: th.Generator | None = None,
        sets: int = 5,
        rate: float | None = None,
        unique: int = 50,
        activation_fn: Callable[[], nn.Module] = nn.ReLU,
        **others: Any,
    ) -> dict[str, CommonPart]:
        vectors = TaskVectors(n_tasks, sets, rate, generator)
        return {"tasks": vectors, "unique": UniqueFeatures(n_state, unique, activation_fn, generator)}

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        copies, vectors = self.copies if copies is None else copies, self.common["tasks"](tasks)
        shared = self.trunk(inputs.repeat(copies, 1, 1), vectors, copies)
        return self._answer(shared, self._unique(inputs), vectors)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        vectors = self.common["tasks"]()
        return self._answer(self.trunk.every(inputs, vectors), self._unique(inputs[None]), vectors)

    @th.no_grad()
    def _unique(self, inputs: th.Tensor) -> th.Tensor:
        unique = self.common["unique"]
        return unique(inputs[..., : unique.n_state])

    def _answer(self, shared: th.Tensor, unique: th.Tensor, vectors: th.Tensor) -> th.Tensor:
        """h ``(copies, tasks, batch, width)`` with u ``(tasks or 1, batch, size)`` to outputs."""
        told = unique.expand(*shared.shape[:3], -1)
        features = th.cat([self.activation(shared), told], dim=-1)
        return self.head(features.flatten(0, 1), vectors, len(shared))
