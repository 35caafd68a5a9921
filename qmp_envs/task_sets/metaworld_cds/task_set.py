"""Meta-World CDS: a robot arm opens and closes a door and a drawer that stand in one scene."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import Physics, State
from qmp_envs.task_set import Outcome, TaskSet, one_model
from qmp_envs.task_sets import options
from qmp_envs.task_sets.metaworld.models import MEASURE_MEANINGS, OPEN_WIDTH
from qmp_envs.task_sets.metaworld.rotations import quaternions
from qmp_envs.task_sets.metaworld.tasks import GOALS
from qmp_envs.task_sets.metaworld_cds.physics import CdsPhysics, Start
from qmp_envs.task_sets.metaworld_cds.rewards import INFO, JUDGES, Judgment, Measured, Wanted
from qmp_envs.task_sets.metaworld_cds.scene import FRAME_SKIP, drawn_scene, settle, simulated_scene


class CdsTask(NamedTuple):
    """One row of the table of tasks; lengths in m, angles in rad."""

    object: str
    """"door" or "drawer": what the task is about, and what ``random_vector`` places."""
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    """Where it may stand."""
    hand_start: tuple[float, float, float]
    joint_start: float | None
    """Where the object's joint begins; None: where it came to rest, which is closed."""
    goal: tuple[float, float, float]
    """From the object's place to the goal of its handle."""


DOOR = ((-0.1, 0.85, 0.15), (0.0, 0.95, 0.15))
DRAWER = ((0.3, 0.9, 0.0), (0.4, 0.9, 0.0))
CENTER, LEFT = (0.0, 0.6, 0.2), (-0.6, 0.6, 0.2)
TASKS = {
    "door-open": CdsTask("door", *DOOR, CENTER, 0.0, (-0.3, -0.45, 0.0)),
    "door-close": CdsTask("door", *DOOR, LEFT, -1.5708, (0.2, -0.2, 0.0)),
    "drawer-open": CdsTask("drawer", *DRAWER, CENTER, None, (0.0, -0.36, 0.09)),
    "drawer-close": CdsTask("drawer", *DRAWER, CENTER, -0.15, (0.0, -0.16, 0.09)),
}
JOINT = {"door": "doorjoint", "drawer": "goal_slidey"}

STEP_LENGTH = 0.01  # m: how far an action of 1 moves the mocap body
MOCAP_LOW, MOCAP_HIGH = np.array([-0.5, 0.4, 0.05]), np.array([0.5, 1.0, 0.5])  # m
DRAWER_HANDLE = np.array([0.0, -0.16, 0.0])  # m from the drawer's center


class CdsMemory(NamedTuple):
    """What an episode remembers."""

    solved: np.ndarray  # (slots,) bool: success in some step so far


