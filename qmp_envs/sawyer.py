"""Meta-World's simulators behind the interface of :class:`qmp_envs.physics.Physics`.

Meta-World's task classes are the only place where its scenes, rewards and success conditions are written. They
are held inside here and never shown: a slot has one of them, and what it says about a step becomes numbers in
:class:`qmp_envs.physics.State`. Here, and not there, the simulation is advanced and reset: without global random
numbers, without the limit of 500 steps, with one settling of the arm per reset instead of two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import mujoco
import numpy as np
from gymnasium.error import ResetNeeded

from qmp_envs.metaworld_tasks import RANDOM_VECTOR
from qmp_envs.physics import State
from qmp_envs.sawyer_models import physics_model
from qmp_envs.sawyer_speed import quick_methods

FRAME_SKIP = 5  # physics steps of 2.5 ms per environment step
OBSERVATION = 39  # hand, opening, two objects (18), the same one step earlier (18), goal (3)
FRAME = 18  # the part of the observation that describes one moment
MEASURES = ("near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target", "unscaled_reward")
"""The numbers that every task says about a step besides reward and success."""
MODEL_LIMITS = {"nq": 18, "nv": 17, "nbody": 40, "nsite": 16}
"""The largest scene that a slot has room for; Meta-World's 50 tasks need 18, 17, 39 and 16."""
TOLERANCE = 1e-9  # m; how far a given start may be outside the reset space through rounding
MOCAP_QUATERNION = (1.0, 0.0, 1.0, 0.0)  # the hand points down
OPEN_WIDTH = 0.1  # m between the claws of the open gripper
_BROKEN = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


@dataclass(frozen=True)
class SawyerTask:
    """One task, as data that a worker process can rebuild it from."""

    name: str
    simulator: str
    """``"module:class"`` of Meta-World's task class, or of one derived from it."""
    scene: str | None = None
    """Path of the scene's MJCF file, or the MJCF itself; None: the file that the class names."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class, e.g. ``reward_function_version``."""


def simulator_class(task: SawyerTask) -> type:
    """Meta-World's class of a task; one clear error where the package is missing."""
    module, _, name = task.simulator.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "metaworld":
            raise
        raise ModuleNotFoundError(
            "The Meta-World task sets need the package metaworld: pip install 'qmp-suite[metaworld]'.",
            name="metaworld",
        ) from error


def scene_source(task: SawyerTask) -> str:
    """The MJCF file of a task, or the MJCF itself."""
    if task.scene is not None:
        return task.scene
    upstream = simulator_class(task)
    return vars(upstream)["model_name"].fget(object.__new__(upstream))


