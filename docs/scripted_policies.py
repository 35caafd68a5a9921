"""Policies for the films of the documentation: simple controllers where one is known, random actions elsewhere.

A policy is made for an environment of one task, ``maker(env)``, and maps an observation to an action. They may look at
what no learner sees: the goal, the model, the simulator's state.
"""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np

from qmp_envs import TaskSetEnv
from qmp_envs.task_sets.maze_layouts import LAYOUTS, steps_from

Policy = Callable[[np.ndarray], np.ndarray]


def random(env: TaskSetEnv) -> Policy:
    """Uniform actions."""
    rng, space = np.random.default_rng(env.task_id), env.action_space
    return lambda observation: rng.uniform(space.low, space.high)


def straight_to_the_corner(env: TaskSetEnv) -> Policy:
    """Point2D: the largest step toward the goal."""
    from qmp_envs.task_sets.point import GOAL, SIDE

    return lambda observation: GOAL - (observation[:2] + 0.5) * SIDE


def along_the_cells(env: TaskSetEnv) -> Policy:
    """Maze: a spring and a damper to the middle of the next cell of a shortest route."""
    cells_off_center, stiffness, damping = 0.2, 3.0, 0.6
    task_set = env.task_set
    start, goal = (tuple(int(x) for x in ends[env.task_id]) for ends in (task_set.starts, task_set.goals))
    rows = LAYOUTS["large"]
    left = steps_from(rows, goal)
    route = [start]
    while route[-1] != goal:
        i, j = route[-1]
        around = [cell for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if cell in left]
        route.append(min(around, key=left.__getitem__))
    targets = [np.array(cell) - cells_off_center for cell in route[1:]]

    def act(observation: np.ndarray) -> np.ndarray:
        position, velocity = observation[:2], observation[2:4]
        while len(targets) > 1 and np.linalg.norm(targets[0] - position) < 0.25:
            targets.pop(0)
        return stiffness * (targets[0] - position) - damping * velocity

    return act


def pulled_to_the_subgoal(env: TaskSetEnv) -> Policy:
    """Reacher: the hand is pulled to the subgoal in force by a spring, gravity is balanced."""
    stiffness, damping = 600.0, 3.0  # N/m, N m s/rad
    model = env.task_set.models[0]
    data, jacobian = mujoco.MjData(model), np.zeros((3, model.nv))

    def act(observation: np.ndarray) -> np.ndarray:
        data.qpos[:], data.qvel[:] = observation[:6], 0.0
        mujoco.mj_forward(model, data)
        hand = data.body("hand")
        mujoco.mj_jacBody(model, data, jacobian, None, hand.id)
        pull = stiffness * (env._episodes.memory.goal[0] - hand.xpos)
        torque = jacobian.T @ pull + data.qfrc_bias - damping * observation[6:12]
        return torque / model.actuator_gear[:, 0]

    return act


def standing(env: TaskSetEnv) -> Policy:
    """Walker2D: every joint held near its start by a spring and a damper, swinging a little."""
    stiffness, damping, swing = 3.0, 0.1, 0.02 * np.array([1.0, -1.0, 0.5, -1.0, 1.0, -0.5])
    steps = 0

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal steps
        wanted = swing * np.sin(2.0 * np.pi * steps * env.task_set.dt)
        steps += 1
        return stiffness * (wanted - observation[2:8]) - damping * observation[11:17]

    return act


def galloping(env: TaskSetEnv) -> Policy:
    """HalfCheetah: one sine for each joint; the numbers are those of a random search, good for a film and no more."""
    frequency = 3.57  # Hz
    size = np.array([0.67, 0.78, 1.3, 0.57, 0.82, 1.04])
    phase = np.array([0.1, 0.41, 0.37, 0.58, 0.64, 0.58])  # in periods
    middle = np.array([-0.02, 0.22, 0.25, 0.41, -0.05, 0.07])
    steps = 0

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal steps
        periods = frequency * steps * env.task_set.dt + phase
        steps += 1
        return middle + size * np.sin(2.0 * np.pi * periods)

    return act


def meta_world_policy(name: str) -> Policy:
    """MT10, MT25, MT50: Meta-World's own policy of a task."""
    from metaworld import policies

    policy = policies.ENV_POLICY_MAP[f"{name}-v3"]()
    return lambda observation: policy.get_action(observation.astype(np.float64))  # a copy: some write into it


def meta_world_cds_policy(name: str) -> Policy:
    """Meta-World's own policies, which know one object, on the door or the drawer of the joint scene."""
    alone = meta_world_policy(name)

    def act(observation: np.ndarray) -> np.ndarray:
        present = observation[:18].copy()
        if name.startswith("door"):
            present[4:11] = present[11:18]
        return alone(np.concatenate([present, present, observation[18:21]]))

    return act


def meta_world(env: TaskSetEnv) -> Policy:
    """MT10, MT25, MT50: the task's policy."""
    return meta_world_policy(env.task_names[env.task_id])


def meta_world_cds(env: TaskSetEnv) -> Policy:
    """Meta-World CDS: the task's policy."""
    return meta_world_cds_policy(env.task_names[env.task_id])


MAKERS: dict[str, Callable[[TaskSetEnv], Policy]] = {
    "MultistageReacher": pulled_to_the_subgoal,
    "Walker2D": standing,
    "Maze": along_the_cells,
    "HalfCheetahGravity": galloping,
    "HalfCheetahBody": galloping,
    "Point2D": straight_to_the_corner,
    "MetaWorld": meta_world,
    "MetaWorldCDS": meta_world_cds,
}
"""Class of the task set -> maker; all others act at random."""


def start(env: TaskSetEnv) -> dict[str, np.ndarray]:
    """Options of reset: from a drawn start the walker falls after some seconds, so it gets the model's pose."""
    model = env.task_set.models[0] if MAKERS.get(type(env.task_set).__name__) is standing else None
    return {} if model is None else {"qpos": model.qpos0, "qvel": np.zeros(model.nv)}


def make(env: TaskSetEnv) -> Policy:
    """The policy for the environment's family, with actions inside the action space."""
    policy = MAKERS.get(type(env.task_set).__name__, random)(env)
    low, high = env.action_space.low, env.action_space.high
    return lambda observation: np.clip(policy(observation), low, high).astype(np.float32)
