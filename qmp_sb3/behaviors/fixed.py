"""Fixed candidate policies: never trained, known before the task (QMP, section 5.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch as th


class FixedGaussian:
    """The same Gaussian action in every state, clipped to the action range [-1, 1].

    :param mean: mean action, in [-1, 1] per dimension
    :param std: standard deviation of every dimension, or one value for each
    """

    def __init__(self, mean: Sequence[float], std: float | Sequence[float] = 0.3) -> None:
        self.mean = th.as_tensor(mean, dtype=th.float32)
        self.std = th.as_tensor(std, dtype=th.float32).expand_as(self.mean)
        if self.mean.ndim != 1 or self.mean.abs().max() > 1.0:
            raise ValueError(f"the mean of a fixed policy is {mean}; it must be a list of numbers in [-1, 1]")
        if self.std.min() <= 0.0:
            raise ValueError(f"the standard deviation of a fixed policy is {std}; it must be positive")

    def __repr__(self) -> str:
        mean, std = ([round(float(value), 6) for value in values] for values in (self.mean, self.std))
        return f"gaussian({mean}, {std})"

    def mean_action(self, features: th.Tensor) -> th.Tensor:
        """``(slots, act)`` for encoded observations ``(slots, features)``."""
        return self.mean.to(features).expand(len(features), -1)

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """Clipped action ``(..., act)`` from standard normal noise ``(..., act)``."""
        return (self.mean.to(noise) + self.std.to(noise) * noise).clamp(-1.0, 1.0)

    def sample_log_prob(self, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Clipped actions ``(..., act)`` and the density of the Gaussian before clipping ``(...)``."""
        log_prob = -0.5 * noise.square() - self.std.to(noise).log() - 0.5 * math.log(2.0 * math.pi)
        return self.sample(noise), log_prob.sum(dim=-1)
