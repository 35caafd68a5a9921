"""What every candidate policy would do now, in every slot of the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch as th

from qmp_sb3.behaviors.fixed import FixedGaussian
from qmp_sb3.distributions import sample_actions, split_parameters, squashed_sample_log_prob
from qmp_sb3.layout import TaskLayout
from qmp_sb3.policies import MultiTaskPolicy


@dataclass
class Proposals:
    """The candidates of one vector step, computed only as far as a behavior asks for them.

    Candidates are the policies of all tasks, in order, then the fixed ones; ``candidates`` is their number.

    :param policy: actors and critics of all tasks
    :param features: encoded observations, ``(slots, features)``
    :param layout: the task of each slot
    :param temperature: gives alpha of each task, ``(tasks,)``, to behaviors that ask for it
    :param rng: source of the behavior's own choices
    :param generator: source of the action noise
    :param num_timesteps: environment steps so far, all tasks together
    """

    policy: MultiTaskPolicy
    features: th.Tensor
    layout: TaskLayout
    temperature: Callable[[], th.Tensor]
    rng: np.random.Generator
    generator: th.Generator
    num_timesteps: int = 0
    fixed: tuple[FixedGaussian, ...] = field(default=())

    @property
    def tasks(self) -> np.ndarray:
        """The task of each slot, ``(slots,)``."""
        return self.layout.tasks

    @property
    def n_tasks(self) -> int:
        return self.layout.n_tasks

    @property
    def candidates(self) -> int:
        return self.n_tasks + len(self.fixed)

    @property
    def _act_dim(self) -> int:
        return self.policy.acting.actor.n_out // 2

    @cached_property
    def _policies(self) -> tuple[th.Tensor, th.Tensor]:
        """What every trained policy's network says, mean and log-std, ``(tasks, slots, 2 * act)``, and its mean action
        ``(slots, tasks, act)``.
        """
        return self.policy.acting.actor.every_policy(self.features)

    def _noise(self, *shape: int) -> th.Tensor:
        noise = th.randn((*shape, self._act_dim), generator=self.generator)
        return noise if self.features.device.type == "cpu" else noise.to(self.features.device)

    def mean_actions(self) -> th.Tensor:
        """mu_j(s) of every candidate, ``(slots, candidates, act)``."""
        means = self._policies[1]
        if not self.fixed:
            return means
        fixed = th.stack([policy.mean_action(self.features) for policy in self.fixed], dim=1)
        return th.cat([means, fixed], dim=1)

    def sampled_actions(self, samples: int) -> tuple[th.Tensor, th.Tensor]:
        """a ~ pi_j(.|s) ``(samples, slots, candidates, act)`` and log pi_j(a|s) ``(samples, slots, candidates)``."""
        mean, log_std = split_parameters(self._policies[0].transpose(0, 1))
        noise = self._noise(samples, len(self.features), self.n_tasks)
        actions, log_prob = squashed_sample_log_prob(mean, log_std, noise)
        for policy in self.fixed:
            drawn, density = policy.sample_log_prob(self._noise(samples, len(self.features)))
            actions = th.cat([actions, drawn[:, :, None]], dim=2)
            log_prob = th.cat([log_prob, density[:, :, None]], dim=2)
        return actions, log_prob

    def action_values(self, actions: th.Tensor, critics: int | None = None) -> th.Tensor:
        """Q of each slot's own task at each candidate's action.

        :param actions: ``(slots, candidates, act)``
        :param critics: how many critics to ask, from the first; None for all
        :return: ``(critics, slots, candidates)``
        """
        return self.policy.acting.critic.candidates(self.features, actions, self.layout, critics)[..., 0]

    def act(self, chosen: np.ndarray, deterministic: bool = False) -> th.Tensor:
        """One action of each slot's chosen candidate, in [-1, 1].

        :param chosen: index of the candidate, ``(slots,)``
        :param deterministic: its mean action instead of a sample
        :return: ``(slots, act)``
        """
        noise = self._noise(len(chosen))
        if deterministic:
            noise.zero_()
        trained = np.where(chosen < self.n_tasks, chosen, self.tasks) if self.fixed else chosen
        if "_policies" in self.__dict__:
            actions = sample_actions(self._policies[0], noise, trained)
        else:
            layout = self.layout if trained is self.tasks else TaskLayout.of(trained, self.n_tasks)
            actions = self.policy.actor.act(self.features, layout, noise)
        if not self.fixed:
            return actions
        for slot in np.flatnonzero(chosen >= self.n_tasks):
            actions[slot] = self.fixed[chosen[slot] - self.n_tasks].sample(noise[slot])
        return actions