class MetaWorldCDS(TaskSet):
    """
    ## Description
    Meta-World's Sawyer arm before a door and a drawer. Four tasks share the scene: open the door, close it, open
    the drawer, close it. Both objects are always visible; only the goal (and the start) tells the task. The name is
    that of the paper on Conservative Data Sharing, which put these tasks into one scene.

    The scene is put together from the files of the installed `metaworld` package (`pip install
    "qmp-suite[metaworld]"`); of its Python code nothing runs. Of its cameras, the four `corner` ones see
    everything upside down.

    ## Action space
    Actions outside are clipped.

    | Num | Action | Range |
    |---|---|---|
    | 0-2 | displacement of the body that drags the hand, x, y, z | {STEP_LENGTH} m per step |
    | 3 | gripper, position control of both fingers | -1 opens, 1 closes |

    The dragging body stays inside {MOCAP_LOW} to {MOCAP_HIGH} m.

    ## Observation space
    | Num | Observation | Unit |
    |---|---|---|
    | 0-2 | hand | m |
    | 3 | opening of the gripper, 0 closed to 1 open | |
    | 4-6 | handle of the drawer | m |
    | 7-10 | rotation of the drawer, quaternion w x y z | |
    | 11-13 | handle of the door | m |
    | 14-17 | rotation of the door's handle, quaternion x y z w | |
    | 18-20 | goal of the task's handle | m |

    With `task_one_hot=True` the task (4) is appended.

    ## Rewards
    Meta-World's second version ("v2"), between 0 and {MAX_REWARD}. Every task adds or combines what the place of
    the hand and the place of the object earn:

    {REWARD_TABLE}

    * T and G fall from 1 at a distance up to the first number to 0.1 one margin (second number) beyond it, with a
      long tail or like a Gaussian. H(a, b) = ab / (a + b - ab).
    * goal, tips: from the object's handle, or the fingertips, to the goal; way: the object's part of it at the start.
    * reach: from the fingertips to the handle. cage: from the hand to the handle, x and y counted
      {CAGE_SCALE[0]} times.
    * behind: from the hand to a point behind the door's handle. above: the hand keeps high outside a funnel of
      {FUNNEL_RADIUS} m around the handle.
    * opened = {AJAR_SHARE} [angle below {AJAR:.4g}] + {WIDE_SHARE} T({WIDE_OPEN:.4g} + angle; {WIDE_WITHIN},
      {WIDE_MARGIN:.4g}), angles in rad.
    * margin: from the wanted start of the hand to the handle, plus {HAND_MARGIN} m.
    * grip: effort of the gripper, (a + 1) / 2 for the door, max(a, 0) for the drawer.

    Info shows the terms `hand`, `object` and `success` (what is missing to {MAX_REWARD}), the unscaled sum
    `unscaled_reward`, and Meta-World's `near_object`, `grasp_success`, `grasp_reward`, `in_place_reward` and
    `obj_to_target`.

    Another task's reward of a stored step can be computed: the goal is then where that task would want the handle,
    with door and drawer where they stand in that episode.

    ## Starting state
    The task's object stands at a random place between two limits, its joint where the table says. The other object
    is closed and stands at {DOOR_HOME} (door) or {DRAWER_HOME} (drawer). The hand has been drawn for {SETTLING_STEPS}
    steps to its start, with the gripper open. The goal of the handle is given from the object's place.

    {START_TABLE}

    `reset(options={"random_vector": ...})` gives the place (x, y, z; m) of the task's object.

    ## Episode end
    Truncates after 500 steps of 0.0125 s. Terminates when the simulator fails (reward 0), and with success if
    `terminate_on_success` is set.

    ## Success
    `success`: in this step the handle is near enough to its goal: `door-open` within {DOOR_OPEN_WITHIN} m in x,
    `door-close` {DOOR_CLOSE_WITHIN} m, `drawer-open` {DRAWER_OPEN_WITHIN} m, `drawer-close` {DRAWER_CLOSE_WITHIN} m.
    `is_success`: it was, in some step so far.

    ## Arguments
    :param goals: places: `"rand"` (new at every reset), or one of a few: `"fixed-50"`, `"fixed-1"`
    :param goal_seed: chooses the fixed places
    :param reward_scale: factor of the reward and its terms
    :param terminate_on_success: end the episode with success

    Another horizon: `gym.make(..., max_episode_steps=200)`.

    ## Differences
    From the paper: none that it states.

    From the official code (clvrai/qmp, over the Meta-World of 2021):

    * Meta-World 3 has other constants of the weld between hand and mocap body, and observes positions of the
      present moment, not of one physics step before. Rewards and success are the same functions of the observation.
    * The object's place is new at every reset. There 50 places per task are drawn once and go round in turn; here
      `goals="fixed-50"` takes one of them at every reset, with equal chances.
    * Observations are float32 and never clipped. The official bounds of `door-close` would change its goal.

    From Meta-World's own tasks: in `drawer-close` the handle's height and rotation are the real ones (there 0.05 m
    are added and the rotation is zero), so success needs the drawer less far in. In `door-close` the hand starts
    outside of its limits, and the first step moves the body that drags it to x = -0.5, as in the official code. As
    there, `drawer-open`'s first observation is one physics step (2.5 ms) old, and `obj_to_target` of `door-open` is 0.

    ## Version history
    * v0: rewards v2 of Meta-World 3.1.1; physics of MuJoCo 3.3.
    """

    name = "MetaWorldCDS"
    task_names = tuple(TASKS)
    horizon = 500
    frame_skip = FRAME_SKIP
    step_in_threads = True
    slots_per_worker = 5  # of 90 us
    dt = 0.0125
    cameras = ("overview", "topview", "behindGripper", "gripperPOV", "corner", "corner2", "corner3", "corner4")
    start_names = ("random_vector",)
    min_reward = 0.0  # the released code's
    constant_modules = ("qmp_envs.task_sets.metaworld_cds.rewards", "qmp_envs.task_sets.metaworld_cds.scene")
    measure_meanings = MEASURE_MEANINGS
    relabel_columns = {
        "hand": (3,),
        "fingertips": (3,),
        "opening": (),
        "drawer": (3,),
        "door": (3,),
        "door_angle": (),
        "drawer_place": (3,),
        "door_place": (3,),
        "effort": (),
    }

    def __init__(
        self,
        goals: str = "rand",
        goal_seed: int = 0,
        reward_scale: float = 1.0,
        terminate_on_success: bool = False,
    ) -> None:
        options.choice("goals", goals, GOALS)
        seed = options.seed("goal_seed", goal_seed)
        self.reward_scale = options.number("reward_scale", reward_scale, 0.0, above=True)
        self.terminate_on_success = terminate_on_success
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (21,), np.float32)
        model = simulated_scene()
        self.models, self.model_of_task = one_model(model, len(TASKS))

        # One row per task.
        table = TASKS.values()
        self._low = np.array([task.low for task in table])
        self._high = np.array([task.high for task in table])
        self._goal = np.array([task.goal for task in table])
        self._hand_start = np.array([task.hand_start for task in table])
        self._about_door = np.array([task.object == "door" for task in table])
        settled = {hand: settle(model, np.array(hand)) for hand in {task.hand_start for task in table}}
        self._fingertips_start = np.array([settled[task.hand_start].fingertips for task in table])
        self._starts = [
            Start(
                task=name,
                body=task.object,
                low=np.array(task.low),
                high=np.array(task.high),
                joint=JOINT[task.object],
                position=task.joint_start,
                stop=task.object == "door",
                arm=settled[task.hand_start],
            )
            for name, task in TASKS.items()
        ]
        self._door_angle = model.joint(JOINT["door"]).qposadr.item()

        count = GOALS[goals]
        self._fixed: np.ndarray | None = None  # (tasks, count, 3) m
        if count is not None:
            draws = [np.random.default_rng([seed, i]).random((count, 3)) for i in range(len(TASKS))]
            self._fixed = self._low[:, None] + np.array(draws) * (self._high - self._low)[:, None]

    # ---- physics -------------------------------------------------------------------------------------------

    def make_physics(self, task_ids: np.ndarray, workers: int = 1) -> Physics:
        return CdsPhysics(self.models[0], self._starts, self.views, task_ids, threads=workers)

    def views(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        return {
            "qpos": data.qpos,
            "qvel": data.qvel,
            "mocap": data.mocap_pos[0],
            "hand": data.body("hand").xpos,
            "right_tip": data.site("rightEndEffector").xpos,
            "left_tip": data.site("leftEndEffector").xpos,
            "right_claw": data.body("rightclaw").xpos,
            "left_claw": data.body("leftclaw").xpos,
            "drawer": data.body("drawer_link").xpos,
            "drawer_rotation": data.body("drawer_link").xquat,
            "door": data.geom("handle").xpos,
            "door_rotation": data.geom("handle").xmat,
            "drawer_place": data.model.body("drawer").pos,
            "door_place": data.model.body("door").pos,
        }

    # ---- start of an episode -------------------------------------------------------------------------------

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return generator.random(3)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, ...]:
        if self._fixed is None:
            low, high = self._low[task_ids], self._high[task_ids]
            return (low + draws * (high - low),)
        chosen = (draws[:, 0] * self._fixed.shape[1]).astype(np.int64)
        return (self._fixed[task_ids, chosen],)

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> CdsMemory:
        return CdsMemory(np.zeros(len(task_ids), bool))

    # ---- one step ------------------------------------------------------------------------------------------

    def control(
        self,
        actions: np.ndarray,
        physics: Physics,
        memory: CdsMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> np.ndarray:
        target = np.clip(physics.state.mocap + STEP_LENGTH * actions[:, :3], MOCAP_LOW, MOCAP_HIGH)
        return np.concatenate([target, actions[:, 3:], -actions[:, 3:]], axis=1)

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: CdsMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, CdsMemory]:
        measured = self._measured(after, actions)
        said = self._judge(measured, task_ids)
        failed = after.failed
        success = said.success & ~failed
        solved = memory.solved | success
        scale = np.where(failed, 0.0, self.reward_scale)
        outcome = Outcome(
            reward=scale * said.reward,
            terminated=failed | success if self.terminate_on_success else failed.copy(),
            success=success,
            is_success=solved,
            stages_completed=None,
            terms={
                "hand": scale * said.hand,
                "object": scale * said.object,
                "success": scale * (said.reward - said.hand - said.object),
            },
            columns=measured._asdict(),
            measures={"unscaled_reward": said.reward} | {name: getattr(said, name) for name in INFO},
        )
        return outcome, CdsMemory(solved)

    def _measured(self, state: State, actions: np.ndarray) -> Measured:
        return Measured(
            hand=state.hand.copy(),
            fingertips=(state.right_tip + state.left_tip) / 2.0,
            opening=_opening(state),
            drawer=state.drawer + DRAWER_HANDLE,
            door=state.door.copy(),
            door_angle=state.qpos[:, self._door_angle].copy(),
            drawer_place=state.drawer_place.copy(),
            door_place=state.door_place.copy(),
            effort=actions[:, 3].copy(),
        )

    def _judge(self, measured: Measured, task_ids: np.ndarray) -> Judgment:
        """What the tasks say about steps; the rows of one task are judged together."""
        wanted = Wanted(
            goal=self._goals(measured.drawer_place, measured.door_place, task_ids),
            hand_start=self._hand_start[task_ids],
            fingertips_start=self._fingertips_start[task_ids],
        )
        tasks = set(task_ids.tolist())
        if len(tasks) == 1:
            return JUDGES[self.task_names[tasks.pop()]](measured, wanted)
        parts = []
        for task_id in tasks:
            rows = np.flatnonzero(task_ids == task_id)
            parts.append((rows, JUDGES[self.task_names[task_id]](_rows(measured, rows), _rows(wanted, rows))))
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return Judgment(*(np.concatenate(arrays)[order] for arrays in zip(*(said for _, said in parts), strict=True)))

    def _goals(self, drawer_place: np.ndarray, door_place: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        """Goals ``(batch, 3)`` of the handle, m."""
        place = np.where(self._about_door[task_ids][:, None], door_place, drawer_place)
        return place + self._goal[task_ids]

    def observe(self, state: State, memory: CdsMemory, task_ids: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [
                state.hand,
                _opening(state)[:, None],
                state.drawer + DRAWER_HANDLE,
                state.drawer_rotation,
                state.door,
                quaternions(state.door_rotation),
                self._goals(state.drawer_place, state.door_place, task_ids),
            ],
            axis=1,
            dtype=np.float32,
            casting="same_kind",
        )

    # ---- relabeling ----------------------------------------------------------------------------------------

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        """The reward that tasks give stored steps, with door and drawer where they stood in that episode."""
        measured = Measured(**{name: columns[name] for name in self.relabel_columns})
        return self.reward_scale * self._judge(measured, task_ids).reward

    # ---- drawing -------------------------------------------------------------------------------------------

    def scene(self, index: int) -> mujoco.MjModel:
        return drawn_scene()

    def pose(self, data: mujoco.MjData, state: State, memory: CdsMemory, task_id: int) -> None:
        data.qpos[:] = state.qpos
        data.mocap_pos[0] = state.mocap
        model = data.model
        model.body("drawer").pos, model.body("door").pos = state.drawer_place, state.door_place
        goal = self._goals(state.drawer_place[None], state.door_place[None], np.array([task_id]))
        model.site("goal").pos = goal[0]


def _opening(state: State) -> np.ndarray:
    """Opening of the gripper ``(slots,)``, 0 to 1."""
    between = state.right_claw - state.left_claw
    return np.clip(np.sqrt(np.vecdot(between, between)) / OPEN_WIDTH, 0.0, 1.0)


def _rows(arrays: Any, rows: np.ndarray) -> Any:
    """The same named tuple of some rows only."""
    return type(arrays)(*[array[rows] for array in arrays])
