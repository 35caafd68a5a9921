"""The squashed Gaussian of SAC, as pure functions."""

from __future__ import annotations

import math

import torch as th

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
_SQUASH_EPSILON = 1e-6  # keeps the logarithm finite where tanh saturates, as in SB3
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def split_parameters(outputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """Network outputs ``(..., 2 * act)`` to the Gaussian's mean and its clamped log standard deviation."""
    mean, log_std = outputs.chunk(2, dim=-1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


def squashed_sample(mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor) -> th.Tensor:
    """``tanh(mean + std * noise)``, all of shape ``(..., act)``."""
    return th.tanh(mean + log_std.exp() * noise)


def squashed_log_prob(mean: th.Tensor, log_std: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """log pi(a|s) ``(...)`` of given actions ``(..., act)`` in [-1, 1]."""
    limit = 1.0 - _SQUASH_EPSILON
    noise = (th.atanh(actions.clamp(-limit, limit)) - mean) / log_std.exp()
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    return (gaussian - th.log(1.0 - actions.square() + _SQUASH_EPSILON)).sum(dim=-1)


def squashed_sample_log_prob(mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """A reparameterised action ``(..., act)`` and its log-probability ``(...)`` (SAC, appendix C, eq. 21)."""
    actions = squashed_sample(mean, log_std, noise)
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    return actions, (gaussian - th.log(1.0 - actions.square() + _SQUASH_EPSILON)).sum(dim=-1)
