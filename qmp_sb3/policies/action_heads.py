"""The squashed Gaussian of SAC, as pure functions."""

from __future__ import annotations

import math

import numpy as np
import torch as th

from qmp_sb3.native import load, perceptrons

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


def sample_actions(outputs: th.Tensor, noise: th.Tensor, chosen: np.ndarray | None = None) -> th.Tensor:
    """:func:`squashed_sample` of network outputs, by compiled code where there is some.

    :param outputs: ``(rows, 2 * act)``, or of every policy, ``(policies, rows, 2 * act)``, with ``chosen``
    :param noise: standard normal, ``(rows, act)``
    :param chosen: the policy of each row, ``(rows,)``
    """
    of_float = outputs.dtype is th.float32 and noise.dtype is th.float32
    if of_float and outputs.device.type == "cpu" and not th.is_grad_enabled() and load() is not None:
        return perceptrons.sample_actions(outputs, noise, chosen)
    if chosen is not None:
        outputs = outputs[th.as_tensor(chosen, device=outputs.device), th.arange(len(noise), device=outputs.device)]
    return squashed_sample(*split_parameters(outputs), noise)


def squashed_log_prob(mean: th.Tensor, log_std: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """log pi(a|s) ``(...)`` of given actions ``(..., act)`` in [-1, 1]."""
    limit = 1.0 - _SQUASH_EPSILON
    noise = (th.atanh(actions.clamp(-limit, limit)) - mean) / log_std.exp()
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    return (gaussian - th.log(1.0 - actions.square() + _SQUASH_EPSILON)).sum(dim=-1)


def squashed_sample_log_prob(mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """A reparameterized action ``(..., act)`` and its log-probability ``(...)`` (SAC, appendix C, eq. 21)."""
    actions = squashed_sample(mean, log_std, noise)
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    return actions, (gaussian - th.log(1.0 - actions.square() + _SQUASH_EPSILON)).sum(dim=-1)
