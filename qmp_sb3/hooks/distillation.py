"""Divide and Conquer's distillation: now and then, all policies become one."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch as th
from torch import nn

from qmp_sb3.hooks.hook import Hook
from qmp_sb3.learner import Learner
from qmp_sb3.networks import IndependentMLP
from qmp_sb3.networks.flat_parameters import refuse_other_moments


class Distill(Hook):
    """Every ``steps`` environment steps a central policy is fitted to the replay data of all tasks, then copied into
    every task's policy (Divide and Conquer RL, with tasks for contexts; QMP, appendix H.4).

    The central policy begins as a copy of task 0's first one, is kept between distillations, and maximizes
    E log pi_c(a|s) over ``batch_size // tasks`` stored transitions of each task. Critics, temperatures and the
    policies' optimizers stay as they are.

    :param steps: environment steps, all tasks together, between two distillations
    :param updates: gradient steps of the central policy in each
    """

    def __init__(self, steps: float, updates: int = 500) -> None:
        if steps < 1 or updates < 1:
            raise ValueError(f"distill({steps}, {updates}): both numbers must be at least 1")
        self.steps, self.updates = int(steps), int(updates)
        self.done = 0
        self._center: IndependentMLP | None = None
        self._optimizer: th.optim.Optimizer | None = None
        self._learned: dict[str, Any] | None = None  # of a central policy that is to be made again

    def __repr__(self) -> str:
        return f"distill({self.steps}, {self.updates})"

    def __getstate__(self) -> dict[str, Any]:
        """The central policy's numbers instead of itself; the model that has the hook makes it again of them."""
        learned = self._learned
        if self._center is not None and self._optimizer is not None:
            learned = {"center": dict(self._center.state_dict()), "optimizer": self._optimizer.state_dict()}
        return self.__dict__ | {"_center": None, "_optimizer": None, "_learned": deepcopy(learned)}

    def bind(self, learner: Learner) -> None:
        if not isinstance(learner.policy.actor.network, IndependentMLP):
            raise ValueError(
                f"{self!r} copies one policy into those of all tasks; networks={learner.policy.networks!r} has no "
                "separate ones, use 'independent'"
            )
        if self._center is None:
            self._begin(learner)

    def _begin(self, learner: Learner) -> None:
        networks = deepcopy(learner.policy.actor.network)
        assert isinstance(networks, IndependentMLP)
        self._center = networks.only(0)
        self._optimizer = th.optim.Adam(self._center.parameters(), lr=learner.first_learning_rate)
        if self._learned is not None:
            refuse_other_moments(self._optimizer, self._learned["optimizer"], repr(self))
            self._center.load_state_dict(self._learned["center"])
            self._optimizer.load_state_dict(self._learned["optimizer"])
            self._learned = None

    def after_updates(self, learner: Learner) -> None:
        periods = learner.num_timesteps // self.steps
        due, self.done = periods > self.done, periods  # fewer where the steps are counted anew
        if due:
            self.distill(learner)

    def distill(self, learner: Learner) -> None:
        """Fit the central policy and copy it into all others."""
        if self._center is None:
            self._begin(learner)
        assert self._center is not None and self._optimizer is not None
        _move(self._center, self._optimizer, learner.device)
        each = max(1, learner.batch_size // learner.n_tasks)
        for _ in range(self.updates):
            batch = learner.sample(each)
            inputs, actions = batch.observations.flatten(0, 1), batch.actions.flatten(0, 1)
            log_prob = learner.policy.actor.head.log_prob(self._center(inputs[None])[0, 0], actions)
            weights = batch.corrected_weights
            weights = th.ones_like(log_prob) if weights is None else weights.flatten()
            loss = -(weights * log_prob).sum() / weights.sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        network = learner.policy.actor.network
        with th.no_grad():
            for own, center in zip(network.parameters(), self._center.parameters(), strict=True):
                own.copy_(center.expand_as(own))


def _move(network: nn.Module, optimizer: th.optim.Optimizer, device: th.device) -> None:
    """A network keeps its parameters when it goes to another device, and so must what the optimizer knows of them."""
    network.to(device)
    optimizer.load_state_dict(optimizer.state_dict())
