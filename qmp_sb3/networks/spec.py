"""What every family of networks is told: sizes, and how the layers look and start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch as th
from torch import nn


@dataclass(frozen=True)
class NetworkSpec:
    """Sizes and layers of a network.

    :param n_in: size of the input
    :param n_out: size of the output
    :param n_tasks: number of tasks
    :param hidden: widths of the hidden layers
    :param copies: independent copies of the whole network (two for twin critics)
    :param activation_fn: the hidden units' activation, element-wise
    :param initialization: name in :data:`~qmp_sb3.networks.initialization.INITIALIZATIONS`
    :param generator: source of the initial weights
    :param n_state: size of an encoded observation, the first part of the input; None if that is the whole input
    """

    n_in: int
    n_out: int
    n_tasks: int
    hidden: Sequence[int] = ()
    copies: int = 1
    activation_fn: Callable[[], nn.Module] = nn.ReLU
    initialization: str = "linear"
    generator: th.Generator | None = None
    n_state: int | None = None

    @property
    def state_size(self) -> int:
        """Size of an encoded observation."""
        return self.n_in if self.n_state is None else self.n_state