@cache
def embedded(upstream: type) -> type:
    """A class that advances and resets Meta-World's ``upstream`` in our way; nobody else gets to see it."""

    class Embedded(upstream):
        def __init__(self, model: mujoco.MjModel, **options: Any) -> None:
            self._given_model = model
            self._settles = True
            self._bodies: dict[str, np.ndarray] = {}  # live views of positions, by name
            self._sites: dict[str, np.ndarray] = {}
            self.started = False
            super().__init__(**options)
            self._pads = [self.model.geom(name).id for name in ("leftpad_geom", "rightpad_geom")]
            self._mocap = self.data.mocap_pos[0]
            self._broken = self.data.warning.number[_BROKEN]
            self.mujoco_renderer = None  # drawing is not its business
            self._set_task_called = True
            self._freeze_rand_vec = True
            self._partially_observable = False
            self.__dict__.pop("sawyer_observation_space", None)  # cached while the goal was still hidden
            space = self.sawyer_observation_space
            self._low, self._high = space.low, space.high

        def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
            return self._given_model, mujoco.MjData(self._given_model)

        def start(self, random_vector: np.ndarray) -> np.ndarray:
            """Begin an episode; returns the first observation ``(39,)``.

            The arm settles among bodies that are already in place: a first pass without settling moves them.
            """
            self._last_rand_vec = random_vector
            self.started = False
            for self._settles in (False, True):
                mujoco.mj_resetData(self.model, self.data)
                if not self._settles:
                    mujoco.mj_forward(self.model, self.data)
                self._vector_used = 0
                observation = self.reset_model()
            self.started = True
            self._prev_obs = observation[:FRAME].copy()
            observation[FRAME : 2 * FRAME] = self._prev_obs
            return observation

        def advance(self, action: np.ndarray) -> tuple[np.ndarray, float, dict[str, Any]]:
            """One step with an action ``(4,)`` float32: observation ``(39,)``, reward, what else is told."""
            if not self.started:
                raise ResetNeeded("The start given to the latest reset() was refused: reset() with another one.")
            model, data, hand = self.model, self.data, self._mocap
            hand += action[:3] * self.action_scale
            np.minimum(np.maximum(hand, self.mocap_low, out=hand), self.mocap_high, out=hand)
            data.mocap_quat[0] = MOCAP_QUATERNION
            data.ctrl[:] = action[3], -action[3]
            mujoco.mj_step(model, data, FRAME_SKIP)
            mujoco.mj_forward(model, data)
            observation = self._get_obs()
            np.minimum(np.maximum(observation, self._low, out=observation), self._high, out=observation)
            reward, told = self.evaluate_state(observation, action)
            return observation, reward, told

        def saved(self) -> dict[str, Any]:
            """What, beyond the random vector, makes the running episode what it is."""
            full = mujoco.mjtState.mjSTATE_INTEGRATION
            integration = np.empty(mujoco.mj_stateSize(self.model, full))
            mujoco.mj_getState(self.model, self.data, integration, full)
            return {"integration": integration, "remembered": _plain(vars(self))}

        def restore(self, random_vector: np.ndarray, saved: Mapping[str, Any]) -> None:
            """Continue an episode that was ``saved``: begin it again, then put everything where it was."""
            self.start(random_vector)
            self.__dict__.update(saved["remembered"])
            mujoco.mj_setState(self.model, self.data, saved["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)

        def failed(self) -> bool:
            """Whether MuJoCo gave up in the latest step (it has reset itself then)."""
            failed = bool(self._broken.any())
            self._broken[:] = 0
            return failed

        def do_simulation(self, ctrl: Sequence[float], n_frames: int) -> None:
            if self._settles:
                self.data.ctrl[:] = ctrl
                mujoco.mj_step(self.model, self.data, n_frames)

        def _get_state_rand_vec(self) -> np.ndarray:
            # Tasks that dislike a start ask again until they get another one.
            if self._vector_used == 2:
                raise ValueError(
                    f"random_vector {self._last_rand_vec.tolist()} is refused by Meta-World's "
                    f"{upstream.__name__}: object and goal are too close to each other."
                )
            self._vector_used += 1
            return self._last_rand_vec

        # From here on: what the base class says too, in less time.

        def get_body_com(self, body_name: str) -> np.ndarray:
            if body_name not in self._bodies:
                self._bodies[body_name] = self.data.body(body_name).xpos
            return self._bodies[body_name]

        def get_endeff_pos(self) -> np.ndarray:
            return self.get_body_com("hand")

        def _site(self, name: str) -> np.ndarray:
            if name not in self._sites:
                self._sites[name] = self.data.site(name).xpos
            return self._sites[name]

        def _get_site_pos(self, site_name: str) -> np.ndarray:
            return self._site(site_name).copy()

        @property
        def tcp_center(self) -> np.ndarray:
            return (self._site("rightEndEffector") + self._site("leftEndEffector")) / 2.0

        def touching_object(self, object_geom_id: int) -> bool:
            pairs, first_rows = self.data.contact.geom, self.data.contact.efc_address
            with_object = (pairs == object_geom_id).any(axis=1)
            if not with_object.any():
                return False
            touching = (pairs[:, :, None] == self._pads).any(axis=1) & with_object[:, None]  # (contacts, pads)
            return all(sum(self.data.efc_force[first_rows[pad]]) > 0 for pad in touching.T)

        def _get_curr_obs_combined_no_goal(self) -> np.ndarray:
            frame = np.zeros(FRAME)
            frame[:3] = self.get_endeff_pos()
            between = self.get_body_com("rightclaw") - self.get_body_com("leftclaw")
            frame[3] = min(max(math.sqrt(between.dot(between)) / OPEN_WIDTH, 0.0), 1.0)
            positions, rotations = self._get_pos_objects(), self._get_quat_objects()
            for i in range(len(positions) // 3):
                own = frame[4 + 7 * i :]
                own[:3] = positions[3 * i : 3 * i + 3]
                own[3:7] = rotations[4 * i : 4 * i + 4]
            return frame

        def _get_obs(self) -> np.ndarray:
            frame = self._get_curr_obs_combined_no_goal()
            observation = np.concatenate((frame, self._prev_obs, self._get_pos_goal()))
            self._prev_obs = frame
            return observation

    for name, method in quick_methods(upstream).items():
        if name not in vars(Embedded):
            setattr(Embedded, name, method)
    return Embedded


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those attributes that are numbers, texts and arrays of their own; arrays inside MuJoCo's data are live views."""
    plain: dict[str, Any] = {}
    for name, value in attributes.items():
        if isinstance(value, np.ndarray):
            memory = value
            while isinstance(memory.base, np.ndarray):
                memory = memory.base
            if memory.base is None:
                plain[name] = value.copy()
        elif isinstance(value, (bool, int, float, str, np.generic)) or value is None:
            plain[name] = value
    return plain


class SawyerPhysics:
    """One of Meta-World's simulators per slot and task, stepped one after another in this thread.

    A state has, for every slot: ``qpos`` and ``qvel`` (padded with zeros), ``observation`` (39), ``reward``,
    ``success`` (0 or 1), ``measures``, the ``random_vector`` (6) that started the episode, ``target`` and
    ``mocap_pos`` (3, m), ``body_pos`` and ``site_pos`` (of the model, m) for drawing, ``failed``.
    """

    frame_skip = FRAME_SKIP

    def __init__(self, tasks: Sequence[SawyerTask], task_ids: np.ndarray) -> None:
        self.tasks = tuple(tasks)
        self._simulators: list[dict[int, Any]] = [{} for _ in task_ids]  # by task, made when first needed
        self._moments = [_empty_state(len(task_ids)) for _ in range(2)]
        self._task_ids = np.array(task_ids, np.int64)
        compiled: dict[str, mujoco.MjModel] = {}
        self._running = [self._simulator(slot, int(task_id), compiled) for slot, task_id in enumerate(task_ids)]

    @property
    def state(self) -> State:
        return self._moments[0]

    @property
    def simulators(self) -> list[tuple[mujoco.MjModel, mujoco.MjData]]:
        """Model and data of every slot."""
        return [(simulator.model, simulator.data) for simulator in self._running]

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        """Start slots afresh from their random vectors ``(len(slots), 6)``."""
        state = self.state
        (vectors,) = start
        for slot, task_id, vector in zip(slots.tolist(), task_ids.tolist(), vectors, strict=True):
            self._task_ids[slot] = task_id
            simulator = self._running[slot] = self._simulator(slot, task_id)
            observation = simulator.start(_checked(self.tasks[task_id], simulator, vector))
            state.random_vector[slot] = vector
            state.reward[slot] = state.success[slot] = state.measures[slot] = 0.0
            state.failed[slot] = False
            _read(state, slot, simulator, observation)
            _fill(state.body_pos[slot], simulator.model.body_pos)
            _fill(state.site_pos[slot], simulator.model.site_pos)

    def lead(self, slots: np.ndarray, controls: Sequence[np.ndarray]) -> None:
        for slot, rows in zip(slots.tolist(), controls, strict=True):
            for action in np.asarray(rows, np.float32):
                self._advance(slot, action, self.state, self.state)

    def step(self, control: np.ndarray) -> State:
        """Advance every slot by its action ``(slots, 4)``; rounded to float32, the actions' type."""
        before, now = self._moments
        for name in ("random_vector", "body_pos", "site_pos"):
            getattr(now, name)[:] = getattr(before, name)
        for slot, action in enumerate(control.astype(np.float32)):
            self._advance(slot, action, before, now)
        self._moments = [now, before]
        return now

    def close(self) -> None:
        """Nothing runs beside the caller."""

    def _advance(self, slot: int, action: np.ndarray, before: State, now: State) -> None:
        simulator = self._running[slot]
        observation, reward, told = simulator.advance(action)
        if simulator.failed():  # the slot keeps its previous moment
            for name, array in vars(now).items():
                array[slot] = getattr(before, name)[slot]
            now.reward[slot], now.failed[slot] = 0.0, True
            return
        now.reward[slot], now.failed[slot] = reward, False
        now.success[slot] = told["success"]
        now.measures[slot] = [told[name] for name in MEASURES]
        _read(now, slot, simulator, observation)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "tasks": self.tasks,
            "task_ids": self._task_ids,
            "running": [simulator.saved() if simulator.started else None for simulator in self._running],
            "moments": [{name: array.copy() for name, array in vars(m).items()} for m in self._moments],
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__(saved["tasks"], saved["task_ids"])  # type: ignore[misc]
        for moment, arrays in zip(self._moments, saved["moments"], strict=True):
            vars(moment).update(arrays)
        for slot, (simulator, episode) in enumerate(zip(self._running, saved["running"], strict=True)):
            if episode is not None:
                task = self.tasks[self._task_ids[slot]]
                simulator.restore(_checked(task, simulator, self.state.random_vector[slot]), episode)

    def _simulator(self, slot: int, task_id: int, compiled: dict[str, mujoco.MjModel] | None = None) -> Any:
        """The simulator of one task in one slot.

        Resets move bodies in the model, so every simulator has its own; a copy, if the scene is among those already
        ``compiled`` (and not yet used), else a new one that is added there.
        """
        own = self._simulators[slot]
        if task_id not in own:
            task, compiled = self.tasks[task_id], {} if compiled is None else compiled
            source = scene_source(task)
            if source in compiled:
                model = copy.copy(compiled[source])
            else:
                model = compiled[source] = physics_model(source)
            _check_size(task, model)
            own[task_id] = embedded(simulator_class(task))(model, **task.options)
        return own[task_id]


def _empty_state(slots: int) -> State:
    bodies, sites = MODEL_LIMITS["nbody"], MODEL_LIMITS["nsite"]
    shapes: dict[str, tuple[int, ...]] = {
        "qpos": (MODEL_LIMITS["nq"],),
        "qvel": (MODEL_LIMITS["nv"],),
        "observation": (OBSERVATION,),
        "reward": (),
        "success": (),
        "measures": (len(MEASURES),),
        "random_vector": (RANDOM_VECTOR,),
        "target": (3,),
        "mocap_pos": (3,),
        "body_pos": (bodies, 3),
        "site_pos": (sites, 3),
    }
    arrays = {name: np.zeros((slots, *shape)) for name, shape in shapes.items()}
    return State(**arrays, failed=np.zeros(slots, bool))


def _read(state: State, slot: int, simulator: Any, observation: np.ndarray) -> None:
    """Copy what changes from step to step."""
    data = simulator.data
    _fill(state.qpos[slot], data.qpos)
    _fill(state.qvel[slot], data.qvel)
    state.observation[slot] = observation
    state.target[slot] = simulator._target_pos
    state.mocap_pos[slot] = data.mocap_pos[0]


def _fill(target: np.ndarray, values: np.ndarray) -> None:
    target[: len(values)] = values
    target[len(values) :] = 0.0


def _check_size(task: SawyerTask, model: mujoco.MjModel) -> None:
    for name, limit in MODEL_LIMITS.items():
        if getattr(model, name) > limit:
            raise ValueError(f"The scene of {task.name} has {name} = {getattr(model, name)}, at most {limit} fit.")


def _checked(task: SawyerTask, simulator: Any, vector: np.ndarray) -> np.ndarray:
    """The part of a random vector that a task uses, if it is inside the task's reset space."""
    space = simulator._random_reset_space
    used = vector[: len(space.low)]
    if (used < space.low - TOLERANCE).any() or (used > space.high + TOLERANCE).any() or vector[len(used) :].any():
        raise ValueError(
            f"random_vector of {task.name} must be between {space.low.tolist()} and {space.high.tolist()}, "
            f"zeros behind, got {vector.tolist()}."
        )
    return used.copy()
