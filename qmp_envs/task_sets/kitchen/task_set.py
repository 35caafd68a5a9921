"""Franka kitchen: ten tasks of an arm that opens, closes and switches things in a kitchen."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import Physics, State
from qmp_envs.task_set import Outcome, TaskSet
from qmp_envs.task_sets import options
from qmp_envs.task_sets.kitchen.model import CAMERAS, physics_model, scene_model
from qmp_envs.task_sets.kitchen.tasks import NAMES, POSITIONS, SITES, THRESHOLDS, VELOCITIES, table
from qmp_envs.task_sets.reward_shapes import tolerance

ROBOT = slice(0, 9)  # of the positions: seven joints of the arm, two fingers
MAX_SPEED = 2.0  # rad/s, of a joint at action 1
LOWEST = np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0.0, -2.9, 0.0, 0.0])  # rad, m; limits of the targets
HIGHEST = np.array([2.9, 1.8, 2.9, 0.0, 2.9, 3.8, 2.9, 0.04, 0.04])

NOISE_SIZES = np.repeat([0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [9, 2, 6, 3, 3, 3, 3, 1])  # rad, m
NOISE_DRAWS = 9 + 9 + 21 + 21  # positions and velocities of the robot, then of the objects
POSITION_DRAWS = np.r_[0:9, 18:39]  # the velocities' numbers are drawn and, as nobody sees velocities, not used

SCALE = 20.0  # of the reward
IN_PLACE_WEIGHT, REACH_WEIGHT = 0.4, 0.6
REACH_RADIUS = 0.08  # m; the hand has reached the handle at this distance
OBSERVATION_LIMIT = 8.0


class KitchenMemory(NamedTuple):
    """What an episode remembers."""

    reading: np.ndarray  # (slots, 30): the positions as the sensors gave them last, with noise; rad, m
    succeeded: np.ndarray  # (slots,) bool: the goal was reached at some step of the episode


class Kitchen(TaskSet):
    """
    ## Description
    A Franka arm stands in front of a kitchen. Every task moves one of five things there, opened or switched on
    in one task and closed or switched off in another. All tasks share the scene; what differs is the thing, its
    start and its goal.

    ## Action space
    Velocities of the seven joints of the arm ({MAX_SPEED} rad/s at 1) and of the two fingers
    ({MAX_SPEED} m/s at 1). A step turns them into targets of position controllers: the last reading of the joint, noise
    included, plus velocity times 0.08 s, within the limits below. A zero action does not hold the arm still: its
    target is where the arm was seen last, so it sags under its weight. Actions outside are clipped.

    {ACTION_TABLE}

    ## Observation space
    There are no velocities. The noise is uniform, of the size given here.

    {OBSERVATION_TABLE}

    The goal is 0 but for the task's thing and, in every task, the bottom burner and the light (on), the microwave
    (open) and the kettle (moved). So "bottom burner-off" and "light switch-off" cannot be told from their opposites
    by the goal. With `task_one_hot=True` the task (10) is appended.

    ## Rewards
    With d the distance of the thing's positions, as read, from their goal, and h the distance (m) from its handle to
    the middle of the fingers:

    {SCALE} ({IN_PLACE_WEIGHT} in_place + {REACH_WEIGHT} reach - 1), at most 0

    `in_place` is 1 below the task's threshold and falls with d to 0.1 at the start's distance; `reach` is 1 below
    {REACH_RADIUS} m and falls with h in the same way (both as a bell curve); the start's h is taken from the end
    effector, 4 cm beside the middle of the fingers. The step that ends the episode with success has 2800 instead, 20
    for each of the 140 steps. Info shows the terms `in_place`, `reach`, `shift` and `success`, and
    `dist_goal` (d) and `dist_hand` (h).

    {TASK_TABLE}

    ## Starting state
    The same in every episode, at rest; only the task's thing starts where the table says. In the tasks "-off" the
    burner of the knob snaps from -0.01 to about -0.005 in the first step, because the two are coupled.

    ## Episode end
    Terminates with success, and when the simulator fails. Truncates after 140 steps of 0.08 s.

    ## Success
    `success`: d is below the threshold in this step. `is_success`: in this or an earlier step.

    ## Arguments
    :param noise: factor of the sensors' noise; 0 is none, the table above shows 0.1
    :param success_bonus: reward of the step that ends with success; `None`: the same as in any other step
    :param terminate_on_success: end the episode at success; with `False` there is no bonus either

    Needs the model of gymnasium-robotics: `pip install "qmp-suite[robotics]"`.

    ## Differences
    From the paper: it speaks of an observation with the location of one object and its goal; here all objects are
    seen, as in the released code. It gives no numbers for reward, thresholds and time limit; they are the code's.

    From the released code: actions and observations are float32. Observations are clipped to the space. The
    simulator is MuJoCo 3 with the model of gymnasium-robotics, whose only difference that matters is undone: the
    pedestal under the arm does not collide. The reward can pay or not pay the bonus; the code's sparse reward is
    `success` itself. Success in step 140 is terminal here, and a time-out there.

    From `FrankaKitchen-v1`: single tasks with dense rewards, closing and switching off too, noise as in d4rl, no
    velocities in the observation.

    ## Version history
    * v0: tasks, reward and noise of the released code, in MuJoCo 3.3.
    """

    name = "Kitchen"
    task_names = NAMES
    horizon = 140
    min_reward = -20.0  # the released code's
    frame_skip = 40
    dt = 0.08
    cameras = tuple(CAMERAS)
    noise_size = NOISE_DRAWS
    step_in_threads = True
    constant_modules = ("qmp_envs.task_sets.kitchen.tasks",)
    measure_meanings = {
        "dist_goal": "distance of the thing's positions, as read, from their goal, rad or m",
        "dist_hand": "distance of the fingers' middle from the thing's handle, m",
    }
    relabel_columns = {"dist_goal": (len(NAMES),), "dist_hand": (len(NAMES),)}

    def __init__(
        self, noise: float = 0.1, success_bonus: float | None = 2800.0, terminate_on_success: bool = True
    ) -> None:
        self.noise = options.number("noise", noise, 0.0)
        self.success_bonus = None if success_bonus is None else options.number("success_bonus", success_bonus)
        self.terminate_on_success = terminate_on_success
        self.model_of_task = np.zeros(len(NAMES), np.int64)
        self.action_space = spaces.Box(-1.0, 1.0, (9,), np.float32)
        self.observation_space = spaces.Box(-OBSERVATION_LIMIT, OBSERVATION_LIMIT, (2 * POSITIONS,), np.float32)
        self.noise_sizes = self.noise * NOISE_SIZES
        self.starts, self.goals, self._moved, self._shown_goals = table()

    @cached_property
    def models(self) -> tuple[mujoco.MjModel, ...]:  # type: ignore[override]
        """Loaded when they are first needed: lists of tasks can be had without gymnasium-robotics."""
        return (physics_model(),)

    @cached_property
    def sites(self) -> np.ndarray:
        """The site's id ``(tasks,)`` of every task's fixture."""
        return np.array([self.models[0].site(name).id for name in SITES])

    @cached_property
    def margins(self) -> tuple[np.ndarray, np.ndarray]:
        """How far ``(tasks,)`` from the threshold and from the reach radius every task starts, rad or m and m."""
        data = mujoco.MjData(self.models[0])
        hand = np.empty(len(NAMES))
        for task, start in enumerate(self.starts):
            mujoco.mj_resetData(self.models[0], data)
            data.qpos[:] = start
            mujoco.mj_forward(self.models[0], data)
            # As released: measured from the end effector here, from the fingers in every step.
            hand[task] = _length(data.site_xpos[self.sites[task]] - data.site("end_effector").xpos)
        goal = _length(self.starts - self.goals)
        return np.abs(goal - THRESHOLDS), np.abs(hand - REACH_RADIUS)

    def views(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        # Sites and bodies stand where the last substep began, 2 ms behind qpos, as in the released code.
        left, right = data.body("panda0_leftfinger").xpos, data.body("panda0_rightfinger").xpos
        return {**super().views(data), "sites": data.site_xpos, "left_finger": left, "right_finger": right}

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1.0, 1.0, NOISE_DRAWS)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.starts[task_ids], np.zeros((len(task_ids), VELOCITIES))

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> KitchenMemory:
        return KitchenMemory(self._read(state, draws), np.zeros(len(task_ids), bool))

    def control(
        self, actions: np.ndarray, physics: Physics, memory: KitchenMemory, task_ids: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        target = memory.reading[:, ROBOT] + MAX_SPEED * actions * self.dt
        return np.minimum(np.maximum(target, LOWEST), HIGHEST)

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: KitchenMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, KitchenMemory]:
        reading = self._read(after, noise)
        columns = self._distances(after, reading)
        slots = np.arange(len(task_ids))
        dist_goal, dist_hand = columns["dist_goal"][slots, task_ids], columns["dist_hand"][slots, task_ids]
        success = dist_goal < THRESHOLDS[task_ids]
        reward, terms = self._reward(dist_goal, dist_hand, task_ids)
        memory = KitchenMemory(reading, memory.succeeded | success)
        outcome = Outcome(
            reward=reward,
            terminated=after.failed | (success & self.terminate_on_success),
            success=success,
            is_success=memory.succeeded.copy(),
            stages_completed=None,
            terms=terms,
            columns=columns,
            measures={"dist_goal": dist_goal, "dist_hand": dist_hand},
        )
        return outcome, memory

    def observe(self, state: State, memory: KitchenMemory, task_ids: np.ndarray) -> np.ndarray:
        observation = np.empty((len(task_ids), 2 * POSITIONS), np.float32)
        # A kettle that was thrown far away leaves the space; nothing else does.
        observation[:, :POSITIONS] = np.clip(memory.reading, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)
        observation[:, POSITIONS:] = self._shown_goals[task_ids]
        return observation

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        rows = np.arange(len(task_ids))
        return self._reward(columns["dist_goal"][rows, task_ids], columns["dist_hand"][rows, task_ids], task_ids)[0]

    def scene(self, index: int) -> mujoco.MjModel:
        return scene_model()

    def pose(self, data: mujoco.MjData, state: State, memory: KitchenMemory, task_id: int) -> None:
        data.qpos[:] = state.qpos
        data.mocap_pos[0] = state.sites[self.sites[task_id]]

    def _read(self, state: State, draws: np.ndarray) -> np.ndarray:
        """What the sensors say ``(slots, 30)``, given numbers ``(slots, 60)`` in [-1, 1)."""
        return state.qpos + self.noise_sizes * draws[:, POSITION_DRAWS]

    def _distances(self, state: State, reading: np.ndarray) -> dict[str, np.ndarray]:
        """Every task's distances ``(slots, tasks)`` to the goal and from hand to handle."""
        hand = (state.left_finger + state.right_finger) / 2.0
        return {
            "dist_goal": _length((reading[:, None] - self.goals) * self._moved),
            "dist_hand": _length(state.sites[:, self.sites] - hand[:, None]),
        }

    def _reward(
        self, dist_goal: np.ndarray, dist_hand: np.ndarray, task_ids: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reward and terms ``(batch,)`` from the own task's distances ``(batch,)``."""
        thresholds = THRESHOLDS[task_ids]
        goal_margin, hand_margin = (margin[task_ids] for margin in self.margins)
        in_place = tolerance(dist_goal, high=thresholds, margin=goal_margin)
        reach = tolerance(dist_hand, high=REACH_RADIUS, margin=hand_margin)
        reward = SCALE * (IN_PLACE_WEIGHT * in_place + REACH_WEIGHT * reach - 1.0)
        terms = {
            "in_place": SCALE * IN_PLACE_WEIGHT * in_place,
            "reach": SCALE * REACH_WEIGHT * reach,
            "shift": np.full(len(task_ids), -SCALE),
            "success": np.zeros(len(task_ids)),
        }
        if self.terminate_on_success and self.success_bonus is not None:
            paid = dist_goal < thresholds
            terms = {name: np.where(paid, 0.0, term) for name, term in terms.items()}
            terms["success"] = np.where(paid, self.success_bonus, 0.0)
            reward = np.where(paid, self.success_bonus, reward)
        return reward, terms


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths of vectors ``(..., size)``."""
    return np.sqrt(np.square(vectors).sum(-1))
