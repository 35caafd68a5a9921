"""Multi-task soft actor-critic: one SAC per task, stacked, made of replaceable parts."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.vec_env import VecEnv

from qmp_sb3 import checks
from qmp_sb3.behaviors import Behavior, Proposals, parse_behavior
from qmp_sb3.episode_statistics import EpisodeStatistics
from qmp_sb3.layout import TaskLayout
from qmp_sb3.objectives import TASK_WEIGHTS, actor_loss, bellman_target, critic_loss, temperature_loss
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic, MultiTaskPolicy
from qmp_sb3.random_streams import RandomStreams
from qmp_sb3.replay import Batch, MultiTaskReplayBuffer
from qmp_sb3.sharing import SHARING
from qmp_sb3.vec_env import as_task_env, tasks_of

SelfMultiTaskSAC = TypeVar("SelfMultiTaskSAC", bound="MultiTaskSAC")


class MultiTaskSAC(OffPolicyAlgorithm):
    """Soft actor-critic for N tasks at once; with one task it is SB3's ``SAC``.

    Every task has an actor, critics, a temperature and a replay buffer. Five parts say how tasks help each other:
    ``networks`` (which parameters does task i see?), ``behavior`` (whose policy acts now?), the replay buffer (which
    transitions, how many per task?), ``sharing`` (is the batch changed before use?), ``task_weights`` (how are the
    tasks' losses combined?).

    What SB3's arguments mean for N tasks: ``total_timesteps``, ``learning_starts`` and ``num_timesteps`` count the steps
    of all tasks together; ``buffer_size`` and ``batch_size`` are per task; ``train_freq`` counts vector steps;
    ``gradient_steps`` counts joint updates of all tasks, and -1 means one for each new transition of a task.

    :param policy: ``"MlpPolicy"``
    :param env: id of a task set, list of ids or environments with equal spaces, Gymnasium vector environment, SB3
        VecEnv, or a single environment (one task)
    :param learning_rate: for actors, critics and temperatures; a number or a function of the remaining progress
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
    :param policy_kwargs: arguments of :class:`~qmp_sb3.policies.MultiTaskPolicy`
    :param verbose: 0 no output, 1 information, 2 debugging
    :param seed: seed of everything that is random
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"``
    :param networks: network family, or ``{"actor": ..., "critic": ...}``
    :param behavior: a :class:`~qmp_sb3.behaviors.Behavior` or its sentence, e.g. ``"hold(10, argmax(q))"``
    :param sharing: name in :data:`qmp_sb3.sharing.SHARING`
    :param task_weights: name in :data:`qmp_sb3.objectives.TASK_WEIGHTS`
    :param warmup_actions: before ``learning_starts``, act by ``"random"`` actions (SB3) or by the ``"policy"`` (the papers)
    :param num_threads: PyTorch's threads, for the whole process; None leaves them alone
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MultiTaskPolicy}
    default_behavior: ClassVar[str] = "self"
    policy: MultiTaskPolicy
    actor: MultiTaskActor
    critic: MultiTaskCritic
    critic_target: MultiTaskCritic
    replay_buffer: MultiTaskReplayBuffer

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
        sharing: str = "none",
        task_weights: str = "sum",
        warmup_actions: str = "random",
        num_threads: int | None = 1,
        _init_setup_model: bool = True,
    ) -> None:
        checks.refuse_unsupported(policy, use_sde or sde_sample_freq != -1 or use_sde_at_warmup, replay_buffer_class)
        super().__init__(
            policy,
            as_task_env(env),
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            action_noise,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Box,),
            support_multi_env=True,
        )
        self.ent_coef, self.target_entropy = ent_coef, target_entropy
        self.target_update_interval = target_update_interval
        self.networks, self.num_threads = networks, num_threads
        self.behavior: Behavior = parse_behavior(self.default_behavior if behavior is None else behavior)
        self.sharing = checks.one_of("sharing", sharing, SHARING)
        self.task_weights = checks.one_of("task_weights", task_weights, TASK_WEIGHTS)
        self.warmup_actions = checks.one_of("warmup_actions", warmup_actions, ("random", "policy"))
        self.log_ent_coef: th.Tensor | None = None
        self.ent_coef_optimizer: th.optim.Optimizer | None = None
        self.streams: RandomStreams | None = None
        self.task_names: tuple[str, ...] = ()
        if _init_setup_model:
            self._setup_model()

    # ------------------------------------------------------------------------------------------------------ set-up

    def _setup_model(self) -> None:
        if self.num_threads is not None:
            th.set_num_threads(self.num_threads)
        th.set_flush_denormal(True)
        self._setup_lr_schedule()
        streams = self.streams
        self.set_random_seed(self.seed)
        self.streams = streams or self.streams  # a loaded model goes on where its generators stopped
        self._setup_tasks()
        self._setup_replay_buffer()
        assert self.streams is not None
        self.policy = self.policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            n_tasks=self.n_tasks,
            networks=self.networks,
            generator=self.streams.initial_weights,
            **self.policy_kwargs,
        ).to(self.device)
        self.actor, self.critic, self.critic_target = self.policy.actor, self.policy.critic, self.policy.critic_target
        self._setup_temperature()
        self._convert_train_freq()

    def set_random_seed(self, seed: int | None = None) -> None:
        super().set_random_seed(seed)
        self.streams = RandomStreams(seed, th.device("cpu") if self.device is None else self.device)

    def _setup_tasks(self) -> None:
        """Names of the tasks and where each slot's task is read; a loaded model keeps its names."""
        if self.env is None:
            return
        names, self._slot_tasks, self._fixed_slots = tasks_of(self.env)
        checks.same_tasks(self.task_names, names)
        checks.refuse_reward_normalization(self._vec_normalize_env, names)
        if not self.task_names:
            self.task_names = names
            self.task_set = getattr(self.env.unwrapped, "task_set", None)
            self.num_stages = int(getattr(self.env.unwrapped, "num_stages", 0))
        self.behavior.bind(self.n_tasks, self.task_set)
        self.statistics = EpisodeStatistics(self.task_names, self.num_stages, self._stats_window_size)
        self._layout = TaskLayout(self._slot_tasks(), self.n_tasks)
        self.behavior.start(self.n_tasks, self.n_envs)

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    def _setup_replay_buffer(self) -> None:
        if self.replay_buffer is not None:
            return
        self.replay_buffer_class = self.replay_buffer_class or MultiTaskReplayBuffer
        assert self.streams is not None
        self.replay_buffer = self.replay_buffer_class(
            self.buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            n_tasks=self.n_tasks,
            n_steps=self.n_steps,
            gamma=self.gamma,
            rng=self.streams.replay,
            **self.replay_buffer_kwargs,
        )

    def _setup_temperature(self) -> None:
        """One temperature per task: log alpha is learned, or alpha is given."""
        if self.target_entropy == "auto":
            self.target_entropy = -float(np.prod(self.action_space.shape))
        self.target_entropy = float(self.target_entropy)
        initial, learned = checks.temperatures(self.ent_coef, self.n_tasks)
        values = th.tensor(initial, device=self.device)
        if learned:
            self.log_ent_coef = values.log().requires_grad_(True)
            self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1))
        else:
            self.ent_coef_tensor = values

    @property
    def temperature(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``."""
        return self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return OffPolicyAlgorithm._wrap_env(as_task_env(env), verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        vec_env = self._wrap_env(env, self.verbose)
        names, slot_tasks, fixed = tasks_of(vec_env)
        checks.same_tasks(self.task_names, names)
        super().set_env(vec_env, force_reset)
        checks.refuse_reward_normalization(self._vec_normalize_env, names)
        self._slot_tasks, self._fixed_slots = slot_tasks, fixed
        self._slots_reset()

    # ---------------------------------------------------------------------------------------------------- learning

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Joint updates of all tasks, in the order of SB3's SAC: temperature, critics, actors, target critics."""
        assert self.streams is not None
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)

        losses = th.zeros(3, self.n_tasks, device=self.device)  # temperature, critic, actor
        temperature = th.zeros(self.n_tasks, device=self.device)
        for gradient_step in range(gradient_steps):
            batch = SHARING[self.sharing](self.replay_buffer.sample(batch_size, env=self._vec_normalize_env))
            noise = th.randn(2, *batch.actions.shape, generator=self.streams.updates, device=self.device)
            temperature += self.temperature
            losses += self.update(batch, noise)
            if gradient_step % self.target_update_interval == 0:
                self.critic_target.flat.polyak_(self.critic.flat, self.tau)
        self._n_updates += gradient_steps
        self._record_updates(losses / gradient_steps, temperature / gradient_steps)

    def update(self, batch: Batch, noise: th.Tensor) -> th.Tensor:
        """One gradient step of every temperature, critic and actor.

        :param batch: ``(tasks, batch)`` transitions
        :param noise: standard normal, for the actions at s and at s', ``(2, tasks, batch, act)``
        :return: temperature, critic and actor loss of each task, ``(3, tasks)``
        """
        combine = TASK_WEIGHTS[self.task_weights]
        temperature = self.temperature
        with th.no_grad():
            next_actions, next_log_prob = self.actor.action_log_prob(batch.next_observations, noise[1])
            next_values = self.critic_target(batch.next_observation_actions(next_actions))
            discounts = self.gamma * batch.continuations
            target = bellman_target(batch.rewards, discounts, next_values, next_log_prob, temperature)
        actions, log_prob = self.actor.action_log_prob(batch.observations, noise[0])

        loss_temperature = th.zeros_like(temperature)
        if self.log_ent_coef is not None and self.ent_coef_optimizer is not None:
            assert isinstance(self.target_entropy, float)
            loss_temperature = temperature_loss(self.log_ent_coef, log_prob, self.target_entropy)
            self.ent_coef_optimizer.zero_grad()
            combine(loss_temperature, batch.present).backward()
            self.ent_coef_optimizer.step()

        loss_critic = critic_loss(self.critic(batch.observation_actions), target)
        self.critic.flat.backward(combine(loss_critic, batch.present))
        self.critic.optimizer.step()

        values = self.critic(th.cat([batch.observations, actions], dim=-1))
        loss_actor = actor_loss(values, log_prob, temperature)
        self.actor.flat.backward(combine(loss_actor, batch.present))
        self.actor.optimizer.step()
        return th.stack([loss_temperature.detach(), loss_critic.detach(), loss_actor.detach()])

    def _record_updates(self, losses: th.Tensor, temperature: th.Tensor) -> None:
        by_measure = dict(zip(("ent_coef_loss", "critic_loss", "actor_loss"), losses.cpu().numpy(), strict=True))
        if self.log_ent_coef is None:
            del by_measure["ent_coef_loss"]
        by_measure["ent_coef"] = temperature.cpu().numpy()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for measure, by_task in by_measure.items():
            self.logger.record(f"train/{measure}", float(by_task.mean()))
            for task, value in zip(self.task_names, by_task, strict=True):
                if self.n_tasks > 1:
                    self.logger.record(f"train/{task}/{measure}", float(value), exclude="stdout")

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

    # -------------------------------------------------------------------------------------------------- collecting

    def _setup_learn(self, total_timesteps: int, callback: MaybeCallback = None, *args: Any, **kwargs: Any) -> Any:
        before = self._last_obs
        result = super()._setup_learn(total_timesteps, callback, *args, **kwargs)
        if self._last_obs is not before:
            self._slots_reset()
        return result

    def _slots_reset(self) -> None:
        """All slots begin an episode, perhaps of other tasks."""
        self.replay_buffer.flush()
        self._layout = TaskLayout(self._slot_tasks(), self.n_tasks)
        self.replay_buffer.set_slot_tasks(self._layout.tasks)
        self.behavior.restart(self.n_envs)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As SB3's, but counts the transitions of one task: that is what ``gradient_steps=-1`` repeats."""
        rollout = super().collect_rollouts(*args, **kwargs)
        return rollout._replace(episode_timesteps=max(1, rollout.episode_timesteps // self.n_tasks))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions for the slots, ``(slots, *act)``: in the environment's units, and scaled to [-1, 1] for the buffer."""
        if self.num_timesteps < learning_starts and self.warmup_actions == "random":
            scaled = self.policy.scale_action(np.array([self.action_space.sample() for _ in range(n_envs)]))
        else:
            assert isinstance(self._last_obs, np.ndarray)
            scaled = self._act(self._last_obs).reshape(n_envs, *self.action_space.shape)
        if action_noise is not None:
            scaled = np.clip(scaled + action_noise(), -1, 1)
        return self.policy.unscale_action(scaled), scaled

    @th.no_grad()
    def _act(self, observations: np.ndarray) -> np.ndarray:
        """The behavior chooses, the chosen policies act: ``(slots, act)`` in [-1, 1] for ``(slots, *obs)``."""
        assert self.streams is not None
        proposals = Proposals(
            self.policy,
            self.policy.encode(observations),
            self._layout,
            self.temperature,
            self.streams.behavior,
            self.streams.acting,
            self.num_timesteps,
        )
        return proposals.act(self.behavior(proposals)).cpu().numpy()

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if dones.any():
            self.behavior.ended(dones)
            if not self._fixed_slots:
                self._layout = TaskLayout(self._slot_tasks(), self.n_tasks)
                self.replay_buffer.set_slot_tasks(self._layout.tasks)

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        if dones is not None:
            self.statistics.update(infos, dones, self._layout.tasks)

    def dump_logs(self) -> None:
        if self.n_tasks > 1:
            for key, value in self.statistics.means().items():
                self.logger.record(f"rollout/{key}", value, exclude="stdout" if len(key) > checks.STDOUT_KEY else None)
            candidates = [*self.task_names, *(f"fixed-{k}" for k in range(self.behavior.counts.shape[1] - self.n_tasks))]
            for task, row in zip(self.task_names, self.behavior.mixture(), strict=True):
                for candidate, share in zip(candidates, row, strict=True):
                    self.logger.record(f"mixture/{task}/{candidate}", float(share), exclude="stdout")
        super().dump_logs()

    # -------------------------------------------------------------------------------------------------- predicting

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        task: int | str | np.ndarray | list | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The action of a task's own policy.

        :param observation: one observation, or a batch
        :param state: handed back unchanged
        :param episode_start: unused
        :param deterministic: the mean action instead of a sample
        :param task: index or name, or one for each row; may be left out for one task, or for one row per slot of the
            model's environment
        :raises ValueError: if it is not clear whose policy to ask
        """
        assert self.streams is not None
        shape = np.shape(observation)
        rows = shape[0] if len(shape) > len(self.observation_space.shape or ()) else 1
        slots = self._slot_tasks() if self.env is not None and self._fixed_slots else None
        tasks = checks.resolve_tasks(task, rows, self.task_names, slots)
        return self.policy.predict(
            observation, state, episode_start, deterministic, tasks=tasks, generator=self.streams.predict
        )

    # ------------------------------------------------------------------------------------------------------ saving

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "actor", "critic", "critic_target", "_slot_tasks", "_layout"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "actor.optimizer", "critic.optimizer"]
        if self.ent_coef_optimizer is None:
            return state_dicts, ["ent_coef_tensor"]
        return [*state_dicts, "ent_coef_optimizer"], ["log_ent_coef"]
