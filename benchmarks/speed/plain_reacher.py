"""The Multistage Reacher's first task as one writes a single Gymnasium environment by hand, without a task set."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.task_sets.assets import asset
from qmp_envs.task_sets.reacher import (
    ACCELERATION_COST,
    ACTION_COST,
    POSITION_NOISE,
    STAGE_COST,
    STAGES,
    SUBGOALS,
    TOUCH_DISTANCE,
    VELOCITY_COST,
    VELOCITY_NOISE,
    MultistageReacher,
)


class PlainReacher(gym.Env):
    """``gym.make("QMP/MultistageReacher-v0", task=0)``: the same steps, to rounding."""

    observation_space = spaces.Box(-np.inf, np.inf, (15,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_path(asset("reacher.xml"))
        self.data = mujoco.MjData(self.model)
        self.hand = self.data.body("hand").xpos
        self.goals = SUBGOALS[0]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.start(
            self.data.qpos + self.np_random.uniform(-POSITION_NOISE, POSITION_NOISE, 6),
            self.np_random.uniform(-VELOCITY_NOISE, VELOCITY_NOISE, 6),
        )
        return self._observation(), {}

    def start(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Begin an episode there."""
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)
        self.stage = self.shown = self.steps = 0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        action = np.clip(action, -1.0, 1.0).astype(np.float64)
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, MultistageReacher.frame_skip)
        distance = np.linalg.norm(self.hand - self.goals[min(self.stage, STAGES - 1)])
        success = bool(distance < TOUCH_DISTANCE)
        self.shown = self.stage
        self.stage += success
        stage_reward = -STAGE_COST * (STAGES - self.stage)
        control = (
            -VELOCITY_COST * np.abs(self.data.qvel).mean()
            - ACCELERATION_COST * np.abs(self.data.qacc).mean()
            - ACTION_COST * np.square(action).sum()
        )
        self.steps += 1
        info = {
            "success": success,
            "is_success": self.stage == STAGES,
            "stages_completed": self.stage,
            "reward_distance": -distance,
            "reward_stage": stage_reward,
            "reward_control": control,
        }
        reward = float(-distance + stage_reward + control)
        ended = self.stage == STAGES
        return self._observation(), reward, ended, self.steps >= MultistageReacher.horizon, info

    def _observation(self) -> np.ndarray:
        stage = np.zeros(STAGES)
        stage[min(self.shown, STAGES - 1)] = 1.0
        return np.concatenate([self.data.qpos, self.data.qvel, stage]).astype(np.float32)
