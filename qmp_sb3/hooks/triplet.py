"""Training of the unique features of ``shared_unique`` networks."""

from __future__ import annotations

from typing import ClassVar

import torch as th

from qmp_sb3.common.devices import to_device
from qmp_sb3.hooks.hook import Hook
from qmp_sb3.learner import Learner
from qmp_sb3.networks.shared_unique import UniqueFeatures
from qmp_sb3.objectives.triplet import triplet_loss, triplet_rows
from qmp_sb3.replay import Batch


class Triplet(Hook):
    """In every gradient step the unique features learn to tell the tasks apart from the states of the batch, with one
    random positive and one random negative for each (Shared-Unique Features, section 3).

    With one task there is nothing to tell apart.

    :param margin: m, not negative
    """

    looks_into_updates: ClassVar[bool] = True

    def __init__(self, margin: float = 1.0) -> None:
        if not margin >= 0:
            raise ValueError(f"triplet({margin}): the margin is a distance, at least 0")
        self.margin = float(margin)

    def __repr__(self) -> str:
        return f"triplet({self.margin:g})"

    def bind(self, learner: Learner) -> None:
        if not learner.policy.common.of_type(UniqueFeatures):
            raise ValueError(
                f"{self!r} trains unique features; networks={learner.policy.networks!r} has none, use 'shared_unique'"
            )

    def after_update(self, learner: Learner, batch: Batch, critic_losses: th.Tensor) -> None:
        tasks, size = batch.rewards.shape
        if tasks == 1:
            return
        draws = to_device(learner.streams.objective.random((3, tasks, size), dtype="float32"), batch.rows.device)
        counts = batch.task_counts()
        positive, other, negative = triplet_rows(counts, size, draws)
        weights = None
        if batch.weights is not None:
            usable = (batch.weights > 0) & (counts[other] > 0)
            weights = usable / usable.sum().clamp(min=1)
        own = th.arange(tasks, device=batch.rows.device)[:, None]
        for unique in learner.policy.common.of_type(UniqueFeatures):
            features = unique(batch.observations)
            loss = triplet_loss(features, features[own, positive], features[other, negative], self.margin, weights)
            unique.flat.backward(loss)
            if learner.max_grad_norm is not None:
                unique.flat.clip_(learner.max_grad_norm)
            unique.step()

    def after_updates(self, learner: Learner) -> None:
        """Nothing: all is done in the gradient steps."""
