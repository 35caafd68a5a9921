"""Wrappers for single environments whose info says which task is running."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from qmp_envs.drivers.episodes import with_one_hot


class TaskOneHot(gym.Wrapper[np.ndarray, Any, np.ndarray, Any]):
    """Append ``info["task_id"]`` as a one-hot vector to a flat observation.

    For environments of this suite the option ``task_one_hot=True`` does the same, in the batched form too.

    :param num_tasks: length of the vector; by default the number of the environment's ``task_names``
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], num_tasks: int | None = None) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"TaskOneHot needs a flat Box observation space, got {space}.")
        self.num_tasks = len(env.get_wrapper_attr("task_names")) if num_tasks is None else num_tasks
        self.observation_space = with_one_hot(space, self.num_tasks)
        self._one_hot = np.zeros(self.num_tasks, space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._one_hot[:] = 0.0
        self._one_hot[info["task_id"]] = 1.0
        return np.concatenate([observation, self._one_hot]), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return np.concatenate([observation, self._one_hot]), reward, terminated, truncated, info
