"""Terms that are added to the actors' loss, one number per task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch as th

from qmp_sb3.common.devices import to_device
from qmp_sb3.replay import Batch
from qmp_sb3.serialization.tags import vocabulary


class GaussianHead(Protocol):
    """An action head with a mean and a log standard deviation."""

    def parameters(self, outputs: th.Tensor) -> tuple[th.Tensor, ...]: ...


class Policies(Protocol):
    """What a regularizer asks of the actor (:class:`~qmp_sb3.policies.MultiTaskActor`)."""

    n_tasks: int

    @property
    def head(self) -> GaussianHead: ...

    def every(self, features: th.Tensor) -> th.Tensor:
        """What the head reads of every policy, ``(tasks, rows, n_outputs)``, for features ``(rows, features)``."""
        ...


class Regularizer(ABC):
    """A term of each task's actor loss."""

    def bind(self, n_tasks: int) -> None:
        """Check that the term suits a number of tasks; called when the model is built.

        :raises ValueError: if it does not
        """

    @abstractmethod
    def __call__(self, actor: Policies, batch: Batch) -> th.Tensor:
        """``(tasks,)``"""


def gaussian_kl(mean_p: th.Tensor, log_std_p: th.Tensor, mean_q: th.Tensor, log_std_q: th.Tensor) -> th.Tensor:
    """KL(p || q) of normal distributions, element by element; the same for their squashed actions."""
    ratio = 2.0 * (log_std_p - log_std_q)
    distance = ((mean_p - mean_q) / log_std_q.exp()).square()
    return 0.5 * (ratio.exp() + distance - 1.0 - ratio)


class DivideAndConquer(Regularizer):
    """sum_j beta_ij E_s mean_d KL(pi_j || pi_i) over the other tasks j (Divide and Conquer RL; QMP, appendix H.4).

    The states are an equal share of every task's batch, ``batch // tasks`` each, and pi_j is a constant: only pi_i is
    drawn towards the others.

    :param beta: one number, or a matrix ``(tasks, tasks)`` with the row of the task that is drawn
    """

    def __init__(self, beta: float | Sequence[Sequence[float]]) -> None:
        allowed = f"dnc({beta!r}): beta is a number or a matrix (tasks, tasks), and not negative"
        try:
            self.beta = np.asarray(beta, dtype=np.float64)
        except ValueError:
            raise ValueError(allowed) from None
        if self.beta.ndim not in (0, 2) or (self.beta < 0).any():
            raise ValueError(allowed)

    def __repr__(self) -> str:
        return f"dnc({self.beta.tolist()})"

    def bind(self, n_tasks: int) -> None:
        if self.beta.ndim == 2 and self.beta.shape != (n_tasks, n_tasks):
            raise ValueError(f"{self!r} has a matrix {self.beta.shape}; {n_tasks} tasks need {(n_tasks, n_tasks)}")

    def __call__(self, actor: Policies, batch: Batch) -> th.Tensor:
        tasks = actor.n_tasks
        share = max(1, batch.observations.shape[1] // tasks)
        states = batch.observations[:, :share].flatten(0, 1)
        mean, log_std = actor.head.parameters(actor.every(states))  # (tasks, states, act)
        others = mean.detach(), log_std.detach()
        divergence = gaussian_kl(others[0][None], others[1][None], mean[:, None], log_std[:, None]).mean(dim=(2, 3))
        beta = to_device(th.as_tensor(self.beta, dtype=mean.dtype), mean.device).expand(tasks, tasks)
        return (beta * (1.0 - th.eye(tasks, device=mean.device)) * divergence).sum(dim=1)


#: word -> class
REGULARIZERS: dict[str, Callable[..., Regularizer]] = vocabulary("regularizer", Regularizer, {"dnc": DivideAndConquer})
