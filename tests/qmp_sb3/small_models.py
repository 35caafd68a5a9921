"""Models with tiny networks and an environment that costs nothing, for tests of the algorithm's edges."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from qmp_sb3 import QMP, MultiTaskSAC, MultiTaskVecEnv


class Drift(gym.Env):
    """A few numbers drift with the action; the reward is how near the first is to the task's goal.

    Episodes last ``length`` steps; odd ones end by termination, even ones by truncation.
    """

    def __init__(
        self,
        goal: float = 0.0,
        length: int = 10,
        observation_space: spaces.Space | None = None,
        action_space: spaces.Box | None = None,
    ) -> None:
        self.goal, self.length, self.episode = goal, length, 0
        self.observation_space = observation_space or spaces.Box(-2.0, 2.0, (3,), np.float32)
        self.action_space = action_space or spaces.Box(-1.0, 1.0, (2,), np.float32)

    def _observe(self) -> np.ndarray:
        if isinstance(self.observation_space, spaces.Box):
            shape, dtype = self.observation_space.shape, self.observation_space.dtype
            return np.resize(np.clip(self.state, -2.0, 2.0), shape).astype(dtype)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-1, 1, 3), 0
        self.episode += 1
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action} is outside {self.action_space}"
        self.steps += 1
        self.state = 0.9 * self.state + 0.2 * np.resize(np.asarray(action), 3)
        reward = -abs(float(self.state[0]) - self.goal)
        over = self.steps >= self.length
        return self._observe(), reward, over and self.episode % 2 == 1, over and self.episode % 2 == 0, {}


def drifts(tasks: int = 3, copies: int = 1, **kwargs) -> MultiTaskVecEnv:
    """A VecEnv of ``tasks`` tasks with different goals."""
    goals = np.linspace(-1, 1, tasks)
    makers = [partial(Drift, goal, **kwargs) for goal in np.tile(goals, copies)]
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    return MultiTaskVecEnv(envs, np.arange(tasks * copies) % tasks, [f"to {goal:g}" for goal in goals])


ENVS = {
    "one task": lambda: gym.make("Pendulum-v1"),
    "three tasks": drifts,
    "QMP id": lambda: "QMP/MultistageReacher-v0",
}
N_TASKS = {"one task": 1, "three tasks": 3, "QMP id": 5}
every_env = pytest.mark.parametrize("which", ENVS)
one_and_three = pytest.mark.parametrize("which", ["one task", "three tasks"])


def make(which="three tasks", cls=QMP, seed=0, policy_kwargs=None, env=None, **kwargs) -> MultiTaskSAC:
    """A model with tiny networks that is soon past its random actions."""
    settings = dict(learning_starts=10 * N_TASKS[which], batch_size=8, buffer_size=300, train_freq=4, device="cpu")
    policy_kwargs = {"net_arch": [8]} | (policy_kwargs or {})
    return cls(
        "MlpPolicy",
        ENVS[which]() if env is None else env,
        seed=seed,
        policy_kwargs=policy_kwargs,
        **(settings | kwargs),
    )


def steps(which: str, per_task: int = 40) -> int:
    return per_task * N_TASKS[which]


def weights(model: MultiTaskSAC) -> dict[str, th.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def equal(one: dict[str, th.Tensor], other: dict[str, th.Tensor]) -> bool:
    return one.keys() == other.keys() and all(th.equal(one[name], other[name]) for name in one)
