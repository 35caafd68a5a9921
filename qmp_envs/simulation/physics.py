"""Simulators of many slots behind one small interface: place, step, read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol

import mujoco
import numpy as np

from qmp_envs.simulation.threads import ThreadTeam


class State(SimpleNamespace):
    """What a task set reads of the physics: named arrays ``(slots, ...)`` of one moment.

    ``qpos``, ``qvel`` and ``failed`` (the simulator gave up in this step) are always there; a family adds
    its own names through ``TaskSet.views``.
    """

    qpos: np.ndarray
    qvel: np.ndarray
    failed: np.ndarray

    def rows(self, slots: np.ndarray) -> State:
        """A copy for some of the slots only."""
        return State(**{name: array[slots] for name, array in vars(self).items()})


class Physics(Protocol):
    """The simulators of all slots."""

    @property
    def state(self) -> State:
        """The present moment. ``step`` replaces it; the previous moment stays readable for one step."""

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        """Start slots afresh from arrays ``(len(slots), ...)``: positions and velocities, where not said otherwise."""

    def lead(self, slots: np.ndarray, controls: Sequence[np.ndarray]) -> None:
        """Advance some slots only, each by as many environment steps as its ``(steps, nu)`` has rows."""

    def step(self, control: np.ndarray) -> State:
        """Advance every slot by one environment step with actuator inputs ``(slots, nu)``."""

    def snapshot(self) -> list[dict[str, Any]]:
        """Where every slot stands, as plain values and arrays that nothing else holds; one dictionary per slot."""

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        """Put every slot where its :meth:`snapshot` was taken, in these simulators or in new ones of the same slots."""

    def close(self) -> None:
        """End threads and processes, if there are any; safe to call twice."""


class MujocoPhysics:
    """One ``MjData`` per slot, stepped one after another, or by ``threads`` at the same time.

    The solver's warm start belongs to a slot's state: it lives from step to step, ``place`` clears it.
    """

    def __init__(
        self,
        models: Sequence[mujoco.MjModel],
        model_of_task: np.ndarray,
        frame_skip: int,
        views: Callable[[mujoco.MjData], Mapping[str, np.ndarray]],
        task_ids: np.ndarray,
        measuring: Callable[[mujoco.MjData, Mapping[str, np.ndarray]], Callable[[], None] | None] | None = None,
        threads: int = 1,
    ) -> None:
        self.models = tuple(models)
        self.model_of_task = model_of_task
        self.frame_skip = frame_skip
        self._views = views
        self._measuring = measuring
        self._team = ThreadTeam(threads)
        self.model_of_slot = [int(index) for index in model_of_task[task_ids]]
        self.data = [mujoco.MjData(self.models[index]) for index in self.model_of_slot]
        shapes = {name: view.shape for name, view in views(self.data[0]).items()}
        self._moments = [_Moment(len(task_ids), shapes), _Moment(len(task_ids), shapes)]
        self._bind()

    def _bind(self) -> None:
        """Look up every array of every slot once; reading them all is then a single copy."""
        views = self._of_slot = [self._views(data) for data in self.data]
        self._measures: dict[int, Callable[[], None]] = {}
        for slot, (data, view) in enumerate(zip(self.data, views, strict=True)):
            measure = self._measuring(data, view) if self._measuring else None
            if measure is not None:
                self._measures[slot] = measure
        self._sources = [view[name].reshape(-1) for name in views[0] for view in views]
        self._warnings = [data.warning.number for data in self.data]
        self._warned = np.concatenate(self._warnings)
        self._controls = [data.ctrl for data in self.data]
        self._simulators = [
            (self.models[index], data) for index, data in zip(self.model_of_slot, self.data, strict=True)
        ]

    @property
    def state(self) -> State:
        return self._moments[0].state

    @property
    def simulators(self) -> list[tuple[mujoco.MjModel, mujoco.MjData]]:
        """Model and data of every slot."""
        return self._simulators

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        qpos, qvel = start
        for row, (slot, task_id) in enumerate(zip(slots.tolist(), task_ids.tolist(), strict=True)):
            index = int(self.model_of_task[task_id])
            if index != self.model_of_slot[slot]:
                self.model_of_slot[slot] = index
                self.data[slot] = mujoco.MjData(self.models[index])
                self._bind()
            model, data = self._simulators[slot]
            mujoco.mj_resetData(model, data)
            data.qpos[:] = qpos[row]
            data.qvel[:] = qvel[row]
            mujoco.mj_forward(model, data)
        self._reread(slots)
        self.state.failed[slots] = False

    def lead(self, slots: np.ndarray, controls: Sequence[np.ndarray]) -> None:
        for slot, rows in zip(slots.tolist(), controls, strict=True):
            model, data = self._simulators[slot]
            for control in rows:
                data.ctrl[:] = control
                mujoco.mj_step(model, data, self.frame_skip)
        self._reread(slots)

    def step(self, control: np.ndarray) -> State:
        jobs = zip(self._controls, control, self._simulators, strict=True)
        if self._team.size == 1:
            self._advance(jobs)
        else:
            # A list's iterator gives every item to one thread only; who is early takes more of them.
            self._team.run(partial(self._advance, iter(list(jobs))))
        before, now = self._moments
        self._read(now)
        if np.count_nonzero(np.concatenate(self._warnings, out=self._warned)):
            self._fail(before, now)
        else:
            now.state.failed.fill(False)
        self._moments = [now, before]
        return now.state

    def _advance(self, jobs: Iterable[tuple[np.ndarray, np.ndarray, tuple[mujoco.MjModel, mujoco.MjData]]]) -> None:
        step, substeps = mujoco.mj_step, self.frame_skip
        for target, values, (model, data) in jobs:
            target[:] = values
            step(model, data, substeps)

    def close(self) -> None:
        self._team.close()

    def _read(self, moment: _Moment) -> None:
        for measure in self._measures.values():
            measure()
        moment.read(self._sources)

    def _reread(self, slots: np.ndarray) -> None:
        """Read into the present moment what has changed in some slots."""
        if len(slots) == len(self.data):
            self._read(self._moments[0])
            return
        arrays = vars(self.state)
        for slot in slots.tolist():
            if slot in self._measures:
                self._measures[slot]()
            for name, view in self._of_slot[slot].items():
                arrays[name][slot] = view

    def set_velocity(self, qvel: np.ndarray) -> None:
        """Overwrite the velocities ``(slots, nv)`` and refresh everything that follows from them."""
        for velocity, (model, data) in zip(qvel, self._simulators, strict=True):
            data.qvel[:] = velocity
            mujoco.mj_forward(model, data)

    def _fail(self, before: _Moment, now: _Moment) -> None:
        """Slots where MuJoCo raised a warning keep their previous moment: MuJoCo has reset itself there."""
        failed = np.array([numbers.any() for numbers in self._warnings])
        for numbers in self._warnings:
            numbers[:] = 0
        for name, array in vars(now.state).items():
            array[failed] = vars(before.state)[name][failed]
        now.state.failed[:] = failed

    def snapshot(self) -> list[dict[str, Any]]:
        """The index of the slot's model, all that MuJoCo integrates (with the warm start), and what was read last."""
        return [
            {
                "model": self.model_of_slot[slot],
                "integration": integration_state(*simulator),
                "moment": {name: np.array(array[slot]) for name, array in vars(self.state).items()},
            }
            for slot, simulator in enumerate(self._simulators)
        ]

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        models = [int(saved["model"]) for saved in slots]
        if models != self.model_of_slot:
            self.model_of_slot = models
            self.data = [mujoco.MjData(self.models[index]) for index in models]
            self._bind()
        for slot, (saved, (model, data)) in enumerate(zip(slots, self._simulators, strict=True)):
            mujoco.mj_resetData(model, data)
            mujoco.mj_setState(model, data, np.array(saved["integration"]), mujoco.mjtState.mjSTATE_INTEGRATION)
            for name, values in saved["moment"].items():
                vars(self.state)[name][slot] = values

    def __getstate__(self) -> dict[str, Any]:
        integration = [integration_state(*simulator) for simulator in self._simulators]
        kept = ("models", "model_of_task", "frame_skip", "_views", "_measuring", "model_of_slot")
        moments = [{name: array.copy() for name, array in vars(m.state).items()} for m in self._moments]
        saved = {name: getattr(self, name) for name in kept}
        return saved | {"threads": self._team.size, "integration": integration, "moments": moments}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        integration, moments = saved.pop("integration"), saved.pop("moments")
        self._team = ThreadTeam(saved.pop("threads"))
        self.__dict__.update(saved)
        self.data = [mujoco.MjData(self.models[index]) for index in self.model_of_slot]
        shapes = {name: view.shape for name, view in self._views(self.data[0]).items()}
        self._moments = [_Moment(len(self.data), shapes), _Moment(len(self.data), shapes)]
        self._bind()
        for vector, (model, data) in zip(integration, self._simulators, strict=True):
            mujoco.mj_setState(model, data, vector, mujoco.mjtState.mjSTATE_INTEGRATION)
        for moment, arrays in zip(self._moments, moments, strict=True):
            for name, array in arrays.items():
                vars(moment.state)[name][:] = array


def integration_state(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """All that MuJoCo's next step depends on, in one vector: positions, velocities, time, activations, warm start,
    controls, applied forces, mocap bodies.
    """
    full = mujoco.mjtState.mjSTATE_INTEGRATION
    vector = np.empty(mujoco.mj_stateSize(model, full))
    mujoco.mj_getState(model, data, vector, full)
    return vector


class _Moment:
    """One flat buffer with all arrays of all slots, and a :class:`State` of views into it."""

    def __init__(self, slots: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        sizes = [slots * int(np.prod(shape)) for shape in shapes.values()]
        self._flat = np.zeros(sum(sizes))
        blocks = np.split(self._flat, np.cumsum(sizes)[:-1])
        arrays = {
            name: block.reshape(slots, *shape) for (name, shape), block in zip(shapes.items(), blocks, strict=True)
        }
        self.state = State(**arrays, failed=np.zeros(slots, bool))

    def read(self, sources: Sequence[np.ndarray]) -> None:
        np.concatenate(sources, out=self._flat)
