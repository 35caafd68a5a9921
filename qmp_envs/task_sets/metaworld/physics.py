"""Meta-World's simulators behind the interface of :class:`~qmp_envs.simulation.physics.Physics`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import numpy as np

from qmp_envs.simulation.physics import State
from qmp_envs.task_sets.metaworld.models import FRAME_SKIP, physics_model
from qmp_envs.task_sets.metaworld.simulator import OBSERVATION, SawyerTask, embedded, scene_source, simulator_class
from qmp_envs.task_sets.metaworld.tasks import RANDOM_VECTOR

MEASURES = ("near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target", "unscaled_reward")
"""The numbers that every task says about a step besides reward and success."""
MODEL_LIMITS = {"nq": 18, "nv": 17, "nbody": 40, "nsite": 16}
"""The largest scene that a slot has room for; Meta-World's 50 tasks need 18, 17, 39 and 16."""
TOLERANCE = 1e-9  # m; how far a given start may be outside the reset space through rounding


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

    def snapshot(self) -> list[dict[str, Any]]:
        """The slot's task, what its simulator needs to resume, and what was read last."""
        return [
            {
                "task": int(self._task_ids[slot]),
                "episode": simulator.saved() if simulator.started else None,
                "moment": {name: np.array(array[slot]) for name, array in vars(self.state).items()},
            }
            for slot, simulator in enumerate(self._running)
        ]

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        for slot, saved in enumerate(slots):
            task_id = self._task_ids[slot] = int(saved["task"])
            simulator = self._running[slot] = self._simulator(slot, task_id)
            for name, values in saved["moment"].items():
                vars(self.state)[name][slot] = values
            if saved["episode"] is not None:
                vector = _checked(self.tasks[task_id], simulator, self.state.random_vector[slot])
                simulator.restore(vector, saved["episode"])

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
