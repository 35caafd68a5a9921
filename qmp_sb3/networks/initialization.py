"""Initial weights, drawn from the model's own generator. Weights are ``(in, out)``, biases ``(1, out)``."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch as th


def linear(weight: th.Tensor, bias: th.Tensor, generator: th.Generator | None = None) -> None:
    """PyTorch's (and so SB3's) default for a linear layer: uniform in +-1 / sqrt(in)."""
    bound = 1.0 / math.sqrt(weight.shape[0])
    weight.uniform_(-bound, bound, generator=generator)
    bias.uniform_(-bound, bound, generator=generator)


def xavier_uniform(weight: th.Tensor, bias: th.Tensor, generator: th.Generator | None = None) -> None:
    """Xavier-uniform weights and zero biases, as the released QMP code sets its policies."""
    bound = math.sqrt(6.0 / sum(weight.shape))
    weight.uniform_(-bound, bound, generator=generator)
    bias.zero_()


def xavier_normal(weight: th.Tensor, bias: th.Tensor, generator: th.Generator | None = None) -> None:
    """Xavier-normal weights and zero biases, as the released QMP code sets its critics."""
    weight.normal_(0.0, math.sqrt(2.0 / sum(weight.shape)), generator=generator)
    bias.zero_()


def constant_bias(weight: th.Tensor, bias: th.Tensor, generator: th.Generator | None = None) -> None:
    """Weights uniform in +-1 / sqrt(in) and biases of 0.1, as the released Soft Modularization code sets its layers."""
    bound = 1.0 / math.sqrt(weight.shape[0])
    weight.uniform_(-bound, bound, generator=generator)
    bias.fill_(0.1)


INITIALIZATIONS: dict[str, Callable[[th.Tensor, th.Tensor, th.Generator | None], None]] = {
    "linear": linear,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "constant_bias": constant_bias,
}
