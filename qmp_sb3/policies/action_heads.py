"""Action heads: what the outputs of a policy network mean as actions in [-1, 1]."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch as th

from qmp_sb3.native import load, perceptrons

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
_SQUASH_EPSILON = 1e-6  # keeps the logarithm finite where tanh saturates, as in SB3
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class ActionHead(ABC):
    """A distribution of actions, or one action, from the outputs of a policy network.

    Outputs are ``(..., n_outputs)``, actions and noise ``(..., act)``, log-probabilities ``(...)``.

    :param n_actions: numbers in an action
    """

    #: whether the compiled library has this head
    compiled: ClassVar[bool] = False
    #: outputs of the network for each number of an action
    outputs_per_action: ClassVar[int]

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    @property
    def n_outputs(self) -> int:
        """Width of the network's last layer."""
        return self.outputs_per_action * self.n_actions

    @abstractmethod
    def parameters(self, outputs: th.Tensor) -> tuple[th.Tensor, ...]:
        """What the outputs say of the distribution before squashing, ``(..., act)`` each."""

    @abstractmethod
    def mean_actions(self, outputs: th.Tensor) -> th.Tensor:
        """The deterministic action."""

    @abstractmethod
    def sample(self, outputs: th.Tensor, noise: th.Tensor, chosen: np.ndarray | None = None) -> th.Tensor:
        """Actions to collect data with, ``(rows, act)``, without gradients.

        :param outputs: ``(rows, n_outputs)``, or of every policy, ``(policies, rows, n_outputs)``, with ``chosen``
        :param noise: standard normal, ``(rows, act)``; where it is zero, the deterministic action
        :param chosen: the policy of each row, ``(rows,)``
        """

    @abstractmethod
    def sample_log_prob(self, outputs: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Reparameterized actions and their log-probabilities."""

    @abstractmethod
    def log_prob(self, outputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """ln pi(a|s) of given actions."""


class SquashedGaussian(ActionHead):
    """a = tanh(mu + sigma * noise), the policy of SAC (Haarnoja et al., 2018, appendix C)."""

    compiled = True
    outputs_per_action = 2

    def parameters(self, outputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The Gaussian's mean and its clamped log standard deviation, ``(..., act)`` each."""
        mean, log_std = outputs.chunk(2, dim=-1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)

    def mean_actions(self, outputs: th.Tensor) -> th.Tensor:
        return th.tanh(self.parameters(outputs)[0])

    def sample(self, outputs: th.Tensor, noise: th.Tensor, chosen: np.ndarray | None = None) -> th.Tensor:
        of_float = outputs.dtype is th.float32 and noise.dtype is th.float32
        if of_float and outputs.device.type == "cpu" and not th.is_grad_enabled() and load() is not None:
            return perceptrons.sample_actions(outputs, noise, chosen)
        if chosen is not None:
            outputs = outputs[th.as_tensor(chosen, device=outputs.device), th.arange(len(noise), device=outputs.device)]
        mean, log_std = self.parameters(outputs)
        return _squashed(mean, log_std, noise)

    def sample_log_prob(self, outputs: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """SAC, appendix C, eq. 21."""
        mean, log_std = self.parameters(outputs)
        actions = _squashed(mean, log_std, noise)
        return actions, _log_density(noise, log_std, actions)

    def log_prob(self, outputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        mean, log_std = self.parameters(outputs)
        limit = 1.0 - _SQUASH_EPSILON
        noise = (th.atanh(actions.clamp(-limit, limit)) - mean) / log_std.exp()
        return _log_density(noise, log_std, actions)


def _squashed(mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor) -> th.Tensor:
    return th.tanh(mean + log_std.exp() * noise)


def _log_density(noise: th.Tensor, log_std: th.Tensor, actions: th.Tensor) -> th.Tensor:
    gaussian = -0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI
    return (gaussian - th.log(1.0 - actions.square() + _SQUASH_EPSILON)).sum(dim=-1)
