"""Collecting steps of many slots: Stable-Baselines3's loop, without work for slots in which nothing ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import should_collect_more_steps
from stable_baselines3.common.vec_env import VecEnv

from qmp_sb3.vec_env.slot_infos import SlotInfos


class CollectingAlgorithm(OffPolicyAlgorithm):
    """Collects as SB3 does, hook by hook: ``_sample_action``, the environment's step, the callbacks,
    ``_update_info_buffer``, ``_store_transition``, ``_on_step``; all of them may be overridden as in SB3.

    SB3 copies the observations deeply and looks into every slot's info in every step. Here that happens in steps in
    which an episode ends, and otherwise only where the infos are not made by our environments
    (:class:`~qmp_sb3.vec_env.slot_infos.SlotInfos`).
    """

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
        """As SB3's. The names of the local variables are SB3's, too: callbacks read them."""
        self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes = 0, 0
        assert train_freq.frequency > 0, "Should at least collect one step or episode."
        if env.num_envs > 1 and train_freq.unit != TrainFrequencyUnit.STEP:
            raise ValueError(
                f"train_freq counts episodes, which {env.num_envs} slots end at different times: give vector steps"
            )

        callback.on_rollout_start()
        while should_collect_more_steps(train_freq, num_collected_steps, num_collected_episodes):
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            if not callback.on_step():
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, False)

            self._update_info_buffer(infos, dones)
            self._store_transition(replay_buffer, buffer_actions, new_obs, rewards, dones, infos)  # type: ignore[arg-type]
            self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
            self._on_step()
            for idx in np.flatnonzero(dones).tolist():
                num_collected_episodes += 1
                self._end_episode(idx, env.num_envs, action_noise, log_interval)
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, True)

    def _end_episode(self, slot: int, slots: int, action_noise: ActionNoise | None, log_interval: int | None) -> None:
        self._episode_num += 1
        if action_noise is not None:
            action_noise.reset(**({"indices": [slot]} if slots > 1 else {}))
        if log_interval is not None and self._episode_num % log_interval == 0:
            self.dump_logs()

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        if dones is None or np.count_nonzero(dones) or not isinstance(infos, SlotInfos):
            super()._update_info_buffer(infos, dones)

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
