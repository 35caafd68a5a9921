"""Point2D: a point that has to cross an empty square; the smallest task on which borrowing actions helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import State
from qmp_envs.suggestions import closest
from qmp_envs.task_set import Memory, Outcome, TaskSet, one_model
from qmp_envs.task_sets.assets import asset

START = np.array([0.0, 0.0])  # lower left corner
GOAL = np.array([10.0, 10.0])  # upper right corner
GOAL_RADIUS = 0.5  # success below this distance
SIDE = 10.0  # of the square between start and goal; the observation's unit
REWARDS = ("exp", "distance", "inverse", "sparse")


class PointMemory(NamedTuple):
    reached: np.ndarray  # (slots,) bool: the goal was reached at some step of the episode


class Point2D(TaskSet):
    """
    ## Description
    A point starts in the lower left corner of an empty square and should go to the upper right one. With the
    default reward the slope near the start is too small to follow, so a learner has to be shown the way.

    ## Action space
    | Num | Action |
    |---|---|
    | 0-1 | displacement of this step, to the right and up |

    Actions outside are clipped, and so is the position.

    ## Observation space
    | Num | Observation |
    |---|---|
    | 0-1 | position / {SIDE} - 0.5 |

    ## Rewards
    With d the distance to the goal after the step (info term `goal`):

    | `reward` | per step |
    |---|---|
    | `"exp"` (default) | exp(-d) |
    | `"distance"` | -d / 14.14 |
    | `"inverse"` | 1 / (1 + d) |
    | `"sparse"` | 1 if d < {GOAL_RADIUS} else 0 |

    ## Starting state
    Always {START}; the goal is {GOAL}.

    ## Episode end
    Truncates after 20 steps (`max_episode_steps=` changes that). Terminates at the goal only with
    `terminate_at_goal=True`; do not combine that with a reward that is positive on the way, which it would
    cut off.

    ## Success
    `success`: d < {GOAL_RADIUS} in this step. `is_success`: at this or an earlier step of the episode.

    ## Arguments
    :param reward: one of the table above
    :param box: the position's limits on both axes
    :param terminate_at_goal: end the episode at success

    ## Differences
    From the paper: it gives start, goal and actions only. Reward, length of the episode, success, limits and the
    scale of the observation are this project's choice. There is no released code.

    ## Version history
    * v0: start, goal and actions are the paper's; the rest is not published and is this project's choice.
    """

    name = "Point2D"
    min_reward = 0.0
    task_names = ("reach",)
    horizon = 20
    dt = 0.1
    cameras = ("top",)
    relabel_columns = {"position": (2,)}

    def __init__(
        self, reward: str = "exp", box: tuple[float, float] = (0.0, SIDE), terminate_at_goal: bool = False
    ) -> None:
        if reward not in REWARDS:
            raise ValueError(
                f"Unknown reward {reward!r}; did you mean {closest(reward, REWARDS)!r}? Rewards: {', '.join(REWARDS)}."
            )
        low, high = map(float, box)
        if not (low <= START.min() and high >= GOAL.max()):
            raise ValueError(f"The box must contain start {START} and goal {GOAL}, got limits {box}.")
        self.kind, self.box, self.terminate_at_goal = reward, (low, high), terminate_at_goal
        model = mujoco.MjModel.from_xml_path(asset("point.xml"))  # for drawing
        self.models, self.model_of_task = one_model(model, 1)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(low / SIDE - 0.5, high / SIDE - 0.5, (2,), np.float32)

    def make_physics(self, task_ids: np.ndarray, workers: int = 1) -> PointPhysics:
        return PointPhysics(len(task_ids), self.box)

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return np.empty(0)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile(START, (len(task_ids), 1)), np.empty((len(task_ids), 0))

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> PointMemory:
        return PointMemory(np.zeros(len(task_ids), bool))

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: PointMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, PointMemory]:
        columns = {"position": after.qpos.copy()}
        success = _distance(after.qpos) < GOAL_RADIUS
        reached = memory.reached | success
        reward = self.reward(columns, task_ids)
        terminated = success if self.terminate_at_goal else np.zeros_like(success)
        outcome = Outcome(reward, terminated, success, reached.copy(), None, {"goal": reward}, columns)
        return outcome, PointMemory(reached)

    def observe(self, state: State, memory: Memory, task_ids: np.ndarray) -> np.ndarray:
        return (state.qpos / SIDE - 0.5).astype(np.float32)

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        distance = _distance(columns["position"])
        if self.kind == "exp":
            return np.exp(-distance)
        if self.kind == "distance":
            return -distance / np.linalg.norm(GOAL - START)
        if self.kind == "inverse":
            return 1.0 / (1.0 + distance)
        return (distance < GOAL_RADIUS).astype(np.float64)


class PointPhysics:
    """Positions that move by the action and stay in a box; no velocities."""

    def __init__(self, slots: int, box: tuple[float, float]) -> None:
        self.box = box
        self.state = State(qpos=np.zeros((slots, 2)), qvel=np.zeros((slots, 0)), failed=np.zeros(slots, bool))

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        self.state.qpos[slots] = np.clip(start[0], *self.box)

    def lead(self, slots: np.ndarray, controls: Sequence[np.ndarray]) -> None:
        for slot, rows in zip(slots.tolist(), controls, strict=True):
            for control in rows:
                self.state.qpos[slot] = np.clip(self.state.qpos[slot] + control, *self.box)

    def step(self, control: np.ndarray) -> State:
        low, high = self.box
        qpos = np.minimum(np.maximum(self.state.qpos + control, low), high)
        self.state = State(qpos=qpos, qvel=self.state.qvel, failed=self.state.failed)
        return self.state

    def snapshot(self) -> list[dict[str, Any]]:
        return [{"qpos": qpos.copy()} for qpos in self.state.qpos]

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        self.state.qpos[:] = [saved["qpos"] for saved in slots]

    def close(self) -> None:
        """Nothing runs beside the caller."""


def _distance(positions: np.ndarray) -> np.ndarray:
    """Distance to the goal ``(batch,)`` of positions ``(batch, 2)``."""
    return np.sqrt(np.square(positions - GOAL).sum(1))
