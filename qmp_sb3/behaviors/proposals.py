"""What every candidate policy would do now, in every slot of the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch as th

from qmp_sb3.behaviors.fixed import FixedGaussian
from qmp_sb3.distributions import split_parameters, squashed_sample, squashed_sample_log_prob
from qmp_sb3.layout import TaskLayout
from qmp_sb3.policies import MultiTaskPolicy


@dataclass
class Proposals:
    """The candidates of one vector step, computed only as far as a behavior asks for them.

    Candidates are the policies of all tasks, in order, then the fixed ones; ``candidates`` is their number.

    :param policy: actors and critics of all tasks
    :param features: encoded observations, ``(slots, features)``
    :param layout: the task of each slot
    :param temperature: alpha of each task, ``(tasks,)``
    :param rng: source of the behavior's own choices
    :param generator: source of the action noise
    :param num_timesteps: environment steps so far, all tasks together
    """

    policy: MultiTaskPolicy
    features: th.Tensor
    layout: TaskLayout
    temperature: th.Tensor
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
        return self.policy.actor.network.n_out // 2

    @cached_property
    def _outputs(self) -> th.Tensor:
        """What every trained policy's network says, mean and log-std, ``(tasks, slots, 2 * act)``."""
        return self.policy.actor.network.every(self.features)[0]

    def _noise(self, *shape: int) -> th.Tensor:
        return th.randn((*shape, self._act_dim), generator=self.generator).to(self.features.device)

    def mean_actions(self) -> th.Tensor:
        """mu_j(s) of every candidate, ``(slots, candidates, act)``."""
        means = th.tanh(self._outputs[..., : self._act_dim]).transpose(0, 1)
        if not self.fixed:
            return means
        fixed = th.stack([policy.mean_action(self.features) for policy in self.fixed], dim=1)
        return th.cat([means, fixed], dim=1)

    def sampled_actions(self, samples: int) -> tuple[th.Tensor, th.Tensor]:
        """a ~ pi_j(.|s) ``(samples, slots, candidates, act)`` and log pi_j(a|s) ``(samples, slots, candidates)``."""
        mean, log_std = split_parameters(self._outputs.transpose(0, 1))
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
        slots, candidates, _ = actions.shape
        states = self.features[:, None].expand(slots, candidates, -1)
        blocks = self.layout.to_tasks(th.cat([states, actions], dim=-1))  # (tasks, rows, candidates, features + act)
        values = self.policy.critic(blocks.flatten(1, 2), self.layout.present, critics)
        values = values.view(len(values), *blocks.shape[:3]).permute(1, 2, 0, 3)
        return self.layout.to_rows(values).transpose(0, 1)

    def act(self, chosen: np.ndarray, deterministic: bool = False) -> th.Tensor:
        """One action of each slot's chosen candidate, in [-1, 1].

        :param chosen: index of the candidate, ``(slots,)``
        :param deterministic: its mean action instead of a sample
        :return: ``(slots, act)``
        """
        noise = self._noise(len(chosen))
        if deterministic:
            noise.zero_()
        trained = np.where(chosen < self.n_tasks, chosen, self.tasks)
        if "_outputs" in self.__dict__:
            rows = th.from_numpy(trained * len(trained) + np.arange(len(trained))).to(noise.device)
            outputs = self._outputs.flatten(0, 1).index_select(0, rows)
            actions = squashed_sample(*split_parameters(outputs), noise)
        else:
            layout = self.layout if np.array_equal(trained, self.tasks) else TaskLayout(trained, self.n_tasks)
            actions = self.policy.actor.act(self.features, layout, noise)
        for slot in np.flatnonzero(chosen >= self.n_tasks):
            actions[slot] = self.fixed[chosen[slot] - self.n_tasks].sample(noise[slot])
        return actions
