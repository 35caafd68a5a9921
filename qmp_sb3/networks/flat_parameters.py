"""One flat tensor behind all parameters of a module, so that an optimizer or a Polyak update is one call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch as th
from torch import nn


class FlatParameters:
    """Keeps the parameters of a module in one contiguous tensor; the module's own become views of it.

    Whatever writes to the module's parameters in place (``load_state_dict``, an optimizer) writes to the flat tensor,
    and the reverse. Every parameter also knows where its gradient belongs (``parameter.gradient_place``, a view of the
    flat gradient), so that a layer may write it there itself, and on a CPU its memory as a NumPy array
    (``parameter.array``).

    :param module: the module whose parameters are gathered
    :param copies: independent copies in it, the leading axis of every parameter
    """

    def __init__(self, module: nn.Module, copies: int = 1) -> None:
        self.copies = copies
        self.parameters = list(module.parameters())
        self.flat = nn.Parameter(th.empty(0))
        self.gather()

    def gather(self) -> None:
        """Lay the parameters out anew: after the module has moved to another device or type."""
        data = th.cat([parameter.data.flatten() for parameter in self.parameters])
        self.flat.data, self._gradient = data, th.zeros_like(data)
        self._gradient_views = self._segments(self._gradient)
        views = zip(self.parameters, self._segments(data), self._gradient_views, strict=True)
        for parameter, view, gradient_view in views:
            parameter.data = view
            parameter.gradient_place = gradient_view  # type: ignore[attr-defined]
            parameter.array = view.numpy() if view.device.type == "cpu" else None  # type: ignore[attr-defined]

    def _segments(self, flat: th.Tensor) -> list[th.Tensor]:
        pieces = flat.split([parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def backward(self, loss: th.Tensor) -> None:
        """Set the flat tensor's gradient, and the parameters', which are views of it, to that of ``loss``."""
        gradients = th.autograd.grad(loss, self.parameters)
        self.flat.grad = self._gradient
        for parameter, view, gradient in zip(self.parameters, self._gradient_views, gradients, strict=True):
            if gradient.data_ptr() != view.data_ptr():
                view.copy_(gradient)
            parameter.grad = view
            parameter.gradient_place = view  # type: ignore[attr-defined]

    def gradient_of(self, loss: th.Tensor) -> th.Tensor:
        """A copy of the gradient of one of several losses of the same pass, ``(copies, parameters of a copy)``."""
        gradients = th.autograd.grad(loss, self.parameters, retain_graph=True)
        return th.cat([gradient.reshape(self.copies, -1) for gradient in gradients], dim=1)

    def set_gradient(self, gradient: th.Tensor) -> None:
        """Set the gradient to one in the form of :meth:`gradient_of`."""
        self.flat.grad = self._gradient
        pieces = gradient.split([parameter.numel() // self.copies for parameter in self.parameters], dim=1)
        for parameter, view, piece in zip(self.parameters, self._gradient_views, pieces, strict=True):
            view.copy_(piece.reshape(view.shape))
            parameter.grad = view
            parameter.gradient_place = view  # type: ignore[attr-defined]

    @contextmanager
    def constant(self) -> Iterator[None]:
        """Inside, the parameters are constants: a loss that only passes through the module leaves them alone."""
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in self.parameters:
                parameter.requires_grad_(True)

    def polyak_(self, source: FlatParameters, tau: float) -> None:
        """Move these parameters a share ``tau`` towards ``source``."""
        self.flat.data.lerp_(source.flat.data, tau)

    def __deepcopy__(self, memo: dict) -> FlatParameters:
        copy = FlatParameters.__new__(FlatParameters)
        copy.copies = self.copies
        copy.parameters = deepcopy(self.parameters, memo)
        copy.flat = deepcopy(self.flat, memo)
        copy.gather()
        return copy


#: optimizers that treat every number alone, so that one flat tensor gives the same result as many layers
ELEMENTWISE_OPTIMIZERS = (
    th.optim.Adam,
    th.optim.AdamW,
    th.optim.Adamax,
    th.optim.NAdam,
    th.optim.RAdam,
    th.optim.SGD,
    th.optim.RMSprop,
    th.optim.Adagrad,
    th.optim.Adadelta,
    th.optim.ASGD,
    th.optim.Rprop,
)
_FUSED_OPTIMIZERS = (th.optim.Adam, th.optim.AdamW, th.optim.SGD, th.optim.Adagrad)


def make_optimizer(
    optimizer_class: type[th.optim.Optimizer],
    parameters: FlatParameters,
    learning_rate: float,
    optimizer_kwargs: dict | None = None,
) -> th.optim.Optimizer:
    """An optimizer over the flat tensor, or over the per-layer views if the class is not known to be element-wise."""
    settings = dict(optimizer_kwargs or {})
    if optimizer_class in ELEMENTWISE_OPTIMIZERS:
        if optimizer_class in _FUSED_OPTIMIZERS and not {"foreach", "fused", "differentiable"} & settings.keys():
            settings["fused"] = True
        return optimizer_class([parameters.flat], lr=learning_rate, **settings)
    return optimizer_class(parameters.parameters, lr=learning_rate, **settings)  # type: ignore[call-arg]
