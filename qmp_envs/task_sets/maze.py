"""Maze: a ball that is pushed through a maze, one route per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import MujocoPhysics, Physics, State
from qmp_envs.task_set import Memory, Outcome, TaskSet, one_model
from qmp_envs.task_sets.assets import asset
from qmp_envs.task_sets.maze_layouts import LARGE_ROUTES, LAYOUTS, Route, check_routes, long_routes, rows_of

ORIGIN = 1.2  # m; world coordinate of position 0, so cell (i, j) is centered at position (i - 0.2, j - 0.2)
GOAL_RADIUS = 0.5  # m; success at or below this distance
MAX_SPEED = 5.0  # m/s per axis, enforced before every step
POSITION_NOISE = 0.1  # m, uniform
VELOCITY_NOISE = 0.1  # m/s, normal
LEGACY_INVERSE_WEIGHT = 0.15915494309189535  # 1/kg, of the ball, as MuJoCo before 3.0 computed it


class Maze(TaskSet):
    """
    ## Description
    A ball of 4.19 kg is pushed through a maze seen from above, from a start to a goal; each task is one
    route. The observation does not show the goal.

    ## Action space
    Forces along the two axes. Actions outside are clipped.

    ## Observation space
    | Num | Observation | Unit |
    |---|---|---|
    | 0-1 | position, row and column | m |
    | 2-3 | velocity along the rows and columns | m/s |

    With `task_one_hot=True` the task is appended.

    ## Rewards
    exp(-d) - 1 with d the distance to the goal after the step (info term `distance`); with `sparse=True` 1
    at the goal and 0 elsewhere (info term `goal`).

    ## Starting state
    The route's start + U(-{POSITION_NOISE}, {POSITION_NOISE}) on both axes; velocity {VELOCITY_NOISE} N(0, 1).
    Start and goal of the published routes (row, column):

    | task | start, goal | task | start, goal |
    |---|---|---|---|
    | `route-0` | {LARGE_ROUTES[0]} | `route-5` | {LARGE_ROUTES[5]} |
    | `route-1` | {LARGE_ROUTES[1]} | `route-6` | {LARGE_ROUTES[6]} |
    | `route-2` | {LARGE_ROUTES[2]} | `route-7` | {LARGE_ROUTES[7]} |
    | `route-3` | {LARGE_ROUTES[3]} | `route-8` | {LARGE_ROUTES[8]} |
    | `route-4` | {LARGE_ROUTES[4]} | `route-9` | {LARGE_ROUTES[9]} |

    ## Episode end
    Terminates at the goal (d at most {GOAL_RADIUS}). Truncates after 600 steps of 0.01 s.

    ## Success
    `success` and `is_success`: at the goal.

    ## Arguments
    :param layout: `"large"`, `"medium"`, `"umaze"`, or rows of `"#"` (wall) and `"."` (free)
    :param num_tasks: how many routes: of the published ten (large maze), else long ones of the maze
    :param routes: own routes, `((start, goal), ...)`, each a (row, column), instead
    :param sparse: the sparse reward
    :param legacy_wall_contact: wall contact as stiff as in MuJoCo before 3.0

    ## Differences
    From the paper: it calls the action a velocity and the maze 8 x 11; in the code it is a force, and the maze is
    d4rl's large one, 7 x 10 inside its border.

    From the released code: its observation ends with the task, which it hides from policies and critics; here it is
    left out. Wall contact is a little softer, as MuJoCo 3 computes the ball's weight at contacts anew;
    `legacy_wall_contact=True` undoes that.

    From gymnasium-robotics' `PointMaze`, which has the same maze and ball: other noise at the start, fixed goals, a
    goal radius of {GOAL_RADIUS} m, a reward below 0, and starts and goals 0.2 m off the cells' centers.

    ## Version history
    * v0: physics, routes and reward of the released code, in MuJoCo 3.3.
    """

    name = "Maze"
    horizon = 600
    dt = 0.01
    cameras = ("top", "tilted")
    min_reward = -1.0
    relabel_columns: Mapping[str, tuple[int, ...]] = {"position": (2,)}

    def __init__(
        self,
        layout: str | Sequence[str] = "large",
        num_tasks: int = 10,
        routes: Sequence[Route] | None = None,
        sparse: bool = False,
        legacy_wall_contact: bool = False,
    ) -> None:
        self.sparse = sparse
        rows = rows_of(layout)
        if routes is None:
            if num_tasks < 1:
                raise ValueError(f"num_tasks must be at least 1, got {num_tasks}.")
            published = rows == LAYOUTS["large"] and num_tasks <= len(LARGE_ROUTES)
            routes = LARGE_ROUTES[:num_tasks] if published else long_routes(rows, num_tasks)
        check_routes(rows, routes)
        self.task_names = tuple(f"route-{i}" for i in range(len(routes)))
        self.starts = np.array([start for start, _ in routes], np.float64)  # (tasks, 2), m
        self.goals = np.array([goal for _, goal in routes], np.float64)  # (tasks, 2), m
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        model = _model(rows)
        if legacy_wall_contact:
            model.body_invweight0[model.body("ball").id, 0] = LEGACY_INVERSE_WEIGHT
        self.models, self.model_of_task = one_model(model, len(routes))

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return np.concatenate([generator.uniform(-1.0, 1.0, 2), generator.standard_normal(2)])

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.starts[task_ids] + POSITION_NOISE * draws[:, :2], VELOCITY_NOISE * draws[:, 2:]

    def control(
        self, actions: np.ndarray, physics: Physics, memory: Memory, task_ids: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        # The released code sets the clipped velocity in every step, clipped or not. That restarts the contact
        # solver from the present state, which matters in the eighth digit after a wall was hit.
        assert isinstance(physics, MujocoPhysics)
        physics.set_velocity(np.minimum(np.maximum(physics.state.qvel, -MAX_SPEED), MAX_SPEED))
        return actions

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: Memory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, Memory]:
        columns = {"position": after.qpos.copy()}
        success = self._distance(after.qpos, task_ids) <= GOAL_RADIUS
        reward = self.reward(columns, task_ids)
        term = {"goal" if self.sparse else "distance": reward}
        return Outcome(reward, success, success, success, None, term, columns), memory

    def observe(self, state: State, memory: Memory, task_ids: np.ndarray) -> np.ndarray:
        return np.concatenate([state.qpos, state.qvel], axis=1, dtype=np.float32, casting="same_kind")

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        distance = self._distance(columns["position"], task_ids)
        return (distance <= GOAL_RADIUS).astype(np.float64) if self.sparse else np.exp(-distance) - 1.0

    def pose(self, data: mujoco.MjData, state: State, memory: Memory, task_id: int) -> None:
        data.qpos[:] = state.qpos
        data.mocap_pos[0, :2] = self.goals[task_id] + ORIGIN

    def _distance(self, positions: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        """Distance ``(batch,)`` of positions ``(batch, 2)`` to the goals of their tasks, m."""
        return np.sqrt(np.square(positions - self.goals[task_ids]).sum(1))


def _model(rows: Sequence[str]) -> mujoco.MjModel:
    """The maze's model: the ball and the floor of the asset, and one box per wall cell."""
    spec = mujoco.MjSpec.from_file(asset("maze.xml"))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            if cell == "#":
                name = f"wall_{i}_{j}"
                spec.worldbody.add_geom(spec.find_default("wall"), name=name, pos=[i + 1.0, j + 1.0, 0.0])
    height, width = len(rows), len(rows[0])
    center = [(height + 1) / 2, (width + 1) / 2, 0.0]
    spec.geom("floor").pos = [*center[:2], -0.1]
    spec.geom("floor").size = [height / 2, width / 2, 0.25]
    distance = 0.5 * max(height, width) / np.tan(np.radians(22.5)) + 1.0
    spec.camera("top").pos = [*center[:2], distance]
    spec.camera("tilted").pos = [center[0] + 0.8 * distance, center[1], 0.8 * distance]
    return spec.compile()
