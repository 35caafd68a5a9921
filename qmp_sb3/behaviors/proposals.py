"""What every candidate policy would do now, in every slot of the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch as th

from qmp_sb3.behaviors.fixed import FixedPolicies
from qmp_sb3.common.task_layout import TaskLayout
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
    fixed: tuple[FixedPolicies, ...] = field(default=())

    @property
    def tasks(self) -> np.ndarray:
        """The task of each slot, ``(slots,)``."""
        return self.layout.tasks

    @property
    def n_tasks(self) -> int:
        return self.layout.n_tasks

    @property
    def candidates(self) -> int:
        return self.n_tasks + sum(group.count for group in self.fixed)

    @cached_property
    def _policies(self) -> tuple[th.Tensor, th.Tensor]:
        """What every trained policy's network says, ``(tasks, slots, n_outputs)``, and its mean action ``(slots, tasks,
        act)``.
        """
        acting = self.policy.acting
        return acting.actor.every_policy(self.features, acting.action_head)

    def _noise(self, *shape: int) -> th.Tensor:
        noise = th.randn((*shape, self.policy.acting.action_head.n_actions), generator=self.generator)
        return noise if self.features.device.type == "cpu" else noise.to(self.features.device)

    def mean_actions(self) -> th.Tensor:
        """mu_j(s) of every candidate, ``(slots, candidates, act)``."""
        means = self._policies[1]
        if not self.fixed:
            return means
        return th.cat([means, *(group.mean_actions(self.features) for group in self.fixed)], dim=1)

    def sampled_actions(self, samples: int) -> tuple[th.Tensor, th.Tensor]:
        """a ~ pi_j(.|s) ``(samples, slots, candidates, act)`` and log pi_j(a|s) ``(samples, slots, candidates)``."""
        noise = self._noise(samples, len(self.features), self.n_tasks)
        outputs = self._policies[0].transpose(0, 1)
        actions, log_prob = self.policy.acting.action_head.sample_log_prob(outputs, noise)
        for group in self.fixed:
            noise = self._noise(samples, len(self.features), group.count)
            drawn, density = group.samples(self.features, noise)
            actions, log_prob = th.cat([actions, drawn], dim=2), th.cat([log_prob, density], dim=2)
        return actions, log_prob

    def action_values(self, actions: th.Tensor, critics: int | None = None) -> th.Tensor:
        """Q of each slot's own task at each candidate's action.

        :param actions: ``(slots, candidates, act)``
        :param critics: how many critics to ask, from the first; None for all
        :return: ``(critics, slots, candidates)``
        """
        acting = self.policy.acting
        return acting.value_head.values(acting.critic.candidates(self.features, actions, self.layout, critics))

    def own_values(self, features: th.Tensor, layout: TaskLayout, samples: int) -> th.Tensor:
        """V_i(s) = E_{a ~ pi_i} [mean_k Q_k(s, a) - alpha_i ln pi_i(a|s)] of each row's own task, ``(rows,)``.

        :param features: encoded observations, ``(rows, features)``
        :param layout: the task of each row
        :param samples: actions that the mean is taken over
        """
        acting = self.policy.acting
        outputs = acting.actor.by_row(features, layout)[0]
        actions, log_prob = acting.action_head.sample_log_prob(outputs, self._noise(samples, len(features)))
        values = acting.value_head.values(acting.critic.candidates(features, actions.transpose(0, 1), layout))
        values = values.mean(dim=0)
        alpha = self.temperature()[layout.tasks_tensor.to(values.device)]
        return (values - alpha[:, None] * log_prob.T).mean(dim=1)

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
            actions = self.policy.acting.action_head.sample(self._policies[0], noise, trained)
        else:
            layout = self.layout if trained is self.tasks else TaskLayout.of(trained, self.n_tasks)
            actions = self.policy.actor.act(self.features, layout, noise)
        if not self.fixed:
            return actions
        first = self.n_tasks
        for group in self.fixed:
            slots = np.flatnonzero((chosen >= first) & (chosen < first + group.count))
            if len(slots):
                actions[slots] = group.act(self.features[slots], chosen[slots] - first, noise[slots])
            first += group.count
        return actions
