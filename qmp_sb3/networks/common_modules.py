"""Parts of the networks that actor and critics have in common: they exist once, with an optimizer of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch as th
from torch import nn

from qmp_sb3.networks.flat_parameters import FlatParameters, clip_gradient_, make_optimizer


class CommonParameters(FlatParameters):
    """Flat parameters that several losses train: their gradients add up until :meth:`begin`."""

    def gather(self) -> None:
        super().gather()
        self._sum, self._begun = th.zeros_like(self._gradient), False

    def clip_(self, max_norm: float) -> None:
        clip_gradient_(self._sum, max_norm)

    def begin(self) -> None:
        """Let the next gradients replace the sum so far."""
        self._begun = False

    def _set(self, gradients: Iterable[th.Tensor]) -> None:
        super()._set(gradients)
        if self._begun:
            self._sum.add_(self._gradient)
        else:
            self._sum.copy_(self._gradient)
        self._begun, self.flat.grad = True, self._sum
        for parameter, gradient in zip(self.parameters, self._segments(self._sum), strict=True):
            parameter.grad = gradient


class CommonModule(nn.Module):
    """Parameters that actor and critics have in common. Target critics have a copy that follows them.

    A step of its optimizer comes once in an update and last, with the sum of the gradients of the losses that it learns
    from, so that all of them are taken at the same parameters.
    """

    #: whose losses train it; none if something else does
    learns_from: ClassVar[tuple[str, ...]] = ("actor", "critic")
    flat: CommonParameters
    optimizer: th.optim.Optimizer
    #: learning rate, None for the model's
    rate: float | None = None

    def lay_out(self) -> None:
        """Gather the parameters; a subclass calls it when all of them exist."""
        self.flat = CommonParameters(self.parameters())

    def step(self) -> None:
        """One step with the gradients that have come since the last one."""
        self.optimizer.step()
        self.flat.begin()

    def _apply(self, fn: Callable, recurse: bool = True) -> CommonModule:
        super()._apply(fn, recurse)
        self.flat.gather()
        return self


class CommonModules:
    """All that the actor and the critics of one policy have in common.

    :param parts: by name
    :param optimizer_class: as for :func:`~qmp_sb3.networks.flat_parameters.make_optimizer`
    :param learning_rate: of parts that have none of their own
    :param optimizer_kwargs: as for the same function
    """

    def __init__(
        self,
        parts: Mapping[str, CommonModule],
        optimizer_class: type[th.optim.Optimizer],
        learning_rate: float,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.parts = dict(parts)
        for part in self.parts.values():
            rate = learning_rate if part.rate is None else part.rate
            part.optimizer = make_optimizer(optimizer_class, part.flat, rate, optimizer_kwargs)

    def __len__(self) -> int:
        return len(self.parts)

    def of_type(self, kind: type[CommonModule]) -> list[Any]:
        """The parts of a class."""
        return [part for part in self.parts.values() if isinstance(part, kind)]

    def scheduled(self) -> list[th.optim.Optimizer]:
        """The optimizers that have the model's learning rate."""
        return [part.optimizer for part in self.parts.values() if part.rate is None]

    def step(self, max_grad_norm: float | None = None) -> None:
        """One step of each part that learns from the losses of actor or critics.

        :param max_grad_norm: norm of a part's gradient, which a longer one is shortened to; None for any
        """
        for part in self.parts.values():
            if part.learns_from:
                if max_grad_norm is not None:
                    part.flat.clip_(max_grad_norm)
                part.step()

    def state_dict(self) -> dict[str, Any]:
        """The optimizers' states; the parameters are the policy's."""
        return {name: part.optimizer.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """As PyTorch's.

        :raises ValueError: with ``strict``, if the state is one of other parts
        """
        if strict and state.keys() != self.parts.keys():
            raise ValueError(f"the state is one of {', '.join(state)}; the policy has {', '.join(self.parts)}")
        for name in state.keys() & self.parts.keys():
            self.parts[name].optimizer.load_state_dict(state[name])
