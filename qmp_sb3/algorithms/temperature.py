"""The temperatures of soft actor-critic: one per task, or one for all; learned or given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch as th

from qmp_sb3.networks.flat_parameters import clip_gradient_
from qmp_sb3.objectives import TASK_WEIGHTS, temperature_loss

SCOPES = ("task", "shared")


class Temperature:
    """alpha. Either ``log`` is learned by ``optimizer``, or ``given`` stays: ``(tasks,)``, or ``(1,)`` for all tasks.

    :param ent_coef: ``"auto"``, ``"auto_0.1"`` (initial value), a number, or one number per task
    :param n_tasks: number of tasks
    :param scope: ``"task"`` for one of each task, ``"shared"`` for a single one
    :param target_entropy: H that actions are to have
    :param learning_rate: where it starts
    :param largest: upper bound of what is learned, None for none
    :param max_grad_norm: to which its gradient is shortened, None for any
    :param device: where the numbers are
    :raises ValueError: if ``ent_coef`` is none of these, or starts above ``largest``
    """

    log: th.Tensor | None = None
    optimizer: th.optim.Optimizer | None = None
    given: th.Tensor

    def __init__(
        self,
        ent_coef: Any,
        n_tasks: int,
        scope: str,
        target_entropy: float,
        learning_rate: float,
        largest: float | None,
        max_grad_norm: float | None,
        device: th.device,
    ) -> None:
        self.n_tasks, self.scope, self.target_entropy = n_tasks, scope, target_entropy
        self.largest, self.max_grad_norm = largest, max_grad_norm
        initial, learned = initial_temperatures(ent_coef, 1 if scope == "shared" else n_tasks)
        if largest is not None and max(initial) > largest:
            raise ValueError(
                f"ent_coef={ent_coef!r} starts at {max(initial):g}, above "
                f"max_temperature={largest:g}; use ent_coef='auto_{largest:g}'"
            )
        values = th.tensor(initial, device=device)
        if learned:
            self.log = values.log().requires_grad_(True)
            self.optimizer = th.optim.Adam([self.log], lr=learning_rate)
        else:
            self.given = values

    @property
    def values(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``."""
        values = self.given if self.log is None else self.log.detach().exp()
        return values.expand(self.n_tasks)

    def learn(self, log_prob: th.Tensor, counts: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
        """One gradient step, if they are learned.

        :param log_prob: of the policies' own actions, ``(tasks, batch)``
        :param counts: transitions of each task in the batch, ``(tasks,)``
        :param weights: as for the losses, ``(tasks, batch)``
        :return: loss of each task, ``(tasks,)``
        """
        if self.log is None or self.optimizer is None:
            return th.zeros(self.n_tasks, dtype=log_prob.dtype, device=log_prob.device)
        losses = temperature_loss(self.log, log_prob, self.target_entropy, weights)
        self.optimizer.zero_grad()
        # A temperature of all tasks belongs to one learner, whose loss is the mean over all transitions.
        shares = TASK_WEIGHTS["mean" if self.scope == "shared" else "sum"](counts, self.values)
        (shares * losses).sum().backward()
        if self.max_grad_norm is not None:
            assert self.log.grad is not None
            clip_gradient_(self.log.grad, self.max_grad_norm)
        self.optimizer.step()
        if self.largest is not None:
            self.log.data.clamp_(max=math.log(self.largest))
        return losses.detach()


def initial_temperatures(ent_coef: Any, count: int) -> tuple[list[float], bool]:
    """What temperatures start at, and whether they are learned.

    :param ent_coef: as for :class:`Temperature`
    :param count: how many there are
    """
    word, _, initial = ent_coef.partition("_") if isinstance(ent_coef, str) else ("", "", "")
    learned = word == "auto"
    try:
        values = [float(value) for value in np.atleast_1d((initial or 1.0) if learned else ent_coef)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"ent_coef={ent_coef!r} is none of 'auto', 'auto_0.1', a number, one per task") from error
    if learned and not values[0] > 0.0:
        raise ValueError(f"ent_coef={ent_coef!r}: the initial temperature must be greater than 0")
    if not min(values, default=0.0) >= 0.0:
        raise ValueError(f"ent_coef={ent_coef!r}: a temperature must not be negative")
    if learned or np.ndim(ent_coef) == 0:
        values *= count
    if len(values) != count:
        raise ValueError(
            f"ent_coef has {len(values)} values, but there are {count} tasks; give one value or one per task"
        )
    return values, learned
