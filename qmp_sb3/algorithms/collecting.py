"""The half of an algorithm that meets environments: slots, whose policy acts, what is stored and logged."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from qmp_envs.task_set import TaskSet
from qmp_sb3.algorithms import checks
from qmp_sb3.behaviors import Behavior, Proposals, parse_behavior
from qmp_sb3.common.random_streams import RandomStreams
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import SEGMENT_COLUMNS, MultiTaskReplayBuffer
from qmp_sb3.vec_env import as_task_env
from qmp_sb3.vec_env.episode_statistics import EpisodeStatistics
from qmp_sb3.vec_env.slot_infos import SlotInfos
from qmp_sb3.vec_env.task_slots import TaskSlots

_CONSOLE_KEY = 28  # characters of a key that SB3's console table shows without cutting


class CollectingAlgorithm(OffPolicyAlgorithm):
    """Collects the steps of many slots as SB3 does, hook by hook: ``_sample_action``, the environment's step, the
    callbacks, ``_update_info_buffer``, ``_store_transition``, ``_on_step``; all of them may be overridden as in SB3.

    SB3 copies the observations deeply and looks into every slot's info in every step. Here that happens in steps in
    which an episode ends, and otherwise only where the infos are not made by our environments
    (:class:`~qmp_sb3.vec_env.slot_infos.SlotInfos`).
    """

    policy: MultiTaskPolicy
    replay_buffer: MultiTaskReplayBuffer
    action_space: spaces.Box
    behavior: Behavior
    warmup_actions: str
    task_names: tuple[str, ...]
    streams: RandomStreams
    #: whether the next ``learn`` resumes the episodes of another model (:mod:`qmp_sb3.algorithms.training_state`)
    resumes_episodes: bool = False

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.task_names)

    @property
    def candidates(self) -> tuple[str, ...]:
        """Names of those who may act for a task: the tasks' policies, then the fixed ones."""
        return (*self.task_names, *(f"fixed-{number}" for number in range(self.behavior.n_fixed())))

    @property
    def n_candidates(self) -> int:
        """How many those are."""
        return self.n_tasks + self.behavior.n_fixed()

    @property
    def temperature(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``; zeros where actions are not rewarded for entropy."""
        return th.zeros(self.n_tasks, device=self.device)

    # ---- slots ----

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
        if new or not isinstance(self.behavior, Behavior):  # load(behavior=...) puts an expression here
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

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        return OffPolicyAlgorithm._wrap_env(as_task_env(env), verbose, monitor_wrapper)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        vec_env = self._wrap_env(env, self.verbose)
        slots = self._checked_slots(vec_env)
        super().set_env(vec_env, force_reset)
        self._slots = slots
        self._begin_slots()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        before = self._last_obs
        noise = deepcopy(self.action_noise) if self.resumes_episodes else None  # which SB3 resets in every learn()
        result = super()._setup_learn(*args, **kwargs)
        if noise is not None:
            self.action_noise = noise
        self.resumes_episodes = False
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

    def resume_episodes(self) -> None:
        """The environment stands where another model left it: the next ``learn`` goes on there."""
        self.resumes_episodes = True
        self.read_slots()

    def begin_episodes(self) -> None:
        """The next ``learn`` resets the environment."""
        self.resumes_episodes, self._last_obs = False, None

    # ---- collecting ----

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """As SB3's, but counts the transitions of one task: that is what ``gradient_steps=-1`` repeats.

        The names of the local variables are SB3's, too: callbacks read them.
        """
        self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes = 0, 0
        assert train_freq.frequency > 0, "Should at least collect one step or episode."
        if env.num_envs > 1 and train_freq.unit != TrainFrequencyUnit.STEP:
            raise ValueError(
                f"train_freq counts episodes, which {env.num_envs} slots end at different times: give vector steps"
            )

        callback.on_rollout_start()
        continue_training = True
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            if not callback.on_step():
                continue_training = False
                break

            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for idx in np.flatnonzero(dones).tolist():
                num_collected_episodes += 1
                self._end_episode(idx, env.num_envs, action_noise, log_interval)
        if continue_training:
            callback.on_rollout_end()
        else:
            # Stopped between a step and its storing: the running episodes cannot be resumed.
            self._last_obs = None
        transitions = max(1, num_collected_steps * env.num_envs // self.n_tasks)
        return RolloutReturn(transitions, num_collected_episodes, continue_training)

    def _end_episode(self, slot: int, slots: int, action_noise: ActionNoise | None, log_interval: int | None) -> None:
        self._episode_num += 1
        if action_noise is not None:
            action_noise.reset(**({"indices": [slot]} if slots > 1 else {}))
        if log_interval is not None and self._episode_num % log_interval == 0:
            self.dump_logs()

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

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        if dones is None or np.count_nonzero(dones) or not isinstance(infos, SlotInfos):
            super()._update_info_buffer(infos, dones)
        self._note_infos(infos, dones)

    def _note_infos(self, infos: list[dict[str, Any]], dones: np.ndarray | None) -> None:
        if dones is not None:
            self.statistics.update(infos, dones, self._layout.tasks)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """As SB3's: the buffer gets unnormalized observations, and terminal ones where episodes ended."""
        self._stage_columns()
        assert isinstance(new_obs, np.ndarray)
        normalize = self._vec_normalize_env
        if normalize is None:
            self._last_original_obs = self._last_obs
        original_obs = new_obs if normalize is None else normalize.get_original_obs()
        original_reward = reward if normalize is None else normalize.get_original_reward()
        assert isinstance(original_obs, np.ndarray) and self._last_original_obs is not None
        next_obs = original_obs.copy()
        for slot in np.flatnonzero(dones):
            terminal_observation = infos[slot].get("terminal_observation")
            if terminal_observation is not None:
                next_obs[slot] = terminal_observation
                if normalize is not None:
                    next_obs[slot] = normalize.unnormalize_obs(next_obs[slot, :])
        replay_buffer.add(self._last_original_obs, next_obs, buffer_action, original_reward, dones, infos)  # type: ignore[arg-type]
        self._last_obs = new_obs
        if normalize is not None:
            self._last_original_obs = original_obs
        self._note_ends(dones)

    def _note_ends(self, dones: np.ndarray) -> None:
        """Episodes ended in the slots of the mask ``dones``; the next ones may be of other tasks."""
        if dones.any():
            self.behavior.ended(dones)
            if self._slots.fixed is None:
                self.read_slots()

    def _stage_columns(self) -> None:
        """What parts want to be kept of the step just made, besides the usual."""
        if self.replay_buffer.columns:
            of_task_set = self.replay_buffer.columns.keys() - SEGMENT_COLUMNS.keys()
            self.replay_buffer.stage((dict(self._slots.columns()) if of_task_set else {}) | self.behavior.staged())

    # ---- logging ----

    def dump_logs(self) -> None:
        if self.n_tasks > 1:
            for key, value in self.statistics.means().items():
                self.logger.record(f"rollout/{key}", value, exclude="stdout" if len(key) > _CONSOLE_KEY else None)
        self._record_mixture()
        super().dump_logs()

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
