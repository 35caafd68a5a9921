"""Off-policy learning of several tasks at once: what Stable-Baselines3 needs to know about tasks."""

from __future__ import annotations

from abc import abstractmethod
from copy import deepcopy
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, RolloutReturn
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from qmp_envs.task_set import TaskSet
from qmp_sb3.algorithms import checks
from qmp_sb3.algorithms.collecting import CollectingAlgorithm
from qmp_sb3.algorithms.saving import SavingAlgorithm
from qmp_sb3.behaviors import Behavior, Proposals, parse_behavior
from qmp_sb3.common import validation
from qmp_sb3.common.random_streams import RandomStreams
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import SEGMENT_COLUMNS, MultiTaskReplayBuffer
from qmp_sb3.vec_env import as_task_env
from qmp_sb3.vec_env.episode_statistics import EpisodeStatistics
from qmp_sb3.vec_env.task_slots import TaskSlots

_CONSOLE_KEY = 28  # characters of a key that SB3's console table shows without cutting


class MultiTaskOffPolicyAlgorithm(SavingAlgorithm, CollectingAlgorithm):
    """An SB3 off-policy algorithm whose slots run tasks: it collects with a behavior, stores and logs by task.

    A learner derives from it and says how to update (``train``) and what the temperatures are.

    :param policy: ``"MlpPolicy"``
    :param env: anything that :func:`qmp_sb3.vec_env.multitask_vec_env.as_task_env` or SB3 makes a VecEnv of
    :param behavior: a behavior or its sentence
    :param warmup_actions: ``"random"`` or ``"policy"``
    :param num_threads: PyTorch's threads, for the whole process; None leaves them alone
    :param kwargs: SB3's own arguments
    """

    policy: MultiTaskPolicy
    replay_buffer: MultiTaskReplayBuffer
    action_space: spaces.Box
    streams: RandomStreams
    matmul_precision: str | None = None
    #: whether the next ``learn`` continues the episodes of another model (:mod:`qmp_sb3.algorithms.training_state`)
    goes_on: bool = False

    def __init__(
        self,
        policy: str | type[MultiTaskPolicy],
        env: GymEnv | str | None,
        behavior: str | Behavior,
        warmup_actions: str,
        num_threads: int | None,
        use_sde: bool = False,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        **kwargs: Any,
    ) -> None:
        checks.refuse_unsupported(policy, use_sde, replay_buffer_class)
        if policy == "MlpPolicy":
            checks.refuse_policy_arguments(kwargs.get("policy_kwargs"))
        checks.refuse_replay_arguments(kwargs.get("replay_buffer_kwargs"))
        # A behavior remembers and counts, so every model has its own.
        self.behavior: Behavior = deepcopy(parse_behavior(behavior))
        self.warmup_actions = validation.one_of("warmup_actions", warmup_actions, ("random", "policy"))
        self.num_threads = num_threads
        self.task_names: tuple[str, ...] = ()
        super().__init__(
            policy,
            as_task_env(env),
            replay_buffer_class=replay_buffer_class,
            sde_support=False,
            support_multi_env=True,
            **kwargs,
        )

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    @property
    @abstractmethod
    def temperature(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``."""

    # ---- set-up ----

    def _setup_process(self) -> None:
        """Threads, denormals and products: all decide the speed of small networks on a CPU (docs/compatibility.md)."""
        if self.num_threads is not None:
            th.set_num_threads(self.num_threads)
        if self.matmul_precision is not None:
            th.set_float32_matmul_precision(self.matmul_precision)
        th.set_flush_denormal(True)

    def _setup_streams(self) -> None:
        """Seed everything, except that a loaded model's generators go on where they stopped."""
        loaded = self.__dict__.get("streams")
        self.set_random_seed(self.seed)
        if loaded is not None and loaded.seed == self.seed:
            self._use_streams(loaded)

    def set_random_seed(self, seed: int | None = None) -> None:
        super().set_random_seed(seed)
        self._use_streams(RandomStreams(seed))

    def _use_streams(self, streams: RandomStreams) -> None:
        self.streams = streams
        if self.replay_buffer is not None:
            self.replay_buffer.rng = streams.replay

    def _setup_tasks(self) -> None:
        """Names of the tasks, and where each slot's task is read; a loaded model keeps its names and counts."""
        self.task_names = tuple(self.task_names)  # a loaded model has a list here: SB3 saves it as JSON
        if self.env is None:
            if not self.task_names:
                raise ValueError("a new model needs an environment: an id, an environment or a VecEnv")
            if not isinstance(self.behavior, Behavior):
                self._setup_behavior(None)
            return
        checks.refuse_dict_observations(self.observation_space)
        self._slots = self._checked_slots(self.env)
        new = not self.task_names
        if new:
            self.task_names = self._slots.names
            self.statistics = EpisodeStatistics(self.task_names, self._slots.num_stages, self._stats_window_size)
        if new or not isinstance(self.behavior, Behavior):  # load(behavior=...) puts a sentence here
            self._setup_behavior(self._slots.task_set)
        self._layout = TaskLayout.of(self._slots.now(), self.n_tasks)

    def _checked_slots(self, env: VecEnv) -> TaskSlots:
        slots = TaskSlots.of(env)
        checks.same_tasks(self.task_names, slots.names)
        checks.refuse_reward_normalization(unwrap_vec_normalize(env), slots.names)
        return slots

    def _setup_behavior(self, task_set: TaskSet | None) -> None:
        self.behavior = parse_behavior(self.behavior)
        for policies in self.behavior.fixed_policies():
            policies.check(self.observation_space, self.action_space)
        self.behavior.bind(self.n_tasks, task_set)
        self.behavior.start(self.n_tasks, self.n_envs)
        self._logged_counts = self.behavior.counts.copy()

    def _take_replay_buffer(self, replay_buffer: MultiTaskReplayBuffer) -> None:
        checks.same_buffer(replay_buffer, self.n_tasks, self.observation_space, self.action_space)
        self._use_replay_buffer(replay_buffer)

    def _use_replay_buffer(self, replay_buffer: MultiTaskReplayBuffer) -> None:
        checks.same_columns(replay_buffer, self._columns())
        self.replay_buffer = replay_buffer
        replay_buffer.to(self.device)
        replay_buffer.rng = self.streams.replay
        if self.env is not None:
            replay_buffer.set_slot_tasks(self._layout.tasks)

    def _setup_replay_buffer(self) -> None:
        self.replay_buffer_class = self.replay_buffer_class or MultiTaskReplayBuffer
        if self.replay_buffer is None:
            spaces_and_size = self.buffer_size, self.observation_space, self.action_space
            settings = self._replay_settings() | self.replay_buffer_kwargs
            self.replay_buffer = self.replay_buffer_class(*spaces_and_size, **settings)
            if self.verbose >= 1:
                print(f"Using {self.replay_buffer}")
        self._take_replay_buffer(self.replay_buffer)

    def _replay_settings(self) -> dict[str, Any]:
        """Keyword arguments of the replay buffer, which the user's own override."""
        return dict(
            device=self.device,
            n_envs=self.n_envs,
            optimize_memory_usage=self.optimize_memory_usage,
            n_tasks=self.n_tasks,
            n_steps=self.n_steps,
            gamma=self.gamma,
            columns=self._columns(),
        )

    def _columns(self) -> dict[str, tuple[int, ...]]:
        """What the replay buffer is to keep besides of each transition."""
        return dict(self.behavior.columns())

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return OffPolicyAlgorithm._wrap_env(as_task_env(env), verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        vec_env = self._wrap_env(env, self.verbose)
        slots = self._checked_slots(vec_env)
        super().set_env(vec_env, force_reset)
        self._slots = slots
        self._begin_slots()

    # ---- collecting ----

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        before = self._last_obs
        noise = deepcopy(self.action_noise) if self.goes_on else None  # which SB3 resets in every learn()
        result = super()._setup_learn(*args, **kwargs)
        if noise is not None:
            self.action_noise = noise
        self.goes_on = False
        if self._last_obs is not before:
            self._begin_slots()
        return result

    def _begin_slots(self) -> None:
        """All slots begin an episode, perhaps of other tasks."""
        self.replay_buffer.flush()
        self.read_slots()
        self.behavior.restart(self.n_envs)
        self.statistics.restart()

    def read_slots(self) -> None:
        """Ask the environment anew which task each slot is in."""
        self._layout = TaskLayout.of(self._slots.now(), self.n_tasks)
        self.replay_buffer.set_slot_tasks(self._layout.tasks)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """As SB3's, but counts the transitions of one task: that is what ``gradient_steps=-1`` repeats."""
        rollout = super().collect_rollouts(*args, **kwargs)
        if not rollout.continue_training:
            # A callback stopped between a step and its storing: the running episodes cannot be gone on with.
            self._last_obs = None
        return rollout._replace(episode_timesteps=max(1, rollout.episode_timesteps // self.n_tasks))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions ``(slots, *act)`` in the environment's units, and the same in [-1, 1] for the buffer."""
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
        """The behavior chooses, the chosen act: ``(slots, act)`` in [-1, 1] for ``(slots, *obs)``."""
        proposals = Proposals(
            self.policy,
            self.policy.encode(observations),
            self._layout,
            lambda: self.temperature,
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
        if self.replay_buffer.columns:
            of_task_set = self.replay_buffer.columns.keys() - SEGMENT_COLUMNS.keys()
            self.replay_buffer.stage((dict(self._slots.columns()) if of_task_set else {}) | self.behavior.staged())
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)
        if dones.any():
            self.behavior.ended(dones)
            if self._slots.fixed is None:
                self.read_slots()

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        super()._update_info_buffer(infos, dones)
        if dones is not None:
            self.statistics.update(infos, dones, self._layout.tasks)

    def dump_logs(self) -> None:
        if self.n_tasks > 1:
            for key, value in self.statistics.means().items():
                self.logger.record(f"rollout/{key}", value, exclude="stdout" if len(key) > _CONSOLE_KEY else None)
        self._record_mixture()
        super().dump_logs()

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of those who may act for a task: the tasks' policies, then the fixed ones."""
        return (*self.task_names, *(f"fixed-{number}" for number in range(self.behavior.n_fixed())))

    def _record_mixture(self) -> None:
        """Who acted for whom since the last log: ``mixture/<task>/<candidate>``, rows sum to one."""
        counts = self.behavior.counts.copy()
        window, self._logged_counts = counts - self._logged_counts, counts
        if len(self.candidates) == 1:
            return
        for task, row in zip(self.task_names, window, strict=True):
            for candidate, steps in zip(self.candidates, row, strict=True):
                if row.sum() > 0:
                    self.logger.record(f"mixture/{task}/{candidate}", steps / row.sum(), exclude="stdout")

    # ---- predicting ----

    def predict(
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
        :param task: index or name, or one for each row; may be left out for one task, or for one row per slot
            of the model's environment
        :raises ValueError: if it is not clear whose policy to ask
        """
        shape = observation.shape if isinstance(observation, np.ndarray) else ()
        rows = shape[0] if len(shape) > len(self.observation_space.shape or ()) else 1
        slots = None if self.env is None else self._slots.fixed
        tasks = checks.resolve_tasks(task, rows, self.task_names, slots)
        return self.policy.predict(
            observation, state, episode_start, deterministic, tasks=tasks, generator=self.streams.predict
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_slots", "_layout", "goes_on"]
