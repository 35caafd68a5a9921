"""The temperatures of soft actor-critic: one per task, or one for all; learned or given."""

from __future__ import annotations

import math
from typing import Any

import torch as th
from stable_baselines3.common.preprocessing import get_action_dim

from qmp_sb3.algorithms import checks
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.common import validation
from qmp_sb3.networks.flat_parameters import clip_gradient_
from qmp_sb3.objectives import TASK_WEIGHTS, temperature_loss


class TemperedAlgorithm(MultiTaskOffPolicyAlgorithm):
    """A multi-task algorithm that rewards entropy; attributes are named as in SB3's SAC.

    Either ``log_ent_coef`` is learned by ``ent_coef_optimizer`` or ``ent_coef_tensor`` is given: ``(tasks,)``, or
    ``(1,)`` for one of all tasks.
    """

    log_ent_coef: th.Tensor | None
    ent_coef_optimizer: th.optim.Optimizer | None
    ent_coef_tensor: th.Tensor
    max_temperature: float | None = None
    max_grad_norm: float | None = None

    def _set_temperatures(
        self, ent_coef: Any, target_entropy: str | float, temperatures: str, max_temperature: float | None
    ) -> None:
        self.ent_coef, self.target_entropy = ent_coef, target_entropy
        self.temperatures = validation.one_of("temperatures", temperatures, ("task", "shared"))
        self.max_temperature = validation.positive_or_none("max_temperature", max_temperature)
        self.log_ent_coef = self.ent_coef_optimizer = None

    def _setup_temperature(self) -> None:
        if self.target_entropy == "auto":
            self.target_entropy = -float(get_action_dim(self.action_space))
        self.target_entropy = float(self.target_entropy)
        count = 1 if self.temperatures == "shared" else self.n_tasks
        initial, learned = checks.temperatures(self.ent_coef, count)
        if self.max_temperature is not None and max(initial) > self.max_temperature:
            raise ValueError(
                f"ent_coef={self.ent_coef!r} starts at {max(initial):g}, above "
                f"max_temperature={self.max_temperature:g}; use ent_coef='auto_{self.max_temperature:g}'"
            )
        values = th.tensor(initial, device=self.device)
        if learned:
            self.log_ent_coef = values.log().requires_grad_(True)
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1))
        else:
            self.ent_coef_tensor = values

    @property
    def temperature(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``."""
        values = self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()
        return values.expand(self.n_tasks)

    def _learn_temperatures(
        self, log_prob: th.Tensor, counts: th.Tensor, weights: th.Tensor | None = None
    ) -> th.Tensor:
        """One gradient step, if they are learned; arguments as for the losses.

        :param counts: transitions of each task in the batch, ``(tasks,)``
        :return: loss of each task, ``(tasks,)``
        """
        if self.log_ent_coef is None or self.ent_coef_optimizer is None:
            return th.zeros(self.n_tasks, dtype=log_prob.dtype, device=log_prob.device)
        assert isinstance(self.target_entropy, float)
        losses = temperature_loss(self.log_ent_coef, log_prob, self.target_entropy, weights)
        self.ent_coef_optimizer.zero_grad()
        # A temperature of all tasks belongs to one learner, whose loss is the mean over all transitions.
        shares = TASK_WEIGHTS["mean" if self.temperatures == "shared" else "sum"](counts, self.temperature)
        (shares * losses).sum().backward()
        if self.max_grad_norm is not None:
            assert self.log_ent_coef.grad is not None
            clip_gradient_(self.log_ent_coef.grad, self.max_grad_norm)
        self.ent_coef_optimizer.step()
        if self.max_temperature is not None:
            self.log_ent_coef.data.clamp_(max=math.log(self.max_temperature))
        return losses.detach()
