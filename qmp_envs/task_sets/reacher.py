"""Multistage Reacher: five tasks of a six-joint arm that has to touch three subgoals in order, or stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import State
from qmp_envs.task_set import Outcome, TaskSet, one_model
from qmp_envs.task_sets.assets import asset

STAGES = 3
STAY = 4  # task id
TOUCH_DISTANCE = 0.05  # m; the hand touches a subgoal below this
STEPS_PER_STAY_STAGE = 30  # successful steps that "stay" wants for each of its three stages

STAGE_COST = 0.4  # per step and unfinished stage, in tasks 0, 2 and 3
SUBGOAL_BONUS = 200.0  # task 1, for each subgoal
SHIFT = -2.0  # task 1, every step
ACTION_COST = 0.01  # times the summed square of the action
VELOCITY_COST = 1e-3  # times the mean absolute joint velocity, rad/s
ACCELERATION_COST = 1e-5  # times the mean absolute joint acceleration, rad/s^2
FAILURE_COST = 100.0  # once, when the simulator gives up
_VELOCITY_WEIGHTS = np.full(6, -VELOCITY_COST / 6)
_ACCELERATION_WEIGHTS = np.full(6, -ACCELERATION_COST / 6)

POSITION_NOISE = 0.01  # rad, uniform
VELOCITY_NOISE = 0.001  # rad/s, uniform


class Task(NamedTuple):
    """What the hand has to touch, and what it is rewarded with."""

    name: str
    subgoals: tuple[tuple[float, float, float], ...]  # (stages, xyz), m
    distance_cost: float = 1.0  # times the distance to the subgoal in force, m
    stage_cost: float = 0.0  # per step and unfinished stage
    bonus: float = 0.0  # for each subgoal
    shift: float = 0.0  # every step
    hits_per_stage: int = 1  # successful steps that complete a stage


_A, _B, _C, _D = (0.2, 0.3, 0.5), (0.3, 0.0, 0.3), (0.4, -0.3, 0.4), (0.4, 0.3, 0.2)
_HAND = (0.41, 0.11918941, 0.23942974)  # in its place, "stay" has the hand's position at each reset

TASKS = (
    Task("reach-0", (_A, _B, _C), stage_cost=STAGE_COST),
    Task("reach-1", (_A, _B, _D), bonus=SUBGOAL_BONUS, shift=SHIFT),
    Task("reach-2", (_B, _D, _C), stage_cost=STAGE_COST),
    Task("reach-3-sparse", (_B, _C, _A), stage_cost=STAGE_COST, distance_cost=0.0),
    Task("stay", (_HAND,) * STAGES, hits_per_stage=STEPS_PER_STAY_STAGE),
)
TASK_NAMES = tuple(task.name for task in TASKS)
SUBGOALS = np.array([task.subgoals for task in TASKS])  # (tasks, stages, xyz), m


class ReacherMemory(NamedTuple):
    """What an episode remembers."""

    hits: np.ndarray  # (slots,) int64: successful steps so far
    stage: np.ndarray  # (slots,) int64: stages completed, 0 to 3
    shown: np.ndarray  # (slots,) int64: the stage that the observation shows, one step late
    goal: np.ndarray  # (slots, 3): the subgoal in force, m
    subgoals: np.ndarray  # (slots, 3, 3): all subgoals of the episode, m
    stay_goal: np.ndarray  # (slots, 3): the goal that "stay" has, or would have, in this episode, m


class MultistageReacher(TaskSet):
    """
    ## Description
    A six-joint arm on a pedestal, without fingers. Tasks 0 to 3 ask it to touch three subgoals in order; the
    last task asks the hand to stay where it was at the reset. The five tasks differ in reward and subgoals
    only, and the observation shows neither: a policy has to be learned, or borrowed, for each task.

    ## Action space
    One motor for each joint. Actions outside are clipped.

    ## Observation space
    | Num | Observation | Unit |
    |---|---|---|
    | 0-5 | joint positions | rad |
    | 6-11 | joint velocities | rad/s |
    | 12-14 | stage, one-hot; the stage held before this step, so an advance shows one step later | |

    With `observe_hand=True` the hand's position (3, m) is appended, with `task_one_hot=True` the task (5).

    ## Rewards
    | task | subgoals (m) | reward per step |
    |---|---|---|
    | `reach-0` | {SUBGOALS[0]} | -distance - {STAGE_COST} ({STAGES} - stage) - control |
    | `reach-1` | {SUBGOALS[1]} | {SHIFT} - distance + {SUBGOAL_BONUS} per subgoal - control |
    | `reach-2` | {SUBGOALS[2]} | -distance - {STAGE_COST} ({STAGES} - stage) - control |
    | `reach-3-sparse` | {SUBGOALS[3]} | -{STAGE_COST} ({STAGES} - stage) - control |
    | `stay` | hand at the reset | -distance - control |

    `control` is {ACTION_COST} times the sum of a^2, plus {VELOCITY_COST} times the mean speed of the joints (rad/s),
    plus {ACCELERATION_COST} times their mean acceleration (rad/s^2). The distance (m) is to the subgoal in force
    during the step, the stage is the one after it. In info `distance`, `stage`, `control` and `shift` are these
    parts, and `failure` is -{FAILURE_COST} when the simulator fails.

    ## Starting state
    Joint angles (0, 0, 0, 0, -2.8, 0) + U(-{POSITION_NOISE}, {POSITION_NOISE}), velocities
    U(-{VELOCITY_NOISE}, {VELOCITY_NOISE}). Joint 5 starts outside
    its range of +-0.698 and is thrown back within the first steps, as in the published task.

    ## Episode end
    Terminates when all three stages are complete (`stay`: {STAGES} times {STEPS_PER_STAY_STAGE} steps near the goal),
    and when the simulator fails. Truncates after 200 steps of 0.04 s.

    ## Success
    `success`: the subgoal in force is touched in this step (distance below {TOUCH_DISTANCE} m).
    `is_success`: all stages done.

    ## Arguments
    :param observe_hand: append the hand's position to the observation
    :param paper_bonus: tasks 0 and 2 get this bonus per subgoal, as in the paper, not the stage cost
    :param paper_sparse: task 3 gets +1 per subgoal, as in the paper, not the stage cost
    :param official_eval_quirk: `stay` as the released code evaluates it: stage cost, three steps do
    :param stay_goal: a fixed goal (x, y, z; m) for `stay` instead of the hand at the reset

    ## Differences
    From the paper, which speaks of "Gym Reacher" as the base; the code has this arm:

    * `reach-0` and `reach-2` have a bonus per subgoal there, of unknown size (`paper_bonus=200` is the size known from
      `reach-1`), and +1 per subgoal in `reach-3-sparse` (`paper_sparse=True`).
    * It names noise of 0.01 on each coordinate of the start; the code has less on the velocities.

    From the released code:

    * It observes task and hand too, and hides both from policies and critics. Here they are left out.
    * Its evaluation of `stay` differs from its training: the goal is then wherever the training environment's hand is
      at the moment, and three steps near it end the episode. `official_eval_quirk=True` is that rule, with the hand at
      the reset, or `stay_goal`, as the goal.
    * The hand touches the floor with two capsules, not with a mesh: motions differ after the first touch.

    ## Version history
    * v0: rewards of the released code; physics of MuJoCo 3.3.
    """

    name = "MultistageReacher"
    task_names = TASK_NAMES
    horizon = 200
    num_stages = STAGES
    frame_skip = 4
    dt = 0.04
    step_in_threads = True
    slots_per_worker = 20  # of 17 us
    cameras = ("front", "side", "top")
    min_reward = -5.0  # the released code's
    relabel_columns = {"hand": (3,), "stay_goal": (3,), "stage": (), "control": (), "failed": ()}

    def __init__(
        self,
        observe_hand: bool = False,
        paper_bonus: float | None = None,
        paper_sparse: bool = False,
        official_eval_quirk: bool = False,
        stay_goal: Sequence[float] | None = None,
    ) -> None:
        self.stay_goal = None if stay_goal is None else np.array(stay_goal, np.float64)
        if self.stay_goal is not None and self.stay_goal.shape != (3,):
            raise ValueError(f"stay_goal must be a position (x, y, z) in m, got {stay_goal!r}.")
        self.observe_hand = observe_hand
        self.action_space = spaces.Box(-1.0, 1.0, (6,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (18 if observe_hand else 15,), np.float32)
        self.models, self.model_of_task = one_model(mujoco.MjModel.from_xml_path(asset("reacher.xml")), len(TASKS))
        self.subgoals = SUBGOALS.copy()

        tasks = list(TASKS)
        if paper_bonus is not None:
            tasks[0] = tasks[0]._replace(stage_cost=0.0, bonus=paper_bonus)
            tasks[2] = tasks[2]._replace(stage_cost=0.0, bonus=paper_bonus)
        if paper_sparse:
            tasks[3] = tasks[3]._replace(stage_cost=0.0, bonus=1.0)
        if official_eval_quirk:
            tasks[STAY] = tasks[STAY]._replace(stage_cost=STAGE_COST, hits_per_stage=1)

        # One number per task; 0 minus a cost, because minus 0 would be -0.0.
        self._distance_weight = 0.0 - np.array([task.distance_cost for task in tasks])
        self._bonus = np.array([task.bonus for task in tasks], np.float64)
        self._shift = np.array([task.shift for task in tasks])
        self._hits_per_stage = np.array([task.hits_per_stage for task in tasks])
        stage_cost = np.array([task.stage_cost for task in tasks])
        self._stage_reward = -stage_cost[:, None] * np.arange(STAGES, -1, -1)  # (tasks, stages completed)
        self._one_hot = np.eye(STAGES, dtype=np.float32)[[0, 1, 2, 2]]  # by stages completed

    def views(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        return {"qpos": data.qpos, "qvel": data.qvel, "qacc": data.qacc, "hand": data.body("hand").xpos}

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1.0, 1.0, 12)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.models[0].qpos0 + POSITION_NOISE * draws[:, :6], VELOCITY_NOISE * draws[:, 6:]

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> ReacherMemory:
        zeros = np.zeros(len(task_ids), np.int64)
        stay_goal = state.hand if self.stay_goal is None else np.tile(self.stay_goal, (len(task_ids), 1))
        subgoals = np.where((task_ids == STAY)[:, None, None], stay_goal[:, None], self.subgoals[task_ids])
        return ReacherMemory(zeros, zeros, zeros, subgoals[:, 0], subgoals, stay_goal)

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: ReacherMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, ReacherMemory]:
        distance = _length(after.hand - memory.goal)
        success = distance < TOUCH_DISTANCE
        hits, stage, goal = memory.hits, memory.stage, memory.goal
        if np.count_nonzero(success):
            hits = hits + success
            stage = np.minimum(hits // self._hits_per_stage[task_ids], STAGES)
            goal = memory.subgoals[np.arange(len(stage)), np.minimum(stage, STAGES - 1)]

        control = (
            np.vecdot(np.abs(after.qvel), _VELOCITY_WEIGHTS)
            + np.vecdot(np.abs(after.qacc), _ACCELERATION_WEIGHTS)
            - ACTION_COST * np.vecdot(actions, actions)
        )
        terms = self._terms(distance, success, stage, control, after.failed, task_ids)
        complete = stage == STAGES
        outcome = Outcome(
            reward=_total(terms),
            terminated=complete | after.failed,
            success=success,
            is_success=complete,
            stages_completed=stage.copy(),
            terms=terms,
            columns={"hand": after.hand.copy(), "stay_goal": memory.stay_goal, "stage": memory.stage}
            | {"control": control, "failed": after.failed.copy()},
        )
        shown = memory.stage
        return outcome, ReacherMemory(hits, stage, shown, goal, memory.subgoals, memory.stay_goal)

    def _terms(
        self,
        distance: np.ndarray,
        success: np.ndarray,
        stage: np.ndarray,
        control: np.ndarray,
        failed: np.ndarray,
        task_ids: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """The reward terms ``(batch,)``; ``stage`` is the one after the step."""
        stage_reward = self._stage_reward[task_ids, stage]
        if np.count_nonzero(success):
            stage_reward += self._bonus[task_ids] * success
        return {
            "distance": self._distance_weight[task_ids] * distance,
            "stage": stage_reward,
            "control": control,
            "shift": self._shift[task_ids],
            "failure": -FAILURE_COST * failed if np.count_nonzero(failed) else np.zeros(len(failed)),
        }

    def observe(self, state: State, memory: ReacherMemory, task_ids: np.ndarray) -> np.ndarray:
        observation = np.empty((len(task_ids), self.observation_space.shape[0]), np.float32)
        observation[:, :6] = state.qpos
        observation[:, 6:12] = state.qvel
        observation[:, 12:15] = self._one_hot[memory.shown]
        if self.observe_hand:
            observation[:, 15:] = state.hand
        return observation

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        """The reward as if the stored transition had happened at the same stage of another task.

        The goal of "stay" is the hand's position at the reset of the stored episode.
        """
        before = np.minimum(columns["stage"].astype(np.int64), STAGES - 1)
        stay = (task_ids == STAY)[:, None]
        goal = np.where(stay, columns["stay_goal"], self.subgoals[task_ids, before])
        distance = _length(columns["hand"] - goal)
        success = distance < TOUCH_DISTANCE
        stage = before + success
        return _total(self._terms(distance, success, stage, columns["control"], columns["failed"], task_ids))

    def pose(self, data: mujoco.MjData, state: State, memory: ReacherMemory, task_id: int) -> None:
        data.qpos[:] = state.qpos
        data.mocap_pos[0] = memory.goal


def _length(vectors: np.ndarray) -> np.ndarray:
    """Lengths ``(batch,)`` of vectors ``(batch, 3)``."""
    return np.sqrt(np.vecdot(vectors, vectors))


def _total(terms: Mapping[str, np.ndarray]) -> np.ndarray:
    """The terms in the order of the released code, so that sums round alike."""
    return terms["distance"] + terms["stage"] + terms["control"] + terms["shift"] + terms["failure"]
