"""A stack of linear layers as one batched product, whose weight gradients are written where they belong."""

from __future__ import annotations

from typing import Any

import torch as th
from torch.autograd.function import once_differentiable


def _product(inputs: th.Tensor, weight: th.Tensor, bias: th.Tensor) -> th.Tensor:
    if weight.shape[-1] == 1:  # a sum is several times faster than a batched product with one column
        return (inputs * weight.mT).sum(dim=-1, keepdim=True).add_(bias)
    return th.baddbmm(bias, inputs, weight)


class _StackedLinear(th.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: th.Tensor,
        weight: th.Tensor,
        bias: th.Tensor,
        weight_gradient: th.Tensor,
        bias_gradient: th.Tensor,
    ) -> th.Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.gradients = weight_gradient, bias_gradient
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: th.Tensor) -> tuple[th.Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        input_gradient = weight_gradient = bias_gradient = None
        scalar = weight.shape[-1] == 1
        if ctx.needs_input_grad[0]:
            input_gradient = gradient * weight.mT if scalar else th.bmm(gradient, weight.mT)
        if ctx.needs_input_grad[1]:
            weight_gradient, bias_gradient = ctx.gradients
            if scalar:
                th.sum(inputs * gradient, dim=1, out=weight_gradient.squeeze(-1))
            else:
                th.bmm(inputs.mT, gradient, out=weight_gradient)
            th.sum(gradient, dim=1, keepdim=True, out=bias_gradient)
        return input_gradient, weight_gradient, bias_gradient, None, None


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
