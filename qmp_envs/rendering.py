"""Drawing a slot of any task set, without touching its physics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mujoco
import numpy as np

from qmp_envs.physics import State
from qmp_envs.task_set import TaskSet, closest

if TYPE_CHECKING:
    from qmp_envs.slots import Slots

MODES = ("human", "rgb_array")


def asset(name: str) -> str:
    """The path of a model file of this package."""
    return str(Path(__file__).parent / "assets" / name)


class SceneRenderer:
    """Poses a scene of its own like a slot and draws that, so that rendering never changes an episode."""

    def __init__(self, task_set: TaskSet, mode: str, camera: str | None, width: int, height: int) -> None:
        camera = task_set.cameras[0] if camera is None else camera
        if camera not in task_set.cameras:
            raise ValueError(
                f"Unknown camera {camera!r}; did you mean {closest(camera, task_set.cameras)!r}? "
                f"Cameras: {', '.join(task_set.cameras)}."
            )
        self.task_set, self.mode, self.camera, self.size = task_set, mode, camera, (width, height)
        self._scenes: dict[int, tuple[mujoco.MjModel, mujoco.MjData, Any]] = {}

    @classmethod
    def of_mode(
        cls, task_set: TaskSet, mode: str | None, camera: str | None, width: int, height: int
    ) -> SceneRenderer | None:
        """A renderer for a render mode, None for the mode None."""
        if mode is None:
            return None
        if mode not in MODES:
            raise ValueError(
                f"Unknown render_mode {mode!r}; allowed are None, {', '.join(map(repr, MODES))}."
            )
        return cls(task_set, mode, camera, width, height)

    def draw(self, slots: Slots, slot: int) -> np.ndarray | None:
        """The frame ``(height, width, 3)`` uint8 of one slot; None in mode "human", which shows a window."""
        task_id = int(slots.task_ids[slot])
        model, data, renderer = self._scene(task_id)
        assert slots.memory is not None
        memory = tuple(array[slot] for array in slots.memory)
        if hasattr(slots.memory, "_fields"):
            memory = type(slots.memory)(*memory)
        state = State(**{name: array[slot] for name, array in vars(slots.physics.state).items()})
        self.task_set.pose(data, state, memory, task_id)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        return renderer.render(self.mode)

    def _scene(self, task_id: int) -> tuple[mujoco.MjModel, mujoco.MjData, Any]:
        # Imported here: it loads OpenGL, which training on a machine without a display does not have.
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        index = int(self.task_set.model_of_task[task_id])
        if index not in self._scenes:
            model = self.task_set.scene(index)
            data = mujoco.MjData(model)
            width, height = self.size
            renderer = MujocoRenderer(model, data, width=width, height=height, camera_name=self.camera)
            self._scenes[index] = (model, data, renderer)
        return self._scenes[index]

    def close(self) -> None:
        for _, _, renderer in self._scenes.values():
            renderer.close()
        self._scenes.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scenes": {}}


def frames_per_second(task_set: TaskSet) -> int:
    """Frames per second that show a task set in real time."""
    return round(1.0 / task_set.dt)
