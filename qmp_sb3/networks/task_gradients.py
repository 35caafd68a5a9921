"""The gradients of every task's loss with respect to one parameter."""

from __future__ import annotations

from dataclasses import dataclass

import torch as th


@dataclass(frozen=True)
class TaskGradients:
    """A gradient for each task and each copy of a network.

    :param values: ``(copies, tasks, numbers)``
    :param own: the numbers are those of the task itself, which no other task's loss depends on
    """

    values: th.Tensor
    own: bool

    def products(self) -> th.Tensor:
        """g_i . g_j of this parameter's part, ``(copies, tasks, tasks)``."""
        if self.own:
            return th.diag_embed(self.values.square().sum(dim=-1))
        return self.values @ self.values.mT

    def combined(self, shares: th.Tensor) -> th.Tensor:
        """sum_k a_k g_k ``(copies, numbers of all tasks)`` for a, ``(copies, tasks)``."""
        if self.own:
            return (shares[..., None] * self.values).flatten(1)
        return th.einsum("ck,ckn->cn", shares, self.values)
