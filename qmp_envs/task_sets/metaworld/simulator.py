"""One of Meta-World's task classes, advanced and reset in our way.

Those classes are the only place where the scenes, rewards and success conditions are written. They are derived from
here, never changed, and never shown to anyone but :class:`~qmp_envs.task_sets.metaworld.physics.SawyerPhysics`. Here,
and not there, the simulation is advanced and reset: without global random numbers, without the limit of 500 steps, and
with one settling of the arm per reset instead of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import mujoco
import numpy as np
from gymnasium.error import ResetNeeded

from qmp_envs.simulation.physics import integration_state
from qmp_envs.task_sets.metaworld.models import FRAME_SKIP, OPEN_WIDTH, missing_package
from qmp_envs.task_sets.metaworld.speed import quick_methods

FRAME = 18  # hand (3), opening, two objects (14): the part of an observation that describes one moment
OBSERVATION = 2 * FRAME + 3  # the frame, the one before, goal
MOCAP_QUATERNION = np.array([1.0, 0.0, 1.0, 0.0])  # the hand points down
_BROKEN = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)


@dataclass(frozen=True)
class SawyerTask:
    """One task, as data that a worker process can rebuild it from."""

    name: str
    simulator: str
    """``"module:class"`` of Meta-World's task class, or of one derived from it."""
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
        raise missing_package() from error


def scene_source(task: SawyerTask) -> str:
    """The MJCF file of a task."""
    upstream: Any = simulator_class(task)
    return upstream.model_name.fget(object.__new__(upstream))


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
            self._mocap, self._mocap_rotation = self.data.mocap_pos[0], self.data.mocap_quat[0]
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
            self._mocap_rotation[:] = MOCAP_QUATERNION
            control = data.ctrl
            control[0], control[1] = action[3], -action[3]
            mujoco.mj_step(model, data, FRAME_SKIP)
            mujoco.mj_forward(model, data)
            observation = self._get_obs()
            np.minimum(np.maximum(observation, self._low, out=observation), self._high, out=observation)
            reward, told = self.evaluate_state(observation, action)
            return observation, reward, told

        def saved(self) -> dict[str, Any]:
            """What, beyond the random vector, makes the running episode what it is."""
            return {"integration": integration_state(self.model, self.data), "remembered": _plain(vars(self))}

        def restore(self, random_vector: np.ndarray, saved: Mapping[str, Any]) -> None:
            """Continue an episode that was ``saved``: begin it again, then put everything where it was."""
            self.start(random_vector)
            # Copies: an array whose memory is someone else's would not be remembered the next time.
            own = {
                name: value.copy() if isinstance(value, np.ndarray) else value
                for name, value in saved["remembered"].items()
            }
            self.__dict__.update(own)
            state = np.array(saved["integration"])
            mujoco.mj_setState(self.model, self.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)

        def failed(self) -> bool:
            """Whether MuJoCo gave up in the latest step (it has reset itself then)."""
            failed = bool(np.count_nonzero(self._broken))
            if failed:
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
