"""Fixed candidate policies: never trained, known before the task (QMP, section 5.2)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch as th
from gymnasium import spaces

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class FixedPolicies(ABC):
    """One or several policies that are candidates and never trained; what is asked of them is asked of all at once.

    :cvar count: how many
    """

    count: int = 1

    @abstractmethod
    def check(self, observation_space: spaces.Space, action_space: spaces.Box) -> None:
        """Raise a ValueError if they are not for these spaces."""

    @abstractmethod
    def mean_actions(self, features: th.Tensor) -> th.Tensor:
        """``(slots, count, act)`` for encoded observations ``(slots, features)``."""

    @abstractmethod
    def samples(self, features: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Actions ``(samples, slots, count, act)`` and their log-densities ``(samples, slots, count)``.

        :param features: encoded observations, ``(slots, features)``
        :param noise: standard normal, ``(samples, slots, count, act)``
        """

    @abstractmethod
    def act(self, features: th.Tensor, which: np.ndarray, noise: th.Tensor) -> th.Tensor:
        """An action of one policy for each slot, ``(slots, act)``; its mean action where the noise is zero.

        :param features: encoded observations, ``(slots, features)``
        :param which: number of the policy, ``(slots,)``
        :param noise: standard normal, ``(slots, act)``
        """

    @abstractmethod
    def log_prob(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """ln pi(a|s) of each policy, ``(rows, count)``.

        :param features: encoded observations, ``(rows, features)``
        :param actions: in [-1, 1], ``(rows, act)``
        """


class FixedGaussian(FixedPolicies):
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

    def check(self, observation_space: spaces.Space, action_space: spaces.Box) -> None:
        size = int(np.prod(action_space.shape))
        if len(self.mean) != size:
            raise ValueError(f"{self} has {len(self.mean)} numbers, but an action has {size}")

    def mean_actions(self, features: th.Tensor) -> th.Tensor:
        return self.mean.to(features).expand(len(features), 1, -1)

    def sample(self, noise: th.Tensor) -> th.Tensor:
        """Clipped action ``(..., act)`` from standard normal noise ``(..., act)``."""
        return (self.mean.to(noise) + self.std.to(noise) * noise).clamp(-1.0, 1.0)

    def samples(self, features: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Clipped actions, and the density of the Gaussian before clipping."""
        return self.sample(noise), self._log_density(noise)

    def act(self, features: th.Tensor, which: np.ndarray, noise: th.Tensor) -> th.Tensor:
        return self.sample(noise)

    def log_prob(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """The density of the Gaussian before clipping, at the actions."""
        return self._log_density((actions - self.mean.to(actions)) / self.std.to(actions))[:, None]

    def _log_density(self, noise: th.Tensor) -> th.Tensor:
        return (-0.5 * noise.square() - self.std.to(noise).log() - _HALF_LOG_TWO_PI).sum(dim=-1)
