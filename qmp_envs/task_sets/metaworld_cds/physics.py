"""The simulators of Meta-World CDS: a hand dragged by a mocap body, and objects that every episode stands elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np

from qmp_envs.simulation.physics import MujocoPhysics
from qmp_envs.task_sets.metaworld_cds.scene import DOOR_HOME, DRAWER_HOME, FRAME_SKIP, SettledArm

MOCAP = slice(0, 3)  # of a control: where the mocap body goes, m
GRIPPER = slice(3, 5)  # of a control: both actuators
ROUNDING = 1e-9  # m, that a place may lie outside its limits
_HOMES = {"drawer": DRAWER_HOME, "door": DOOR_HOME}


class Start(NamedTuple):
    """How the episodes of one task begin."""

    task: str
    body: str
    """The object that ``random_vector`` places."""
    low: np.ndarray
    """(3,) m: lower limit of ``random_vector``."""
    high: np.ndarray
    joint: str
    """The joint of the object."""
    position: float | None
    """Where that joint is put, m or rad; None leaves it where it came to rest."""
    stop: bool
    """Whether the joint's velocity is set to 0, too."""
    arm: SettledArm


class CdsPhysics(MujocoPhysics):
    """One model and one ``MjData`` per slot: where the objects stand is part of a model.

    A control is the next position of the mocap body (3, m) and the two inputs of the gripper.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        starts: Sequence[Start],
        views: Callable[[mujoco.MjData], Mapping[str, np.ndarray]],
        task_ids: np.ndarray,
        threads: int = 1,
    ) -> None:
        self._starts = tuple(starts)
        own_model = np.arange(len(task_ids))
        models = [copy.copy(model) for _ in own_model]
        super().__init__(models, own_model, FRAME_SKIP, views, own_model, threads=threads)

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        """Start slots afresh with the object of their task at ``random_vector`` ``(len(slots), 3)``, m."""
        (random_vector,) = start
        for slot, task_id, position in zip(slots.tolist(), task_ids.tolist(), random_vector, strict=True):
            self._place(self.models[slot], self.data[slot], self._starts[task_id], position)
        self._reread(slots)
        self.state.failed[slots] = False

    def _place(self, model: mujoco.MjModel, data: mujoco.MjData, start: Start, position: np.ndarray) -> None:
        if (position < start.low - ROUNDING).any() or (position > start.high + ROUNDING).any():
            raise ValueError(
                f"random_vector of {start.task} places the {start.body}; it must lie between "
                f"{start.low.tolist()} and {start.high.tolist()}, got {position.tolist()}."
            )
        for body, home in _HOMES.items():
            model.body(body).pos = home
        model.body(start.body).pos = position
        mujoco.mj_resetData(model, data)
        mujoco.mj_setState(model, data, start.arm.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_step(model, data)
        if start.position is None:
            return  # no refresh: the first observation, and the solver's warm start, are the last step's
        joint = data.joint(start.joint)
        joint.qpos = start.position
        if start.stop:
            joint.qvel = 0.0
        mujoco.mj_forward(model, data)

    def _advance(self, jobs: Iterable[tuple[np.ndarray, np.ndarray, tuple[mujoco.MjModel, mujoco.MjData]]]) -> None:
        for gripper, control, (model, data) in jobs:
            data.mocap_pos[0] = control[MOCAP]
            gripper[:] = control[GRIPPER]
            mujoco.mj_step(model, data, self.frame_skip)
            # Meta-World observes positions of now, not of the last physics step's beginning. It also leaves its
            # mark on the solver's warm start, so a cheaper refresh would lead elsewhere.
            mujoco.mj_forward(model, data)

    def snapshot(self) -> list[dict[str, Any]]:
        """Also where the objects stand, which is part of a slot's model; m."""
        return [
            saved | {"places": {body: np.array(model.body(body).pos) for body in _HOMES}}
            for saved, model in zip(super().snapshot(), self.models, strict=True)
        ]

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        for saved, model in zip(slots, self.models, strict=True):
            for body, place in saved["places"].items():
                model.body(body).pos = place
        super().restore(slots)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_starts": self._starts}
