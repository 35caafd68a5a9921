"""MT10, MT25 and MT50: Meta-World's multi-task benchmarks, over its own simulators."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import Physics, State
from qmp_envs.simulation.workers import in_workers
from qmp_envs.task_set import Outcome, TaskSet
from qmp_envs.task_sets import options
from qmp_envs.task_sets.metaworld.models import FRAME_SKIP, MEASURE_MEANINGS, OVERVIEW, scene_model
from qmp_envs.task_sets.metaworld.physics import MEASURES, SawyerPhysics
from qmp_envs.task_sets.metaworld.simulator import OBSERVATION, SawyerTask, scene_source
from qmp_envs.task_sets.metaworld.tasks import (
    BENCHMARKS,
    GOAL_HIGH,
    GOAL_LOW,
    GOALS,
    MT50,
    PLACES,
    RANDOM_VECTOR,
    far_enough,
    padded,
)

CANDIDATES = 64  # random vectors drawn per reset; in the worst task, box-close, every third is accepted
REWARD_VERSIONS = ("v2", "v1")

# Limits of the observation: hand (m), opening of the gripper, two objects, twice; then the goal (m).
HAND_LOW, HAND_HIGH = (-0.525, 0.348, -0.0525), (0.525, 1.025, 0.7)
OPENING_LOW, OPENING_HIGH = -1.0, 1.0
OBJECTS = 14


class MetaWorldMemory(NamedTuple):
    """What an episode remembers."""

    succeeded: np.ndarray  # (slots,) bool: success in some step so far


class MetaWorld(TaskSet):
    """
    ## Description
    A Sawyer arm at a table, and one object or mechanism to be reached, pushed, opened, pressed, or put somewhere.
    MT10 has 10 such tasks, MT25 has 25, MT50 all 50 of them, in the order of Meta-World 3. They share the arm, the
    action and the observation; every task has its own scene and reward. The goal is visible.

    Scenes, rewards and success conditions are those of the package `metaworld` 3.1.1 (`pip install
    "qmp-suite[metaworld]"`), which this project steps itself. Names are Meta-World's without the version: `reach` is
    its `reach-v3`. Its four `corner` cameras see everything upside down.

    ## Action space
    Actions outside are clipped.

    | Num | Action | Unit |
    |---|---|---|
    | 0-2 | shift of the point that pulls the hand, x, y, z | 0.01 m per step |
    | 3 | effort of both fingers: -1 opens, 1 closes | |

    The point stays inside x -0.5 to 0.5, y 0.4 to 1, z 0.05 to 0.5 m; in nine tasks outside MT10 it may go a little
    nearer or lower, or not quite as low.

    ## Observation space
    | Num | Observation | Unit |
    |---|---|---|
    | 0-2 | hand, x, y, z | m |
    | 3 | opening of the gripper, 0 closed to 1 open | |
    | 4-6 | first object, x, y, z | m |
    | 7-10 | first object, quaternion; 0 where the task shows none | |
    | 11-17 | second object, likewise; 0 where there is none, as in all of MT10 | |
    | 18-35 | elements 0 to 17 one step earlier; at a start the same as now | |
    | 36-38 | goal, x, y, z | m |

    Quaternions are x, y, z, w in some tasks and w, x, y, z in others, as Meta-World has them. With
    `task_one_hot=True` the task is appended.

    ## Rewards
    Meta-World's, between 0 and 10 in version "v2" (the default): every task adds terms for reaching its object,
    holding it, and bringing it to the goal, and gives 10 on success or very near to it. Version "v1" is the
    original of 2019, up to thousands. Info shows the scaled reward as the term `reward_task`, and Meta-World's own
    numbers `near_object`, `grasp_success`, `grasp_reward`, `in_place_reward`, `obj_to_target` (m) and
    `unscaled_reward` (before `reward_scale`).

    The formulas of MT10's tasks in version "v2" follow. Those of the other tasks, and of version "v1", are not written
    out here: they are the method `compute_reward` of the task's class in
    [Meta-World's source](https://github.com/Farama-Foundation/Metaworld/tree/v3.1.1/metaworld/envs).

    With T(x; b, m) falling from 1 at x <= b to 0.1 at x = b + m (long tail), G the same as a
    Gaussian, H(a, b) = ab / (a + b - ab), d the distance of object and goal and d0 that at the start (m):

    | task | reward per step | 10 instead if |
    |---|---|---|
    | `reach` | 10 T(hand to goal; 0.05, at the start) | |
    | `push` | 2 grasp, and near the open hand 1 + 2 grasp + 5 T(d; 0.05, d0) more | d < 0.05 |
    | `pick-place` | H(grasp, T(d; 0.05, d0)), lifted in the hand 1 + 5 T(d; 0.05, d0) more | d < 0.05 |
    | `door-open` | 2 H(hand behind the handle, grip) + 8 opened | success |
    | `drawer-open` | 5 hand around the handle + 5 T(d; 0.02, 0.2) | |
    | `drawer-close` | 10 H(H(G(hand to handle; 0.005, at the start), grip), T(d; 0.05, d0 - 0.05)) | success |
    | `button-press-topdown` | 5 H(1 - opening, T(hand to button; 0.01, at the start)), near it 5 pressed more | |
    | `peg-insert-side` | H(grasp, inserted), lifted in the hand 1 + 5 inserted more | d <= 0.07, across counted twice |
    | `window-open`, `window-close` | 10 H(T(hand to handle; 0.02, at the start), T(d in x; 0.05, d0 - 0.05)) | |

    ## Starting state
    An episode starts from a random vector: where the object is (x, y, z; m) and, in many tasks, where the goal is. It
    is uniform in the task's limits, and drawn again where object and goal would be too close to each other. Then the
    arm moves for 50 steps with the gripper open to its start, x 0, y 0.6 or 0.4, z 0.2 m (`door-close`: x -0.5).
    `reset(options={"random_vector": ...})` takes six numbers, the last three 0 in tasks that use three.

    ## Episode end
    Truncates after 500 steps of 0.0125 s; other limits, longer ones too, by `gym.make(..., max_episode_steps=200)`
    (published results use 500, 200 and 150). Terminates if the simulator fails (reward 0), and on success only with
    `terminate_on_success`.

    ## Success
    `success`: Meta-World's condition of the task holds in this step, e.g. the object is within 0.05 m (`push`) or
    0.07 m (`pick-place`) of the goal; it stands in the method `evaluate_state` of the task's class. `is_success`: it
    held in this or an earlier step of the episode, the published measure.

    ## Arguments
    :param benchmark: the set of tasks, `"MT10"`, `"MT25"` or `"MT50"`
    :param goals: `"rand"`: a new random vector at every reset; `"fixed-50"`, `"fixed-1"`: one of so many
    :param goal_seed: which fixed random vectors; a task has the same ones in MT10, MT25 and MT50
    :param reward_version: Meta-World's version of the rewards, `"v2"` or `"v1"`
    :param reward_scale: factor of the reward (published: 1, and 0.1 with 200 steps)
    :param terminate_on_success: end the episode at the first success

    ## Differences
    From the papers: none that they state. QMP used 500 steps and 50 fixed goals per task, CTPG 200 steps, random
    goals and rewards times 0.1. Both had Meta-World 2, whose MT50 has another order, and older versions of two
    rewards outside MT10 (`button-press-topdown-wall`, `handle-pull`).

    From Meta-World's own environments, whose steps these equal bit for bit under the same random vectors:

    * `reset(seed=...)` decides everything, every slot has its own random numbers, and the global ones are not used.
    * The limits of the goal in the observation space are right: one box for all tasks.
    * Observations are float32, and actions are rounded to float32 before they are used.
    * Fixed goals are drawn at every reset with equal chances; in the released code of QMP they go round in turn.
    * Version "v1" of `hand-insert`, `peg-insert-side` and `stick-push` reports successes wrongly in Meta-World, and
      so here.

    ## Version history
    * v0: rewards v2 (or v1) of Meta-World 3.1.1; physics of MuJoCo 3.3.0, which that release demands.
    """

    start_names = ("random_vector",)
    measure_meanings = MEASURE_MEANINGS
    horizon = 500
    min_reward = 0.0  # the released code's
    frame_skip = FRAME_SKIP
    slots_per_worker = 4  # 1 ms and more of work, for a process that needs 100 MB
    dt = 0.0125
    cameras = (OVERVIEW, "topview", "behindGripper", "gripperPOV", "corner", "corner2", "corner3", "corner4")

    def __init__(
        self,
        benchmark: str = "MT10",
        goals: str = "rand",
        goal_seed: int = 0,
        reward_version: str = "v2",
        reward_scale: float = 1.0,
        terminate_on_success: bool = False,
    ) -> None:
        options.choice("benchmark", benchmark, BENCHMARKS)
        options.choice("goals", goals, GOALS)
        options.choice("reward_version", reward_version, REWARD_VERSIONS)
        seed = options.seed("goal_seed", goal_seed)
        self.name = benchmark
        self.task_names = BENCHMARKS[benchmark]
        self.reward_scale = options.number("reward_scale", reward_scale, 0.0, above=True)
        self.terminate_on_success = terminate_on_success
        self.action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = _observation_space()

        # One row per task.
        places = [PLACES[name] for name in self.task_names]
        self._low = np.array([padded(place.low) for place in places])
        self._high = np.array([padded(place.high) for place in places])
        self._apart = np.array([place.apart for place in places])
        told = {"reward_function_version": reward_version}
        self.simulators = tuple(
            SawyerTask(name, f"metaworld.envs:Sawyer{place.simulator}EnvV3", options=told)
            for name, place in zip(self.task_names, places, strict=True)
        )
        sources = [scene_source(task) for task in self.simulators]
        self.scenes = tuple(dict.fromkeys(sources))
        self.model_of_task = np.array([self.scenes.index(source) for source in sources])
        count = GOALS[goals]
        self._fixed = None if count is None else self._draw_goals(count, seed)

    def _draw_goals(self, count: int, seed: int) -> np.ndarray:
        """``(tasks, count, 6)``: the random vectors of tasks that have a fixed number of them."""
        generators = dict(zip(MT50, np.random.SeedSequence(seed).spawn(len(MT50)), strict=True))
        vectors = []
        for task_id, name in enumerate(self.task_names):
            draws = np.random.default_rng(generators[name]).random((count, CANDIDATES, RANDOM_VECTOR))
            vectors.append(self._accepted(np.full(count, task_id), draws))
        return np.array(vectors)

    def _accepted(self, task_ids: np.ndarray, draws: np.ndarray) -> np.ndarray:
        """The first random vector ``(n, 6)`` that its task accepts, from draws ``(n, candidates, 6)`` in [0, 1).

        Should none be, which has a chance below 1e-9, the simulator refuses the first one.
        """
        low, high = self._low[task_ids, None], self._high[task_ids, None]
        vectors = low + draws * (high - low)
        accepted = far_enough(vectors, self._apart[task_ids, None])
        return vectors[np.arange(len(task_ids)), accepted.argmax(axis=1)]

    # ---- physics -------------------------------------------------------------------------------------------

    def make_physics(self, task_ids: np.ndarray, workers: int = 1) -> Physics:
        control_size = self.action_space.shape[0]
        return in_workers(partial(SawyerPhysics, self.simulators), task_ids, workers, self.task_names, control_size)

    # ---- start of an episode -------------------------------------------------------------------------------

    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        return generator.random(CANDIDATES * RANDOM_VECTOR)

    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, ...]:
        if self._fixed is not None:
            return (self._fixed[task_ids, (draws[:, 0] * self._fixed.shape[1]).astype(np.int64)],)
        return (self._accepted(task_ids, draws.reshape(-1, CANDIDATES, RANDOM_VECTOR)),)

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> MetaWorldMemory:
        return MetaWorldMemory(np.zeros(len(task_ids), bool))

    # ---- one step ------------------------------------------------------------------------------------------

    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: MetaWorldMemory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, MetaWorldMemory]:
        reward = self.reward_scale * after.reward
        success = (after.success > 0.0) & ~after.failed
        succeeded = memory.succeeded | success
        outcome = Outcome(
            reward=reward,
            terminated=after.failed | success if self.terminate_on_success else after.failed.copy(),
            success=success,
            is_success=succeeded,
            stages_completed=None,
            terms={"task": reward.copy()},
            columns={},
            measures=dict(zip(MEASURES, after.measures.T.copy(), strict=True)),
        )
        return outcome, MetaWorldMemory(succeeded)

    def observe(self, state: State, memory: MetaWorldMemory, task_ids: np.ndarray) -> np.ndarray:
        return state.observation.astype(np.float32)

    # ---- drawing -------------------------------------------------------------------------------------------

    def scene(self, index: int) -> mujoco.MjModel:
        return scene_model(self.scenes[index])

    def pose(self, data: mujoco.MjData, state: State, memory: MetaWorldMemory, task_id: int) -> None:
        model = data.model
        model.body_pos[:] = state.body_pos[: model.nbody]
        model.site_pos[:] = state.site_pos[: model.nsite]
        data.qpos[:] = state.qpos[: model.nq]
        data.mocap_pos[0] = state.mocap_pos


def _observation_space() -> spaces.Box:
    """One box for the observations of all tasks."""
    objects = np.full(OBJECTS, np.inf)
    low = [*HAND_LOW, OPENING_LOW, *-objects] * 2 + list(GOAL_LOW)
    high = [*HAND_HIGH, OPENING_HIGH, *objects] * 2 + list(GOAL_HIGH)
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32), (OBSERVATION,), np.float32)
