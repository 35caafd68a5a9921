"""Multi-task soft actor-critic: one SAC per task, stacked, made of replaceable parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.native_support import unsupported
from qmp_sb3.algorithms.temperature import SCOPES, Temperature
from qmp_sb3.behaviors import Behavior
from qmp_sb3.common import validation
from qmp_sb3.hooks import Hook
from qmp_sb3.objectives import actor_loss, entropy_bonus
from qmp_sb3.objectives.regularizers import Regularizer
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic, MultiTaskPolicy
from qmp_sb3.replay import Allocation, Batch, Draw
from qmp_sb3.replay.sharing import KeepOwn


class MultiTaskSAC(MultiTaskOffPolicyAlgorithm):
    """Soft actor-critic for N tasks at once; with one task it is SB3's ``SAC``.

    Every task has an actor, critics, a temperature and a replay buffer. Replaceable parts say how tasks help each
    other: ``networks`` (which parameters does task i see?), ``behavior`` (whose policy acts now?), ``replay`` (which
    transitions, how many per task?), ``sharing`` (is the batch changed before use?), the objective (what is minimized,
    how are tasks combined? ``task_weights``, ``gradients``, ``regularizer``, ``temperatures``) and ``hooks`` (what else
    happens between updates?).

    What SB3's arguments mean for N tasks: ``total_timesteps``, ``learning_starts`` and ``num_timesteps`` count the
    steps of all tasks together; ``buffer_size`` and ``batch_size`` are per task; ``train_freq`` counts vector
    steps; ``gradient_steps`` counts joint updates of all tasks, and -1 means one for each new transition of a
    task.

    :param policy: ``"MlpPolicy"``
    :param env: id of a task set, list of ids or environments with equal spaces, Gymnasium vector environment,
        SB3 VecEnv, or a single environment (one task)
    :param learning_rate: for actors, critics and temperatures; a number or a function of remaining progress
    :param buffer_size: transitions kept per task
    :param learning_starts: environment steps, all tasks together, before the first update
    :param batch_size: transitions per task and update
    :param tau: Polyak coefficient of the target critics
    :param gamma: discount factor
    :param train_freq: vector steps between updates; one environment may also say ``(n, "episode")``
    :param gradient_steps: joint updates after each rollout
    :param action_noise: added to the actions that are collected
    :param replay_buffer_class: a subclass of :class:`~qmp_sb3.replay.MultiTaskReplayBuffer`
    :param replay_buffer_kwargs: its keyword arguments
    :param optimize_memory_usage: refused, see docs/compatibility.md
    :param n_steps: rewards summed in the critics' targets
    :param ent_coef: ``"auto"``, ``"auto_0.1"`` (initial value), a number, or one number per task
    :param target_update_interval: updates between Polyak steps
    :param target_entropy: ``"auto"`` for minus the number of action dimensions, or a number
    :param use_sde: refused, see docs/compatibility.md
    :param sde_sample_freq: refused
    :param use_sde_at_warmup: refused
    :param stats_window_size: episodes of each task that rollout statistics are averaged over
    :param tensorboard_log: directory of the TensorBoard log
    :param policy_kwargs: arguments of :class:`~qmp_sb3.policies.multitask_policy.MultiTaskPolicy`
    :param verbose: 0 no output, 1 information, 2 debugging
    :param seed: seed of everything that is random
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``
    :param networks: family in :data:`qmp_sb3.networks.NETWORKS`, or ``{"actor": ..., "critic": ...}``
    :param behavior: a :class:`~qmp_sb3.behaviors.Behavior` or its expression, e.g. ``"hold(10, argmax(q))"``
    :param replay: how a batch is divided among the tasks, e.g. ``"pool"`` (:data:`qmp_sb3.replay.ALLOCATIONS`)
    :param draw: which of a task's transitions go in, e.g. ``"per(0.6, 0.4)"`` (:data:`qmp_sb3.replay.DRAWS`)
    :param sharing: which other tasks' data a batch takes in, e.g. ``"uds(0.8)"``
        (:data:`qmp_sb3.replay.sharing.SHARING`)
    :param task_weights: name in :data:`qmp_sb3.objectives.TASK_WEIGHTS`
    :param gradients: ``"plain"`` or ``"pcgrad"`` (:data:`qmp_sb3.objectives.GRADIENTS`)
    :param regularizer: term of the actors' loss, e.g. ``"dnc(0.001)"``
        (:data:`qmp_sb3.objectives.regularizers.REGULARIZERS`)
    :param temperatures: ``"task"`` for one of each task, ``"shared"`` for a single one
    :param hooks: what happens between updates, e.g. ``["distill(1e5)"]`` (:data:`qmp_sb3.hooks.HOOKS`)
    :param warmup_actions: before ``learning_starts``: ``"random"`` actions (SB3) or the ``"policy"``'s (the papers)
    :param num_threads: PyTorch's threads, for the whole process, and those that native updates divide the tasks
        over; None leaves them alone
    :param backend: who computes updates: ``"native"``, the compiled library; ``"torch"``, which keeps the library out
        of acting too; or ``"auto"``, the library where it gives the same. :attr:`backend_note` says why it does not.
    :param matmul_precision: of PyTorch's float32 products, for the whole process: ``"highest"``, ``"high"`` or
        ``"medium"`` (bfloat16 where the processor has units for it); None leaves it alone
    :param reward_scale: what rewards are multiplied with for learning; those that are logged and evaluated are not
    :param max_grad_norm: to which the gradient of each optimizer is shortened: actors, critics, temperatures
    :param max_temperature: upper bound of the temperatures that are learned
    """

    measures: ClassVar[tuple[str, ...]] = ("ent_coef_loss", "critic_loss", "actor_loss", "ent_coef")
    #: alpha of the tasks, and how it is learned
    alpha: Temperature

    def __init__(
        self,
        policy: str | type[MultiTaskPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float | list[float] = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        networks: str | dict[str, str] = "independent",
        behavior: str | Behavior | None = None,
        replay: str | Allocation = "own",
        draw: str | Draw = "uniform",
        sharing: str | KeepOwn = "none",
        task_weights: str = "sum",
        gradients: str = "plain",
        regularizer: str | Regularizer | None = None,
        temperatures: str = "task",
        hooks: str | Hook | Sequence[str | Hook] = (),
        warmup_actions: str = "random",
        num_threads: int | None = 1,
        matmul_precision: str | None = None,
        backend: str = "auto",
        reward_scale: float = 1.0,
        max_grad_norm: float | None = None,
        max_temperature: float | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            use_sde=use_sde or sde_sample_freq != -1 or use_sde_at_warmup,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            action_noise=action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            networks=networks,
            behavior=behavior,
            replay=replay,
            draw=draw,
            sharing=sharing,
            task_weights=task_weights,
            gradients=gradients,
            regularizer=regularizer,
            hooks=hooks,
            warmup_actions=warmup_actions,
            num_threads=num_threads,
            matmul_precision=matmul_precision,
            backend=backend,
            reward_scale=reward_scale,
            max_grad_norm=max_grad_norm,
        )
        self.ent_coef, self.target_entropy = ent_coef, target_entropy
        self.temperatures = validation.one_of("temperatures", temperatures, SCOPES)
        self.max_temperature = validation.positive_or_none("max_temperature", max_temperature)
        if _init_setup_model:
            self._setup_model()

    def _setup_learner(self) -> None:
        if self.target_entropy == "auto":
            self.target_entropy = -float(get_action_dim(self.action_space))
        self.target_entropy = float(self.target_entropy)
        self.alpha = Temperature(
            self.ent_coef,
            self.n_tasks,
            self.temperatures,
            self.target_entropy,
            self.lr_schedule(1),
            self.max_temperature,
            self.max_grad_norm,
            self.device,
        )

    # ---- learning ----

    def update(self, batch: Batch, noise: th.Tensor) -> th.Tensor:
        """One gradient step of every temperature, critic and actor, in this order, as in SB3's SAC.

        :param batch: ``(tasks, batch)`` transitions
        :param noise: standard normal, for the actions at s and at s', ``(2, tasks, batch, act)``
        :return: temperature, critic and actor loss and alpha of each task, ``(4, tasks)``
        """
        alpha, importance = self.temperature, self._importance(batch)
        goals = targets(self.actor, self.critic_target, batch, noise[1], alpha, self.gamma, self.reward_scale)
        actions, log_prob = self.actor.action_log_prob(batch.observations, noise[0])
        loss_temperature = self.alpha.learn(log_prob, batch.task_counts(), batch.weights)
        loss_critic, importance = self._learn_critics(batch, goals, importance)
        losses = actor_losses(self.critic, batch, actions, log_prob, alpha)
        loss_actor = self._learn_actors(batch, losses, importance)
        self._end_update(batch, loss_critic)
        return th.stack([loss_temperature.detach(), loss_critic, loss_actor, alpha])

    def _by_measure(self, means: th.Tensor) -> dict[str, np.ndarray]:
        by_measure = super()._by_measure(means)
        if self.log_ent_coef is None:
            del by_measure["ent_coef_loss"]  # nothing was minimized
        return by_measure

    def _unsupported(self) -> str | None:
        return unsupported(self, MultiTaskSAC)

    def _optimizers(self) -> list[th.optim.Optimizer]:
        learned = [] if self.ent_coef_optimizer is None else [self.ent_coef_optimizer]
        return [*super()._optimizers(), *learned]

    # ---- temperatures, by the names of SB3's SAC ----

    @property
    def temperature(self) -> th.Tensor:
        return self.alpha.values

    @property
    def log_ent_coef(self) -> th.Tensor | None:
        """ln alpha, ``(tasks,)`` or ``(1,)``, where it is learned."""
        return self.alpha.log

    @log_ent_coef.setter
    def log_ent_coef(self, value: th.Tensor | None) -> None:
        self.alpha.log = value

    @property
    def ent_coef_optimizer(self) -> th.optim.Optimizer | None:
        """Its optimizer."""
        return self.alpha.optimizer

    @ent_coef_optimizer.setter
    def ent_coef_optimizer(self, value: th.optim.Optimizer | None) -> None:
        self.alpha.optimizer = value

    @property
    def ent_coef_tensor(self) -> th.Tensor:
        """alpha, ``(tasks,)`` or ``(1,)``, where it is given."""
        return self.alpha.given

    @ent_coef_tensor.setter
    def ent_coef_tensor(self, value: th.Tensor) -> None:
        self.alpha.given = value

    # ---- files ----

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "alpha"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        states, variables = super()._get_torch_save_params()
        if self.ent_coef_optimizer is None:
            return states, [*variables, "ent_coef_tensor"]
        return [*states, "ent_coef_optimizer"], [*variables, "log_ent_coef"]


@th.no_grad()
def targets(
    actor: MultiTaskActor,
    critic_target: MultiTaskCritic,
    batch: Batch,
    noise: th.Tensor,
    alpha: th.Tensor,
    gamma: float,
    reward_scale: float = 1.0,
) -> th.Tensor:
    """What the critics learn: r + gamma (Q(s', a') - alpha log pi(a'|s')) with a' ~ pi(.|s') (SAC, eq. 5).

    :param noise: standard normal, for a', ``(tasks, batch, act)``
    :param alpha: ``(tasks,)``
    :return: as the value head has it, ``(tasks, batch, ...)``
    """
    next_actions, next_log_prob = actor.action_log_prob(batch.next_observations, noise)
    next_outputs = critic_target.outputs(batch.next_observation_actions(next_actions))
    rewards, discounts = reward_scale * batch.rewards, gamma * batch.continuations
    return critic_target.head.targets(next_outputs, rewards, discounts, entropy_bonus(next_log_prob, alpha))


def actor_losses(
    critic: MultiTaskCritic, batch: Batch, actions: th.Tensor, log_prob: th.Tensor, alpha: th.Tensor
) -> th.Tensor:
    """alpha log pi(a|s) - min_k Q_k(s, a) of each task, ``(tasks,)``, with a ~ pi(.|s) (SAC, eq. 7).

    :param actions: reparameterized, ``(tasks, batch, act)``
    :param log_prob: ``(tasks, batch)``
    """
    with critic.flat.constant():
        values = critic.values(th.cat([batch.observations, actions], dim=-1))
    return actor_loss(values, log_prob, alpha, batch.weights)
