"""Divide and Conquer's distillation: now and then, all policies become one."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch as th
from torch import nn

from qmp_sb3.distributions import split_parameters, squashed_log_prob
from qmp_sb3.hooks.hook import Hook
from qmp_sb3.networks import IndependentMLP

if TYPE_CHECKING:
    from qmp_sb3.multitask_sac import MultiTaskSAC


class Distill(Hook):
    """Every ``steps`` environment steps a central policy is fitted to the replay data of all tasks, then copied into
    every task's policy (Divide and Conquer RL, with tasks for contexts; QMP, appendix H.4).

    The central policy begins as a copy of task 0's first one, is kept between distillations, and maximises
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

    def __repr__(self) -> str:
        return f"distill({self.steps}, {self.updates})"

    def __getstate__(self) -> dict[str, Any]:
        """The central policy goes to the CPU, so that a model can be loaded where there is no GPU."""
        state = dict(self.__dict__)
        if self._center is not None and self._optimizer is not None:
            state["_center"], state["_optimizer"] = deepcopy((self._center, self._optimizer))
            _move(state["_center"], state["_optimizer"], th.device("cpu"))
        return state

    def bind(self, model: MultiTaskSAC) -> None:
        if not isinstance(model.actor.network, IndependentMLP):
            raise ValueError(
                f"{self!r} copies one policy into those of all tasks; networks={model.networks!r} has no separate "
                "ones, use 'independent'"
            )
        if self._center is None:
            self._center = deepcopy(model.actor.network).only(0)
            self._optimizer = th.optim.Adam(self._center.parameters(), lr=model.lr_schedule(1.0))

    def after_updates(self, model: MultiTaskSAC) -> None:
        periods = model.num_timesteps // self.steps
        due, self.done = periods > self.done, periods  # fewer where the steps are counted anew
        if due:
            self.distill(model)

    def distill(self, model: MultiTaskSAC) -> None:
        """Fit the central policy and copy it into all others."""
        assert self._center is not None and self._optimizer is not None
        _move(self._center, self._optimizer, model.device)
        each = max(1, model.batch_size // model.n_tasks)
        for _ in range(self.updates):
            batch = model.replay_buffer.sample(each, env=model._vec_normalize_env)
            inputs, actions = batch.observations.flatten(0, 1), batch.actions.flatten(0, 1)
            mean, log_std = split_parameters(self._center(inputs[None])[0, 0])
            log_prob = squashed_log_prob(mean, log_std, actions)
            weights = batch.corrected_weights
            weights = th.ones_like(log_prob) if weights is None else weights.flatten()
            loss = -(weights * log_prob).sum() / weights.sum()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        network = model.actor.network
        with th.no_grad():
            for own, center in zip(network.parameters(), self._center.parameters(), strict=True):
                own.copy_(center.expand_as(own))


def _move(network: nn.Module, optimizer: th.optim.Optimizer, device: th.device) -> None:
    """A network keeps its parameters when it goes to another device, and so must what the optimizer knows of them."""
    network.to(device)
    optimizer.load_state_dict(optimizer.state_dict())
