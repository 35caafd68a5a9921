"""The networks of CTPG's guide: what they are, and how they are saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.networks import MultiheadMLP, NetworkSpec, TaskModule
from qmp_sb3.networks.flat_parameters import make_optimizer, refuse_other_moments
from qmp_sb3.serialization.tags import tagged

CRITICS = 2


class ToldMultiheadMLP(TaskModule):
    """A trunk of all tasks that reads the task as one-hot, and a linear head for each task (the released code of CTPG
    has both).

    :param spec: as for :class:`~qmp_sb3.networks.multihead.MultiheadMLP`; ``n_in`` is without the one-hot
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__(spec)
        self.heads = MultiheadMLP(replace(spec, n_in=spec.n_in + spec.n_tasks))
        self.one_hot: th.Tensor
        self.register_buffer("one_hot", th.eye(spec.n_tasks), persistent=False)  # (tasks, tasks)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        one_hot = self.one_hot if tasks is None else self.one_hot[tasks.to(self.one_hot.device)]
        told = one_hot[:, None].expand(-1, inputs.shape[1], -1)
        return self.heads(th.cat([inputs, told], dim=-1), tasks, copies)

    def every(self, inputs: th.Tensor) -> th.Tensor:
        return self.forward(inputs.expand(self.n_tasks, *inputs.shape))


@dataclass(frozen=True)
class GuideForm:
    """What the guide's networks look like.

    :param features: size of an encoded observation
    :param candidates: policies to choose from
    :param n_tasks: number of tasks
    :param hidden: widths of the hidden layers
    :param activation_fn: the hidden units' activation
    :param initialization: how weights start, of ``"actor"`` and ``"critic"``
    :param optimizer_class: optimizer of each network
    :param optimizer_kwargs: its keyword arguments besides the learning rate
    :param learning_rate: where it starts
    """

    features: int
    candidates: int
    n_tasks: int
    hidden: Sequence[int]
    activation_fn: Callable[[], nn.Module]
    initialization: Mapping[str, str]
    optimizer_class: type[th.optim.Optimizer]
    optimizer_kwargs: Mapping[str, Any] | None
    learning_rate: float


@tagged("guide_networks")
class GuideNetworks:
    """Pi_i(j|s), the twin critics Q^g_i(s, j) of the guide and Q^c_i(s, j) of the filter with their targets, and a
    temperature for each task.

    Every one is a function of observations ``(tasks, batch, features)``, with a number for each candidate.

    :param form: sizes and kinds
    :param generator: source of the initial weights
    """

    OPTIMIZED = ("actor", "critic", "filter_critic")
    TARGETS = {"critic": "critic_target", "filter_critic": "filter_target"}

    def __init__(self, form: GuideForm, generator: th.Generator) -> None:
        self.form = form
        self.modules: dict[str, TaskModule] = {}
        for name in self.OPTIMIZED:
            role = "actor" if name == "actor" else "critic"
            spec = NetworkSpec(
                form.features,
                form.candidates,
                form.n_tasks,
                hidden=form.hidden,
                copies=1 if role == "actor" else CRITICS,
                activation_fn=form.activation_fn,
                initialization=form.initialization[role],
                generator=generator,
            )
            self.modules[name] = ToldMultiheadMLP(spec)
        self.modules |= {target: deepcopy(self.modules[name]) for name, target in self.TARGETS.items()}
        self.flat = {name: module.flat_parameters() for name, module in self.modules.items()}
        for target in self.TARGETS.values():
            self.modules[target].requires_grad_(False)
        self.log_temperature = th.zeros(form.n_tasks, requires_grad=True)
        settings = form.learning_rate, dict(form.optimizer_kwargs or {})
        self.optimizers = {
            name: make_optimizer(form.optimizer_class, self.flat[name], *settings) for name in self.OPTIMIZED
        }
        self.optimizers["temperature"] = th.optim.Adam([self.log_temperature], lr=form.learning_rate)

    @property
    def actor(self) -> TaskModule:
        return self.modules["actor"]

    @property
    def temperature(self) -> th.Tensor:
        """alpha^g of each task, ``(tasks,)``."""
        return self.log_temperature.detach().exp()

    def bound_temperature_(self, largest: float) -> None:
        """Lower the temperatures that are above ``largest`` to it."""
        self.log_temperature.data.clamp_(max=math.log(largest))

    def to(self, device: th.device) -> None:
        """Go to another device, with what the optimizers know."""
        if self.log_temperature.device == device:
            return
        for name, module in self.modules.items():
            module.to(device)
            self.flat[name].gather()
        self.log_temperature.data = self.log_temperature.data.to(device)
        for optimizer in self.optimizers.values():
            optimizer.load_state_dict(optimizer.state_dict())

    def polyak_(self, tau: float) -> None:
        """Move both targets a share ``tau`` towards their critics."""
        for name, target in self.TARGETS.items():
            self.flat[target].polyak_(self.flat[name], tau)

    def __getstate__(self) -> dict[str, Any]:
        """Numbers on the CPU, so that a model can be loaded where there is no GPU."""
        return {
            "form": asdict(self.form),
            "numbers": {name: flat.flat.detach().cpu().clone() for name, flat in self.flat.items()},
            "log_temperature": self.log_temperature.detach().cpu().clone(),
            "optimizers": {name: _on_cpu(one.state_dict()) for name, one in self.optimizers.items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # The weights drawn here are written over; no other generator is to move for them.
        GuideNetworks.__init__(self, GuideForm(**state["form"]), th.Generator().manual_seed(0))
        for name, numbers in state["numbers"].items():
            self.flat[name].flat.data.copy_(numbers)
        self.log_temperature.data.copy_(state["log_temperature"])
        for name, values in state["optimizers"].items():
            refuse_other_moments(self.optimizers[name], values, f"the guide's optimizer {name!r}")
            self.optimizers[name].load_state_dict(values)


def _on_cpu(value: Any) -> Any:
    """A state dictionary with copies of its tensors on the CPU."""
    if isinstance(value, th.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _on_cpu(one) for key, one in value.items()}
    return [_on_cpu(one) for one in value] if isinstance(value, list) else value
