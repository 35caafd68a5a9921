"""PaCo's cure for a task whose loss explodes: it is left out, and begins again among the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch as th

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.common.devices import to_device
from qmp_sb3.hooks.hook import Hook
from qmp_sb3.learner import Learner
from qmp_sb3.networks.paco import TaskVectors
from qmp_sb3.replay import Batch

RESETS = ("interpolate", "copy", "none")


class Maskout(Hook):
    """A task whose critic loss is above a limit does not count in that gradient step, for the critics and the actor;
    then its task vector becomes a random combination of those of the tasks below the limit, with shares beta >= 0 that
    sum to one (Sun et al., 2022, PaCo, section 3.3), in the target critics too. Where no task is below, all vectors
    begin anew. A loss that is not finite spoils all tasks nevertheless: 0 times infinity is no number.

    Networks without task vectors are only masked.

    :param limit: of the critic loss of a task, as it is logged
    :param reset: ``"interpolate"``, ``"copy"`` for the vector of one random task, or ``"none"``
    """

    looks_into_updates: ClassVar[bool] = True

    def __init__(self, limit: float = 3000.0, reset: str = "interpolate") -> None:
        if not limit > 0:
            raise ValueError(f"maskout({limit}): the limit of the critic loss is positive")
        if reset not in RESETS:
            raise ValueError(f"maskout(reset={reset!r}) is unknown; {did_you_mean(reset, RESETS)}")
        self.limit, self.reset = float(limit), reset

    def __repr__(self) -> str:
        return f"maskout({self.limit:g})" if self.reset == "interpolate" else f"maskout({self.limit:g}, {self.reset!r})"

    def task_factor(self, learner: Learner, critic_losses: th.Tensor) -> th.Tensor:
        return (critic_losses <= self.limit).to(critic_losses.dtype)

    def after_update(self, learner: Learner, batch: Batch, critic_losses: th.Tensor) -> None:
        parts = learner.policy.common.of_type(TaskVectors)
        if self.reset == "none" or not parts:
            return
        exploded = ~(critic_losses <= self.limit)
        tasks, rng = len(exploded), learner.streams.objective
        draws = rng.random((tasks, tasks), dtype=np.float32)
        for part in parts:
            fresh = rng.uniform(-1.0, 1.0, part.vectors.shape).astype(np.float32)
            shares, begun = to_device(draws, critic_losses.device), to_device(fresh, critic_losses.device)
            kept = reset_vectors(part.vectors.data, exploded, shares, begun, copy=self.reset == "copy")
            part.vectors.data.copy_(kept)
            # In the targets too: else what they say of next states stays exploded, and the task masked.
            for name, of_critic in learner.policy.critic.network.common.items():
                copy = learner.policy.critic_target.network.common[name]
                if of_critic is part and isinstance(copy, TaskVectors):
                    copy.vectors.data.copy_(th.where(exploded[:, None], kept, copy.vectors.data))

    def after_updates(self, learner: Learner) -> None:
        """Nothing: all is done in the gradient steps."""


def reset_vectors(
    vectors: th.Tensor, exploded: th.Tensor, draws: th.Tensor, fresh: th.Tensor, copy: bool = False
) -> th.Tensor:
    """w_i <- sum_j beta_j w_j over the tasks j that are in order, for every task i that is not; all others stay.

    :param vectors: w, ``(tasks, sets)``
    :param exploded: which tasks are not in order, ``(tasks,)``
    :param draws: uniform in [0, 1), ``(tasks, tasks)``: row i becomes beta of task i
    :param fresh: uniform in [-1, 1], ``(tasks, sets)``; scaled as Xavier's where no task is in order
    :param copy: the largest beta counts alone
    :return: ``(tasks, sets)``
    """
    tasks, sets = vectors.shape
    shares = th.where(exploded, 0.0, draws.clamp(min=1e-6))
    if copy:
        shares = th.nn.functional.one_hot(shares.argmax(dim=1), tasks).to(shares.dtype)
    combined = (shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-6)) @ vectors
    begun = fresh * (6.0 / (tasks + sets)) ** 0.5
    return th.where(exploded[:, None], th.where(exploded.all(), begun, combined), vectors)
