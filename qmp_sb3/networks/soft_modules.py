"""Soft Modularization: layers of small modules, and a second network that says how much of each a task uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule

_SMALL = 3e-3  # bound of the first weights of head and routers: all modules are used alike then


@dataclass(frozen=True)
class RoutingVariant:
    """Where released implementations differ.

    :param gating_layers: linear layers that the gating embedding u = U(ReLU(g)) has
    :param reads_all: a router reads the probabilities of all layers before; else the logits of the last one
    :param activates_mixtures: modules read ReLU(sum_k p_k o_k), and the first of them ReLU(f); else their outputs are
        activated before they are mixed
    """

    gating_layers: int
    reads_all: bool
    activates_mixtures: bool


VARIANTS = {
    "official": RoutingVariant(gating_layers=2, reads_all=True, activates_mixtures=True),
    "ctpg": RoutingVariant(gating_layers=1, reads_all=False, activates_mixtures=False),
}


class SoftModules(TaskModule):
    """A base network on the input, then ``layers`` layers of ``modules`` linear modules, each of which reads a mixture
    of the layer before (Yang et al., 2020, Multi-Task Reinforcement Learning with Soft Modularization, section 4).

    With f = base(x), e_i a linear embedding of the task and u = U(ReLU(f * e_i)), the logits of a routing are linear in
    ReLU(u), or in ReLU(u * C p) where p are the routings before it; the softmax of each row gives p^l_jk, the share of
    module k of layer l in what module j of the next layer reads. The last row gives what the linear head reads.

    :param spec: ``hidden`` are the widths of the base network, at least one; the last one is that of the task's
        embedding too. ``activation_fn`` takes the place of each ReLU. Head and routers start uniform in +-0.003
    :param layers: L, layers of modules
    :param modules: n, modules in each layer
    :param width: outputs of each module; None for the last of ``hidden``
    :param gating: width of the gating network; None for the last of ``hidden``
    :param variant: ``"official"``, or ``"ctpg"`` for what CTPG's code has in its place (:data:`VARIANTS`)
    """

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        layers: int = 2,
        modules: int = 2,
        width: int | None = None,
        gating: int | None = None,
        variant: str = "official",
    ) -> None:
        if not spec.hidden:
            raise ValueError("soft_modules need a base network; net_arch is empty")
        super().__init__(spec)
        self.check(layers=layers, modules=modules, width=width, gating=gating, variant=variant)
        self.activation, self.variant, self.modules_per_layer = spec.activation_fn(), VARIANTS[variant], modules
        features = spec.hidden[-1]
        width, gating = width or features, gating or features

        def layer(fan_in: int, fan_out: int, networks: int = 1, between: Sequence[int] = ()) -> IndependentMLP:
            return IndependentMLP(replace(spec, n_in=fan_in, n_out=fan_out, n_tasks=networks, hidden=between))

        def small(fan_in: int, fan_out: int) -> IndependentMLP:
            built = layer(fan_in, fan_out)
            for parameter in built.parameters():
                parameter.data.uniform_(-_SMALL, _SMALL, generator=spec.generator)
            return built

        routed = modules * modules
        self.base = layer(spec.n_in, features, between=spec.hidden[:-1])
        self.embedding = layer(spec.n_tasks, features)
        self.gate = layer(features, gating, between=(gating,) * (self.variant.gating_layers - 1))
        self.routers = nn.ModuleList(small(gating, size) for size in [routed] * (layers - 1) + [modules])
        read = [routed * (before if self.variant.reads_all else 1) for before in range(1, layers)]
        self.conditions = nn.ModuleList(layer(size, gating) for size in read)
        self.first = layer(features, modules * width)
        self.later = nn.ModuleList(layer(width, width, modules) for _ in range(layers - 1))
        self.head = small(width, spec.n_out)
        self.one_hot: th.Tensor
        self.register_buffer("one_hot", th.eye(spec.n_tasks), persistent=False)  # (tasks, tasks)

    @classmethod
    def check(cls, **settings: Any) -> None:
        for name in ("layers", "modules", "width", "gating"):
            value = settings.get(name)
            if (value is not None or name in ("layers", "modules")) and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"soft_modules({name}={value!r}): it is a whole number, at least 1")
        if settings.get("variant") not in VARIANTS:
            known = " and ".join(map(repr, VARIANTS))
            raise ValueError(f"soft_modules(variant={settings.get('variant')!r}): the variants are {known}")

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        copies = self.copies if copies is None else copies
        features = self.base(inputs.flatten(0, 1)[None], copies=copies).view(copies, *inputs.shape[:2], -1)
        return self._routed(features, tasks, copies)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        # (copies, 1, batch, features): base and first modules know no task, so they are asked once for all
        return self._routed(self.base(inputs[None]), None, self.copies)

    def _routed(self, features: th.Tensor, tasks: th.Tensor | None, copies: int) -> th.Tensor:
        """Features ``(copies, tasks or 1, batch, features)`` to outputs ``(copies, tasks, batch, n_out)``."""
        one_hot = self.one_hot if tasks is None else self.one_hot[tasks.to(self.one_hot.device)]
        told = self.embedding(one_hot[None], copies=copies)[:, 0, :, None]  # (copies, tasks, 1, features)
        routes = self._routes(_each(self.gate, self.activation(features * told)))
        before, after = (self.activation, _same) if self.variant.activates_mixtures else (_same, self.activation)
        outputs = after(_each(self.first, before(features)))
        outputs = outputs.unflatten(-1, (self.modules_per_layer, -1))  # (copies, tasks or 1, batch, modules, width)
        for route, modules in zip(routes, self.later, strict=False):
            outputs = after(_by_module(modules, before(route @ outputs)))
        return _each(self.head, before(routes[-1] @ outputs).squeeze(-2))

    def _routes(self, gating: th.Tensor) -> list[th.Tensor]:
        """p of each layer, ``(copies, tasks, batch, readers, modules)``, whose rows sum to one; ``modules`` readers, of
        the last layer one.

        :param gating: u, ``(copies, tasks, batch, gating)``
        """
        routes: list[th.Tensor] = []
        known: list[th.Tensor] = []  # of the layers so far, flat: what the routers of the next ones read
        hidden = self.activation(gating)
        for number, router in enumerate(self.routers):
            if number > 0:
                hidden = self.activation(_each(self.conditions[number - 1], th.cat(known, dim=-1)) * gating)
            logits = _each(router, hidden)
            routes.append(logits.unflatten(-1, (-1, self.modules_per_layer)).softmax(dim=-1))
            known = [*known, routes[-1].flatten(-2)] if self.variant.reads_all else [logits]
        return routes


def _same(values: th.Tensor) -> th.Tensor:
    return values


def _each(layer: nn.Module, rows: th.Tensor) -> th.Tensor:
    """Rows ``(copies, tasks, batch, in)`` through one network for each copy."""
    assert isinstance(layer, IndependentMLP)
    return layer.stacked(rows.flatten(1, 2), None, len(rows)).view(*rows.shape[:3], -1)


def _by_module(layer: nn.Module, rows: th.Tensor) -> th.Tensor:
    """Rows ``(copies, tasks, batch, modules, in)``, each module's through its own network."""
    assert isinstance(layer, IndependentMLP)
    copies, tasks, batch, modules, width = rows.shape
    stacked = rows.permute(0, 3, 1, 2, 4).reshape(copies * modules, tasks * batch, width)
    outputs = layer.stacked(stacked, None, copies).view(copies, modules, tasks, batch, -1)
    return outputs.permute(0, 2, 3, 1, 4)
