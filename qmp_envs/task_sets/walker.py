"""Walker2D: a planar walker that goes forward, goes backward, stands still, or crawls under a ceiling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import MujocoPhysics, Physics, State
from qmp_envs.task_set import Outcome, TaskSet
from qmp_envs.task_sets.walker_model import CEILING_GROUP, walker_model

TASK_NAMES = ("forward", "backward", "balance", "crawl")
# One number per task, in that order.
DIRECTION = np.array([1.0, -1.0, 1.0, 1.0])  # of the wanted velocity
TARGET_SPEED = np.array([3.0, 3.0, 0.0, 3.0])  # m/s
VELOCITY_WEIGHT = np.array([1.0, 1.0, 1.0, 2.0])  # per m/s
HEIGHT_WEIGHT = np.array([1.0, 1.0, 0.5, 0.0])  # per m
FOOT_WEIGHT = np.array([0.01, 0.01, 0.0, 0.01])  # per rad/s
CEILING_COST = np.array([0.0, 0.0, 0.0, 10.0])
MIN_HEIGHT = np.array([0.8, 0.8, 0.8, 0.3])  # m; the episode ends when the torso is lower
OPENING_STEPS = np.array([5, 5, 10, 5])  # steps of random actions before the first observation
PUSH_FORCE = (100.0, 100.0, 400.0, 300.0)  # N and N m; the largest push on each axis

TARGET_STRETCH = 1.1  # m; height of the torso above the higher foot
ANGLE_WEIGHT = 0.1
CONTROL_WEIGHT = 0.001
ALIVE_REWARD = 1.0
START_NOISE = 0.01  # m, rad and their rates; uniform
MAX_SHOWN_RATE = 10.0  # m/s and rad/s; what the observation shows of faster motion

X, HEIGHT, PITCH = 0, 1, 2  # coordinates of the torso
FOOT_JOINTS = (5, 8)
NUM_COORDINATES, NUM_MOTORS = 9, 6
WRENCH = 6  # force and torque


class WalkerMemory(NamedTuple):
    steps: np.ndarray  # (slots,) int64: steps of the episode so far


class Walker2D(TaskSet):
    """
    ## Description
    A torso on two legs with hip, knee and ankle that moves in a vertical plane. It should run at 3 m/s forward
    or backward, stand still, or go forward at 3 m/s below a ceiling. The ceiling is 0.9 m above the floor from
    x = 2 m to 14 m, and is in the scene of `crawl` only. The observation shows neither the task nor the place.

    ## Action space
    Torques on the joints of both legs. Actions outside are clipped.

    ## Observation space
    | Num | Observation | Unit |
    |---|---|---|
    | 0 | height of the torso | m |
    | 1 | pitch of the torso | rad |
    | 2-4 | angles of thigh, leg, foot | rad |
    | 5-7 | angles of left thigh, left leg, left foot | rad |
    | 8-9 | velocity of the torso, forward and up; within +-{MAX_SHOWN_RATE} | m/s |
    | 10-16 | rates of the angles 1-7; within +-{MAX_SHOWN_RATE} | rad/s |

    With `task_one_hot=True` the task (4) is appended.

    ## Rewards
    The sum of these terms, each in info as `reward_<term>`:

    | term | `forward` | `backward` | `balance` | `crawl` |
    |---|---|---|---|---|
    | `velocity` | W (V - abs(v - V)) | W (V - abs(-v - V)) | W (V - abs(v - V)) | W (V - abs(v - V)) |
    | weight W | {VELOCITY_WEIGHT[0]} | {VELOCITY_WEIGHT[1]} | {VELOCITY_WEIGHT[2]} | {VELOCITY_WEIGHT[3]} |
    | speed V (m/s) | {TARGET_SPEED[0]} | {TARGET_SPEED[1]} | {TARGET_SPEED[2]} | {TARGET_SPEED[3]} |
    | `angle` | {ANGLE_WEIGHT} cos(pitch) | the same | the same | the same |
    | `height` | -H abs({TARGET_STRETCH} - s) | the same | the same | the same |
    | weight H | {HEIGHT_WEIGHT[0]} | {HEIGHT_WEIGHT[1]} | {HEIGHT_WEIGHT[2]} | {HEIGHT_WEIGHT[3]} |
    | `control` | -{CONTROL_WEIGHT} sum of a^2 | the same | the same | the same |
    | `alive` | {ALIVE_REWARD} | the same | the same | the same |
    | `foot` | -{FOOT_WEIGHT[0]} f | -{FOOT_WEIGHT[1]} f | -{FOOT_WEIGHT[2]} f | -{FOOT_WEIGHT[3]} f |
    | `ceiling` | 0 | 0 | 0 | -{CEILING_COST[3]} at a contact |

    v is the velocity of the torso over the step (m/s), s its stretch: the height of the torso above the frame of
    the higher foot (m), f the sum of the speeds of both ankles over the step (rad/s). The frame of a foot is at its
    toe, 0.1 m below its axis. Info has `x_velocity` (v), `torso_height` and `stretch`.

    ## Starting state
    Upright (torso at 1.25 m, all angles 0), every position and velocity + U(-{START_NOISE}, {START_NOISE}). Then random
    actions, U(-1, 1), for {OPENING_STEPS[0]} steps, in `balance` {OPENING_STEPS[2]}, before the first observation. A
    start that is given by `reset(options=...)` is taken as it is, without random actions.

    ## Episode end
    Terminates when the torso is below {MIN_HEIGHT[0]} m (`crawl`: {MIN_HEIGHT[3]} m), when `crawl` touches the ceiling,
    and when the simulator fails. Truncates after 1000 steps of 0.008 s.

    ## Success
    `success` and `is_success`: still alive after 1000 steps. So no episode succeeds under a time limit
    (`max_episode_steps`) below 1000; under a higher one, all steps from the 1000th on do. Published results are
    returns.

    ## Arguments
    :param push_probability: probability of a push in each step but the first; one number, or one per task
    :param push_force: largest push on each axis, N and N m; `None`: the published {PUSH_FORCE}
    :param legacy_inertia: masses and inertias as MuJoCo 2.1.0 computed them: 22.70 kg, not 23.68 kg
    :param official_terminal: a success ends the episode as a terminal state

    A push is a force and a torque, each axis uniform within the limit, on one of the seven parts of the body or (with
    the same probability) on none; it lasts one step.

    ## Differences
    * From the paper: its text puts random forces on `balance`; the released code has them switched off, and so has
      this one. `push_probability=(0, 0, 0.1, 0)` is the text.
    * From the released code, when pushes are switched on: there a push on `balance` came with one more step, under
      a random action, that the reward did not see, and `crawl` had none.
    * From the released code: its episodes end in a terminal state at step 1000, a success that is not bootstrapped.
      Here they are truncated; `official_terminal=True` restores it.
    * From the released code: its info entry `x_velocity` is 3 - abs(v - 3) in `forward` and `crawl` and minus the
      velocity term in `backward`. Here it is v.
    * From the released code: MuJoCo 3.3 computes a capsule exactly; `legacy_inertia=True` gives the masses of the
      release that it ran on.
    * From the released code: its observation ends with the task, which it sets to zero for policies and critics, and
      is in float64.
    * When the simulator fails the episode ends; the released code went on.

    ## Version history
    * v0: model, rewards and ends of the released code, in MuJoCo 3.3.
    """

    name = "Walker2D"
    task_names = TASK_NAMES
    horizon = 1000
    min_reward = 0.0  # the released code's
    frame_skip = 4
    dt = 0.008
    step_in_threads = True
    slots_per_worker = 6  # of 75 us
    cameras = ("side", "behind")
    measure_meanings = {
        "x_velocity": "velocity of the torso over the step, m/s",
        "torso_height": "height of the torso, m",
        "stretch": "height of the torso above the higher foot, m",
    }
    relabel_columns = {"velocity": (), "pitch": (), "stretch": (), "foot_speed": (), "effort": (), "ceiling": ()}

    def __init__(
        self,
        push_probability: float | Sequence[float] = 0.0,
        push_force: float | Sequence[float] | None = None,
        legacy_inertia: bool = False,
        official_terminal: bool = False,
    ) -> None:
        self.official_terminal = official_terminal
        self.push_probability = _per_task("push_probability", push_probability, 0.0, 1.0)
        self.push_force = _per_task("push_force", PUSH_FORCE if push_force is None else push_force, 0.0, np.inf)
        self.noise_size = 2 + WRENCH if self.push_probability.any() else 0  # whether, where, what
        self.models = (walker_model(legacy_inertia), walker_model(legacy_inertia, obstacles=True))
        self.model_of_task = np.array([0, 0, 0, 1])
        self.action_space = spaces.Box(-1.0, 1.0, (NUM_MOTORS,), np.float32)
        limit = np.repeat([np.inf, MAX_SHOWN_RATE], [NUM_COORDINATES - 1, NUM_COORDINATES]).astype(np.float32)
        self.observation_space = spaces.Box(-limit, limit, dtype=np.float32)

    def views(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        parts = {name: data.body(name).xpos for name in ("torso", "foot", "foot_left")}
        return {"qpos": data.qpos, "qvel": data.qvel, "ceiling": np.zeros(1), **parts}

    def measuring(self, data: mujoco.MjData, views: Mapping[str, np.ndarray]) -> Callable[[], None] | None:
        """Whether the ceiling was touched in the last substep, as the published task reads it; most have none."""
        groups, touched = data.model.geom_group, views["ceiling"]
        if CEILING_GROUP not in groups:
            return None

        def measure() -> None:
            touched[0] = np.count_nonzero(groups[data.contact.geom] == CEILING_GROUP) > 0

        return measure

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1.0, 1.0, 2 * NUM_COORDINATES + OPENING_STEPS.max() * NUM_MOTORS)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        qpos, qvel, _ = np.split(START_NOISE * draws, [NUM_COORDINATES, 2 * NUM_COORDINATES], axis=1)
        return self.models[0].qpos0 + qpos, qvel

    def opening_controls(self, task_ids: np.ndarray, draws: np.ndarray) -> Sequence[np.ndarray]:
        actions = draws[:, 2 * NUM_COORDINATES :].reshape(len(draws), -1, NUM_MOTORS)
        return [rows[:steps] for rows, steps in zip(actions, OPENING_STEPS[task_ids], strict=True)]

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> WalkerMemory:
        return WalkerMemory(np.zeros(len(task_ids), np.int64))

    def control(
        self,
        actions: np.ndarray,
        physics: Physics,
        memory: WalkerMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> np.ndarray:
        if self.noise_size:
            assert isinstance(physics, MujocoPhysics)
            pushes = self._pushes(memory, task_ids, noise)
            for data, wrenches in zip(physics.data, pushes, strict=True):
                data.xfrc_applied[:] = wrenches
        return actions

    def _pushes(self, memory: WalkerMemory, task_ids: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Force and torque ``(slots, bodies, 6)`` on every body, N and N m; the world is one of them."""
        chance, place = 0.5 * (1.0 + noise[:, :2].T)  # uniform in [0, 1)
        pushed = (chance < self.push_probability[task_ids]) & (memory.steps > 0)
        num_bodies = self.models[0].nbody
        body = np.minimum((num_bodies * place).astype(np.int64), num_bodies - 1)  # rounding may reach 1
        pushes = np.zeros((len(noise), num_bodies, WRENCH))
        pushes[pushed, body[pushed]] = (self.push_force[task_ids, None] * noise[:, 2:])[pushed]
        return pushes

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: WalkerMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, WalkerMemory]:
        rates = (after.qpos - before.qpos) / self.dt
        ankles = np.abs(rates[:, FOOT_JOINTS])
        columns = {
            "velocity": rates[:, X],
            "pitch": after.qpos[:, PITCH].copy(),
            "stretch": after.torso[:, 2] - np.maximum(after.foot[:, 2], after.foot_left[:, 2]),
            "foot_speed": ankles[:, 0] + ankles[:, 1],
            "effort": np.square(actions).sum(axis=1),
            "ceiling": after.ceiling[:, 0].copy(),
        }
        height = after.qpos[:, HEIGHT].copy()
        terms = self._terms(columns, task_ids)
        steps = memory.steps + 1
        terminated = (height < MIN_HEIGHT[task_ids]) | (columns["ceiling"] > 0.0) | after.failed
        success = ~terminated & (steps >= self.horizon)
        outcome = Outcome(
            reward=_total(terms),
            terminated=terminated | success if self.official_terminal else terminated,
            success=success,
            is_success=success.copy(),
            stages_completed=None,
            terms=terms,
            columns=columns,
            measures={"x_velocity": columns["velocity"], "torso_height": height, "stretch": columns["stretch"]},
        )
        return outcome, WalkerMemory(steps)

    def _terms(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> dict[str, np.ndarray]:
        """The reward terms ``(batch,)`` that tasks give transitions with these columns."""
        target = TARGET_SPEED[task_ids]
        off_target = np.abs(DIRECTION[task_ids] * columns["velocity"] - target)
        return {
            "velocity": VELOCITY_WEIGHT[task_ids] * (target - off_target),
            "angle": ANGLE_WEIGHT * np.cos(columns["pitch"]),
            "height": -HEIGHT_WEIGHT[task_ids] * np.abs(TARGET_STRETCH - columns["stretch"]),
            "control": -CONTROL_WEIGHT * columns["effort"],
            "alive": np.full(len(task_ids), ALIVE_REWARD),
            "foot": -FOOT_WEIGHT[task_ids] * columns["foot_speed"],
            "ceiling": -CEILING_COST[task_ids] * columns["ceiling"],
        }

    def observe(self, state: State, memory: WalkerMemory, task_ids: np.ndarray) -> np.ndarray:
        rates = np.minimum(np.maximum(state.qvel, -MAX_SHOWN_RATE), MAX_SHOWN_RATE)
        return np.concatenate([state.qpos[:, HEIGHT:], rates], axis=1, dtype=np.float32, casting="same_kind")

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        """The reward of another task for the same motion; no other scene than that of "crawl" has a ceiling."""
        return _total(self._terms(columns, task_ids))


def _total(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    """The terms in the order of the released code, so that sums round alike."""
    order = ("velocity", "angle", "height", "control", "alive", "foot", "ceiling")
    return sum((terms[name] for name in order), start=np.zeros(()))


def _per_task(name: str, given: float | Sequence[float], low: float, high: float) -> np.ndarray:
    """One number per task from one number or one per task."""
    numbers = np.asarray(given, np.float64)
    if numbers.shape not in ((), (len(TASK_NAMES),)) or not ((low <= numbers) & (numbers <= high)).all():
        raise ValueError(
            f"{name} must be a number from {low:g} to {high:g}, or {len(TASK_NAMES)} of them "
            f"({', '.join(TASK_NAMES)}), got {given!r}."
        )
    return np.broadcast_to(numbers, len(TASK_NAMES)).copy()
