"""Shared-Unique Features: PaCo's trunk for what tasks share, and features of the state that tell tasks apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch as th

from qmp_sb3.networks.common_modules import CommonModule
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.paco import CompositionalLayers, TaskVectors, check_compositional
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule

UNIQUE_HIDDEN = (50, 50)


class UniqueFeatures(CommonModule):
    """u(s): a perceptron on the observation alone. Only a loss of its own trains it, the triplet loss.

    :param spec: of a network that reads u
    :param size: of u
    """

    learns_from: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: NetworkSpec, size: int) -> None:
        super().__init__()
        self.n_state, self.size = spec.state_size, size
        sizes = self.n_state, size, 1, UNIQUE_HIDDEN
        layers = NetworkSpec(*sizes, activation_fn=spec.activation_fn, generator=spec.generator)
        self.perceptron = IndependentMLP(layers)
        self.lay_out()

    def forward(self, states: th.Tensor) -> th.Tensor:
        """``(tasks, batch, state)`` to ``(tasks, batch, size)``."""
        return self.perceptron(states.flatten(0, 1)[None]).view(*states.shape[:2], self.size)


class SharedUnique(TaskModule):
    """y = sum_k w_ik (V_k [h_i(x), u(s)] + c_k) with h_i PaCo's hidden layers and u(s) a constant (Multi-task
    reinforcement learning with shared-unique features, section 3; anonymous, under review).

    The hook ``triplet`` trains u, the losses of actor and critics all else. Actor and critics share u and the task
    vectors.

    :param spec: there is at least one hidden layer; copies have u and the task vectors in common
    :param sets: K, number of parameter sets
    :param unique: size of u
    :param identical: the sets start alike
    :param rate: learning rate of the task vectors, None for the model's
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        sets: int = 5,
        unique: int = 50,
        identical: bool = True,
        rate: float | None = None,
        common: Mapping[str, CommonModule] | None = None,
        learned: Sequence[str] | None = None,
    ) -> None:
        if not spec.hidden:
            raise ValueError("shared_unique networks need a hidden layer; net_arch is empty")
        self.check(sets=sets, rate=rate, unique=unique)
        super().__init__(spec, common or self.in_common(spec, sets=sets, rate=rate, unique=unique), learned)
        self.activation = spec.activation_fn()
        *before, width = spec.hidden
        self.trunk = CompositionalLayers(replace(spec, n_out=width, hidden=before), sets, identical)
        self.head = CompositionalLayers(replace(spec, n_in=width + unique, hidden=()), sets, identical)

    @classmethod
    def check(cls, **settings: Any) -> None:
        check_compositional("shared_unique", settings["sets"], settings["rate"])
        if not isinstance(settings["unique"], int) or settings["unique"] < 1:
            raise ValueError(f"shared_unique(unique={settings['unique']!r}): the size of u is whole, at least 1")

    @classmethod
    def in_common(
        cls, spec: NetworkSpec, *, sets: int = 5, rate: float | None = None, unique: int = 50, **others: Any
    ) -> dict[str, CommonModule]:
        vectors = TaskVectors(spec.n_tasks, sets, rate, spec.generator)
        return {"tasks": vectors, "unique": UniqueFeatures(spec, unique)}

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
