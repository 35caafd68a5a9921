"""Multi-task soft actor-critic: one SAC per task, stacked, made of replaceable parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from qmp_sb3.algorithms import checks
from qmp_sb3.algorithms.native_support import refusal
from qmp_sb3.algorithms.native_update import NativeUpdate
from qmp_sb3.algorithms.temperature import TemperedAlgorithm
from qmp_sb3.algorithms.update_records import record_updates
from qmp_sb3.behaviors import Behavior
from qmp_sb3.common import validation
from qmp_sb3.common.devices import to_device
from qmp_sb3.common.expressions import part
from qmp_sb3.hooks import HOOKS, Hook
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.objectives import GRADIENTS, TASK_WEIGHTS, absolute_errors, actor_loss, bellman_target, critic_loss
from qmp_sb3.objectives.regularizers import REGULARIZERS, Regularizer
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic, MultiTaskPolicy
from qmp_sb3.replay import ALLOCATIONS, DRAWS, Allocation, Batch, Draw, MultiTaskReplayBuffer
from qmp_sb3.replay.sharing import SHARING, KeepOwn
from qmp_sb3.vec_env.task_slots import TaskSlots

SelfMultiTaskSAC = TypeVar("SelfMultiTaskSAC", bound="MultiTaskSAC")


class MultiTaskSAC(TemperedAlgorithm):
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
    :param behavior: a :class:`~qmp_sb3.behaviors.Behavior` or its sentence, e.g. ``"hold(10, argmax(q))"``
    :param replay: how a batch is divided among the tasks, e.g. ``"pool"`` (:data:`qmp_sb3.replay.ALLOCATIONS`)
    :param draw: which of a task's transitions go in, e.g. ``"per(0.6, 0.4)"`` (:data:`qmp_sb3.replay.DRAWS`)
    :param sharing: which other tasks' data a batch takes in, e.g. ``"uds(0.8)"``
        (:data:`qmp_sb3.replay.sharing.SHARING`)
    :param task_weights: name in :data:`qmp_sb3.objectives.TASK_WEIGHTS`
    :param gradients: ``"plain"`` or ``"pcgrad"`` (:data:`qmp_sb3.objectives.GRADIENTS`)
    :param regularizer: term of the actors' loss, e.g. ``"dnc(0.001)"`` (:data:`qmp_sb3.objectives.REGULARIZERS`)
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

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MultiTaskPolicy}
    default_behavior: ClassVar[str] = "self"
    policy: MultiTaskPolicy
    actor: MultiTaskActor
    critic: MultiTaskCritic
    critic_target: MultiTaskCritic

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
            self.default_behavior if behavior is None else behavior,
            warmup_actions,
            num_threads,
            use_sde=use_sde or sde_sample_freq != -1 or use_sde_at_warmup,
            replay_buffer_class=replay_buffer_class,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=validation.at_least("batch_size", batch_size, 1),
            tau=validation.share("tau", tau),
            gamma=validation.share("gamma", gamma),
            train_freq=train_freq,
            gradient_steps=validation.at_least("gradient_steps", gradient_steps, -1),
            action_noise=action_noise,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            supported_action_spaces=(spaces.Box,),
        )
        self._set_temperatures(ent_coef, target_entropy, temperatures, max_temperature)
        self.max_grad_norm = validation.positive_or_none("max_grad_norm", max_grad_norm)
        self.reward_scale = validation.positive("reward_scale", reward_scale)
        self.target_update_interval = validation.at_least("target_update_interval", target_update_interval, 1)
        self.matmul_precision = validation.precision(matmul_precision)
        self.networks = checks.networks(networks)
        self.task_weights = validation.one_of("task_weights", task_weights, TASK_WEIGHTS)
        self._set_parts(replay, draw, sharing, regularizer, hooks)
        self.gradients = validation.one_of("gradients", gradients, GRADIENTS)
        self.backend = validation.one_of("backend", backend, ("auto", "native", "torch"))
        if _init_setup_model:
            self._setup_model()

    # ---- set-up ----

    def _set_parts(self, replay: Any, draw: Any, sharing: Any, regularizer: Any, hooks: Any) -> None:
        self.replay: Allocation = part("replay", replay, ALLOCATIONS)
        self.draw: Draw = part("draw", draw, DRAWS)
        self.sharing: KeepOwn = part("sharing", sharing, SHARING)
        self.regularizer: Regularizer | None = part("regularizer", regularizer, REGULARIZERS)
        one = isinstance(hooks, (str, Hook))
        self.hooks: list[Hook] = [part("hooks", hook, HOOKS) for hook in ([hooks] if one else hooks)]
        checks.fitting_draw(self.replay, self.draw, self.sharing, self.task_weights)

    def _setup_model(self) -> None:
        # load(sharing=...) puts a sentence in a part's place
        draw = self.__dict__.get("draw", "uniform")  # older files have none
        self._set_parts(self.replay, draw, self.sharing, self.regularizer, self.hooks)
        self._setup_process()
        self._setup_lr_schedule()
        self._setup_streams()
        self._setup_tasks()
        self._setup_replay_buffer()
        policy: BasePolicy = self.policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            n_tasks=self.n_tasks,
            networks=self.networks,
            generator=self.streams.initial_weights,
            **self.policy_kwargs,
        )
        assert isinstance(policy, MultiTaskPolicy)
        self.policy = policy.to(self.device)
        self.policy.use_library(self.backend != "torch", self.num_threads)
        self.actor, self.critic, self.critic_target = (
            self.policy.actor,
            self.policy.critic,
            self.policy.critic_target,
        )
        checks.refuse_pointless_behavior(self.behavior, self.actor.network)
        self._setup_temperature()
        self._convert_train_freq()
        if self.regularizer is not None:
            self.regularizer.bind(self.n_tasks)
        for hook in self.hooks:
            hook.bind(self)
        self.behavior.attach(self)
        self._native = NativeUpdate()
        self._native.takes(self)  # or says now that backend="native" cannot be had

    def _checked_slots(self, env: VecEnv) -> TaskSlots:
        slots = super()._checked_slots(env)
        self.replay.bind(self.batch_size, len(slots.names))
        self.sharing.bind(slots.task_set, self.n_steps)
        if self.sharing.columns():
            slots.batched()  # refuses environments that do not keep them
        return slots

    def _replay_settings(self) -> dict[str, Any]:
        return super()._replay_settings() | dict(allocation=self.replay, drawing=self.draw)

    def _columns(self) -> dict[str, tuple[int, ...]]:
        return super()._columns() | dict(self.sharing.columns())

    def _use_replay_buffer(self, replay_buffer: MultiTaskReplayBuffer) -> None:
        super()._use_replay_buffer(replay_buffer)
        replay_buffer.allocation = self.replay
        replay_buffer.draw_by(self.draw)
        replay_buffer.rows_count_alike = self.task_weights == "mean"

    # ---- learning ----

    @property
    def backend_note(self) -> str | None:
        """Why PyTorch computes the updates; None if the compiled library does."""
        return "backend='torch'" if self.backend == "torch" else refusal(self, MultiTaskSAC)

    @property
    def update_backend(self) -> str:
        """Who computes the updates, ``"native"`` or ``"torch"``."""
        return "native" if self.backend_note is None else "torch"

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Joint updates of all tasks, at the learning rate of now, their record, and what hooks do after them."""
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer, *self.policy.common.scheduled()]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)

        if gradient_steps < 1 or self.replay_buffer.size() == 0:
            return  # in the second case no sum of n_steps rewards is complete yet

        self.policy.gather_moved()
        self.draw.anneal(self._current_progress_remaining)
        if self._native.takes(self):
            sums = self._native.steps(self, gradient_steps, batch_size)
        else:
            sums = self.steps(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        record_updates(self, sums / gradient_steps)
        self.behavior.learn(self)
        for hook in self.hooks:
            hook.after_updates(self)

    def steps(self, gradient_steps: int, batch_size: int) -> th.Tensor:
        """Gradient steps: temperatures, critics, actors, target critics, as in SB3's SAC.

        :return: temperature, critic and actor loss and alpha of each task, summed over the steps, ``(4, tasks)``
        """
        sums = th.zeros(4, self.n_tasks, device=self.device)
        for gradient_step in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            batch = self.sharing(batch, self.replay_buffer, self.policy, self._vec_normalize_env)
            noise = to_device(th.randn(2, *batch.actions.shape, generator=self.streams.updates), self.device)
            sums[3] += self.temperature
            sums[:3] += self.update(batch, noise)
            self.replay_buffer.feedback(batch)
            if gradient_step % self.target_update_interval == 0:
                self.critic_target.flat.polyak_(self.critic.flat, self.tau)
        return sums

    def update(self, batch: Batch, noise: th.Tensor) -> th.Tensor:
        """One gradient step of every temperature, critic and actor.

        :param batch: ``(tasks, batch)`` transitions
        :param noise: standard normal, for the actions at s and at s', ``(2, tasks, batch, act)``
        :return: temperature, critic and actor loss of each task, ``(3, tasks)``; ``batch.errors``, if it has an index
        """
        temperature, weights, counts = self.temperature, batch.weights, batch.task_counts()
        importance = TASK_WEIGHTS[self.task_weights](counts, temperature)  # (tasks,)
        with th.no_grad():
            next_actions, next_log_prob = self.actor.action_log_prob(batch.next_observations, noise[1])
            next_values = self.critic_target(batch.next_observation_actions(next_actions))
            rewards, discounts = self.reward_scale * batch.rewards, self.gamma * batch.continuations
            target = bellman_target(rewards, discounts, next_values, next_log_prob, temperature)
        actions, log_prob = self.actor.action_log_prob(batch.observations, noise[0])

        loss_temperature = self._learn_temperatures(log_prob, counts, weights)

        values = self.critic(batch.observation_actions)
        if batch.index is not None:
            batch.errors = absolute_errors(values.detach(), target)
        loss_critic = critic_loss(values, target, batch.corrected_weights)
        looking = [hook for hook in self.hooks if hook.looks_into_updates]
        for hook in looking:
            importance = importance * hook.task_factor(self, loss_critic.detach())
        self._set_gradient(self.critic.flat, loss_critic, importance)
        self.critic.optimizer.step()

        with self.critic.flat.constant():
            values = self.critic(th.cat([batch.observations, actions], dim=-1))
        loss_actor = actor_loss(values, log_prob, temperature, weights)
        if self.regularizer is not None:
            loss_actor = loss_actor + self.regularizer(self.actor, batch)
        self._set_gradient(self.actor.flat, loss_actor, importance)
        self.actor.optimizer.step()
        self.policy.common.step(self.max_grad_norm)
        losses = th.stack([loss_temperature.detach(), loss_critic.detach(), loss_actor.detach()])
        for hook in looking:
            hook.after_update(self, batch, losses)
        return losses

    def _set_gradient(self, flat: FlatParameters, losses: th.Tensor, importance: th.Tensor) -> None:
        GRADIENTS[self.gradients](flat, losses, importance, self.streams.objective)
        if self.max_grad_norm is not None:
            flat.clip_(self.max_grad_norm)

    def learn(
        self: SelfMultiTaskSAC,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMultiTaskSAC:
        """As SB3's; ``total_timesteps`` counts the environment steps of all tasks together."""
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    # ---- saving ----

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor", "critic", "critic_target", "_native"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "actor.optimizer", "critic.optimizer", *["policy.common"] * bool(self.policy.common)]
        if self.ent_coef_optimizer is None:
            return state_dicts, ["ent_coef_tensor"]
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]
