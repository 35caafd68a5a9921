"""A stack of linear layers as one batched product, whose weight gradients are written where they belong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch as th
from torch.autograd.function import once_differentiable

_CACHED = 2**19  # numbers that a product with one column may write and read again before a batched product is faster


@dataclass
class GradientPlace:
    """Where the gradient of a parameter belongs.

    :param view: of the flat gradient, with the parameter's shape
    :param by_task: if given, what is written instead: one gradient for each task's rows, which are equal parts of the
        batch in order; ``(networks * tasks, ...)``
    """

    view: th.Tensor
    by_task: th.Tensor | None = None


def _product(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    if weight.shape[-1] == 1 and inputs.numel() <= _CACHED:
        return (inputs * weight.mT).sum(dim=-1, keepdim=True).add_(bias)
    return th.baddbmm(bias, inputs, weight)


def _write_gradients(
    inputs: th.Tensor, gradient: th.Tensor, weight_gradient: th.Tensor, bias_gradient: th.Tensor
) -> None:
    if weight_gradient.shape[-1] == 1:
        th.sum(inputs * gradient, dim=1, out=weight_gradient.squeeze(-1))
    else:
        th.bmm(inputs.mT, gradient, out=weight_gradient)
    th.sum(gradient, dim=1, keepdim=True, out=bias_gradient)


class _StackedLinear(th.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: th.Tensor,
        weight: th.Tensor,
        bias: th.Tensor,
        weight_place: GradientPlace,
        bias_place: GradientPlace,
    ) -> th.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.places = weight_place, bias_place
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = gradient * weight.mT if weight.shape[-1] == 1 else th.bmm(gradient, weight.mT)
        if not ctx.needs_input_grad[1]:
            return input_gradient, None, None, None, None
        weight_place, bias_place = ctx.places
        if weight_place.by_task is None:
            _write_gradients(inputs, gradient, weight_place.view, bias_place.view)
        else:
            tasks = len(weight_place.by_task) // len(weight)
            inputs, gradient = (rows.unflatten(1, (tasks, -1)).flatten(0, 1) for rows in (inputs, gradient))
            _write_gradients(inputs, gradient, weight_place.by_task, bias_place.by_task)
        return input_gradient, weight_place.view, bias_place.view, None, None


def stacked_linear(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    """``inputs @ weight + bias`` of every network in a stack.

    Where weight and bias have a ``gradient_place`` (:class:`~qmp_sb3.networks.flat_parameters.FlatParameters`), they
    give it to the first call, whose backward writes the gradients there: it allocates nothing large, and nothing is
    copied afterwards. Further calls in the same loss go through plain autograd, which adds theirs.

    :param inputs: ``(networks, batch, in)``
    :param weight: ``(networks, in, out)``
    :param bias: ``(networks, 1, out)``
    :return: ``(networks, batch, out)``
    """
    if not weight.requires_grad or not th.is_grad_enabled() or not hasattr(weight, "gradient_place"):
        return _product(inputs, weight, bias)
    places = weight.__dict__.pop("gradient_place"), bias.__dict__.pop("gradient_place")
    return _StackedLinear.apply(inputs, weight, bias, *places)
