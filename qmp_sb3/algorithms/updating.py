"""The half of an algorithm that learns: gradient steps of all tasks at once, by PyTorch or by the compiled library."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import TrainFreq

from qmp_sb3.algorithms import checks
from qmp_sb3.algorithms.collecting import CollectingAlgorithm
from qmp_sb3.algorithms.native_update import NativeLearner, NativeUpdate
from qmp_sb3.algorithms.update_records import record_updates
from qmp_sb3.common.devices import to_device
from qmp_sb3.hooks import Hook
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.objectives import GRADIENTS, TASK_WEIGHTS
from qmp_sb3.objectives.regularizers import Regularizer
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic
from qmp_sb3.replay import Allocation, Batch, Draw, Segments
from qmp_sb3.replay.sharing import KeepOwn


class UpdatingAlgorithm(CollectingAlgorithm):
    """Learns in joint updates of all tasks, and answers what parts ask (:class:`~qmp_sb3.learner.Learner`)."""

    #: what an update says of each task, by its name in the log
    measures: ClassVar[tuple[str, ...]] = ("critic_loss", "actor_loss")
    #: blocks of standard normal noise ``(tasks, batch, act)`` that an update reads
    noises: ClassVar[int] = 2
    actor: MultiTaskActor
    critic: MultiTaskCritic
    critic_target: MultiTaskCritic
    replay: Allocation
    draw: Draw
    sharing: KeepOwn
    regularizer: Regularizer | None
    hooks: list[Hook]
    task_weights: str
    gradients: str
    backend: str
    num_threads: int | None
    matmul_precision: str | None = None
    reward_scale: float
    max_grad_norm: float | None = None
    target_update_interval: int
    _native: NativeUpdate

    @property
    def backend_note(self) -> str | None:
        """Why PyTorch computes the updates; None if the compiled library does."""
        return "backend='torch'" if self.backend == "torch" else self._unsupported()

    @property
    def update_backend(self) -> str:
        """Who computes the updates, ``"native"`` or ``"torch"``."""
        return "native" if self.backend_note is None else "torch"

    def _unsupported(self) -> str | None:
        """Why the compiled library does not compute the updates, None if it does."""
        return f"{type(self).__name__} has no compiled update"

    def _optimizers(self) -> list[th.optim.Optimizer]:
        """Those that follow the learning rate's schedule."""
        return [self.actor.optimizer, self.critic.optimizer, *self.policy.common.scheduled()]

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Joint updates of all tasks, at the learning rate of now, their record, and what hooks do after them."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self._optimizers())
        if gradient_steps < 1 or self.replay_buffer.size() == 0:
            return  # in the second case no sum of n_steps rewards is complete yet

        self.policy.gather_moved()
        self.draw.anneal(self._current_progress_remaining)
        note = self.backend_note
        checks.backend_available(self.backend, note)
        if note is None and self.replay_buffer.sizes.all():
            # only such a learner is supported
            sums = self._native.steps(cast(NativeLearner, self), gradient_steps, batch_size)
        else:
            sums = self.steps(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self._record(sums / gradient_steps)
        self.behavior.learn(self)
        for hook in self.hooks:
            hook.after_updates(self)

    def _record(self, means: th.Tensor) -> None:
        """Log what the updates said, ``(measures, tasks)``, and what parts say of them."""
        by_measure = self._by_measure(means)
        kept, priorities = self.sharing.kept(), self.replay_buffer.mean_priorities()
        by_measure |= {} if kept is None else {"shared_data": kept}
        by_measure |= {} if priorities is None else {"priority": priorities}
        totals = self.draw.measures() | {"n_updates": self._n_updates}
        record_updates(self.logger, by_measure, totals, self.task_names, self.replay_buffer.sizes > 0)

    def _by_measure(self, means: th.Tensor) -> dict[str, np.ndarray]:
        """What is logged of :attr:`measures`, ``(measures, tasks)``, by name."""
        return dict(zip(self.measures, means.cpu().numpy(), strict=True))

    def steps(self, gradient_steps: int, batch_size: int) -> th.Tensor:
        """Gradient steps of all tasks, each followed by the target critics.

        :return: :attr:`measures` of each task, summed over the steps, ``(measures, tasks)``
        """
        sums = th.zeros(len(self.measures), self.n_tasks, device=self.device)
        for gradient_step in range(gradient_steps):
            batch = self.sample(batch_size)
            batch = self.sharing(batch, self.replay_buffer, self.critic, self._vec_normalize_env)
            shape = self.noises, *batch.actions.shape
            sums += self.update(batch, to_device(th.randn(shape, generator=self.streams.updates), self.device))
            self.replay_buffer.feedback(batch)
            if gradient_step % self.target_update_interval == 0:
                self.critic_target.flat.polyak_(self.critic.flat, self.tau)
        return sums

    @abstractmethod
    def update(self, batch: Batch, noise: th.Tensor) -> th.Tensor:
        """One gradient step of all that learns.

        :param batch: ``(tasks, batch)`` transitions; ``batch.errors`` is the answer, if it has an index
        :param noise: standard normal, ``(noises, tasks, batch, act)``
        :return: :attr:`measures` of each task, ``(measures, tasks)``
        """

    def _learn_critics(self, batch: Batch, targets: th.Tensor, importance: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """A gradient step of the critics.

        :param targets: as the value head's
        :param importance: c of each task, ``(tasks,)``
        :return: loss and c of each task, which hooks may have changed, ``(tasks,)`` each
        """
        outputs = self.critic.outputs(batch.observation_actions)
        if batch.index is not None:
            batch.errors = self.critic.head.errors(outputs.detach(), targets)
        losses = self.critic.head.losses(outputs, targets, batch.corrected_weights)
        for hook in self.hooks:
            if hook.looks_into_updates:
                importance = importance * hook.task_factor(self, losses.detach())
        self._set_gradient(self.critic.flat, losses, importance)
        self.critic.optimizer.step()
        return losses.detach(), importance

    def _learn_actors(self, batch: Batch, losses: th.Tensor, importance: th.Tensor) -> th.Tensor:
        """A gradient step of the actors; the loss of each task with the regularizer's term, ``(tasks,)``."""
        if self.regularizer is not None:
            losses = losses + self.regularizer(self.actor, batch)
        self._set_gradient(self.actor.flat, losses, importance)
        self.actor.optimizer.step()
        return losses.detach()

    def _end_update(self, batch: Batch, critic_losses: th.Tensor) -> None:
        """What comes last in an update: parts that actor and critics have in common, and hooks."""
        self.policy.common.step(self.max_grad_norm)
        for hook in self.hooks:
            if hook.looks_into_updates:
                hook.after_update(self, batch, critic_losses)

    def _importance(self, batch: Batch) -> th.Tensor:
        """c of each task in L = sum_i c_i L_i, ``(tasks,)``."""
        return TASK_WEIGHTS[self.task_weights](batch.task_counts(), self.temperature)

    def _set_gradient(self, flat: FlatParameters, losses: th.Tensor, importance: th.Tensor) -> None:
        GRADIENTS[self.gradients](flat, losses, importance, self.streams.objective)
        if self.max_grad_norm is not None:
            flat.clip_(self.max_grad_norm)

    # ---- what parts ask (:class:`~qmp_sb3.learner.Learner`) ----

    @property
    def rollout(self) -> TrainFreq:
        """How much is collected between updates."""
        assert isinstance(self.train_freq, TrainFreq)
        return self.train_freq

    @property
    def first_learning_rate(self) -> float:
        """With which the training begins."""
        return self.lr_schedule(1.0)

    @property
    def current_learning_rate(self) -> float:
        """Of now."""
        return self.lr_schedule(self._current_progress_remaining)

    def sample(self, rows: int) -> Batch:
        """A batch of stored transitions, normalized as the observations that policies read, ``(tasks, rows)``."""
        return self.replay_buffer.sample(rows, env=self._vec_normalize_env)

    def whole_segments(self) -> np.ndarray:
        """Segments of each task that :meth:`segments` draws from, ``(tasks,)``."""
        return self.replay_buffer.whole_segments()

    def segments(self, tasks: np.ndarray, number: int, steps: int) -> Segments:
        """Stored segments of some tasks, ``(len(tasks), number, steps)`` transitions, normalized likewise."""
        return self.replay_buffer.segments(tasks, number, steps, self._vec_normalize_env)

    def fixed_log_probs(self, features: th.Tensor, actions: th.Tensor) -> list[th.Tensor]:
        """ln pi(a|s) of each group of fixed candidates, ``(rows, count)`` each."""
        return [group.log_prob(features, actions) for group in self.behavior.fixed_policies()]
