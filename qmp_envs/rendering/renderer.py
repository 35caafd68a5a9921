"""Drawing a slot of any task set, without touching its physics."""

from __future__ import annotations

import atexit
import weakref
from functools import partial
from typing import Any

import mujoco
import numpy as np

from qmp_envs.rendering import opengl
from qmp_envs.simulation.physics import State
from qmp_envs.task_set import Memory, TaskSet, closest

MODES = ("human", "rgb_array", "depth_array")
MAX_GEOMS = 10_000


class SceneRenderer:
    """Poses a scene of its own like a slot and draws that, so that rendering never changes an episode."""

    def __init__(self, task_set: TaskSet, mode: str, camera: str | None, width: int, height: int) -> None:
        camera = task_set.cameras[0] if camera is None else camera
        if camera not in task_set.cameras:
            raise ValueError(
                f"Unknown camera {camera!r}; did you mean {closest(camera, task_set.cameras)!r}? "
                f"Cameras: {', '.join(task_set.cameras)}."
            )
        if min(width, height) < 1:
            raise ValueError(f"width and height must be at least 1 pixel, got {width} x {height}.")
        self.task_set, self.mode, self.camera, self.size = task_set, mode, camera, (width, height)
        self._scenes: dict[int, tuple[mujoco.MjModel, mujoco.MjData]] = {}
        self._canvas: Canvas | Window | None = None

    @classmethod
    def of_mode(
        cls, task_set: TaskSet, mode: str | None, camera: str | None, width: int, height: int
    ) -> SceneRenderer | None:
        """A renderer for a render mode, None for the mode None."""
        if mode is None:
            return None
        if mode not in MODES:
            raise ValueError(
                f"Unknown render_mode {mode!r}; did you mean {closest(mode, MODES)!r}? "
                f"Allowed are None, {', '.join(map(repr, MODES))}."
            )
        return cls(task_set, mode, camera, width, height)

    def draw(self, state: State, memory: Memory, task_id: int) -> np.ndarray | None:
        """The frame of one slot, ``(height, width, 3)`` uint8; None in mode "human", which shows a window.

        In mode "depth_array" it is ``(height, width)`` float32, the distance from the camera's plane in m.

        :param state: of the slot, without the axis of slots; so is ``memory``
        """
        model, data = self._scene(task_id)
        self.task_set.pose(data, state, memory, task_id)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)  # cameras may follow the center of mass
        mujoco.mj_camlight(model, data)
        mujoco.mj_tendon(model, data)
        if self._canvas is None:
            self._canvas = Window(*self.size) if self.mode == "human" else Canvas(*self.size)
        return self._canvas.draw(model, data, self.camera, self.mode)

    def _scene(self, task_id: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        index = int(self.task_set.model_of_task[task_id])
        if index not in self._scenes:
            model = self.task_set.scene(index)
            self._scenes[index] = (model, mujoco.MjData(model))
        return self._scenes[index]

    def close(self) -> None:
        if self._canvas is not None:
            self._canvas.close()
        self._canvas = None
        self._scenes.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scenes": {}, "_canvas": None}


class Canvas:
    """Frames without a window. All models of one canvas share its OpenGL context, which no other canvas uses."""

    def __init__(self, width: int, height: int) -> None:
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._drawn: dict[mujoco.MjModel, tuple[mujoco.MjvScene, mujoco.MjrContext]] = {}
        self._context: opengl.Context | None = opengl.context(width, height)
        # Before the end of the interpreter, and before OpenGL's own end: contexts that outlive it raise errors.
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, camera: str, mode: str) -> np.ndarray:
        """One frame; the kinematics of ``data`` must be up to date."""
        assert self._context is not None
        self._context.make_current()  # another environment may have drawn meanwhile
        if model not in self._drawn:
            self._drawn[model] = self._prepare(model)
        scene, resources = self._drawn[model]
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, view, everything, scene)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, resources)
        mujoco.mjr_render(self._viewport, scene, resources)
        height, width = self._viewport.height, self._viewport.width
        if mode == "depth_array":
            depth = np.empty((height, width), np.float32)
            mujoco.mjr_readPixels(None, depth, self._viewport, resources)
            return _meters(depth[::-1], model)
        frame = np.empty((height, width, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._viewport, resources)
        return frame[::-1].copy()  # OpenGL's first row is the lowest

    def _prepare(self, model: mujoco.MjModel) -> tuple[mujoco.MjvScene, mujoco.MjrContext]:
        resources = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_resizeOffscreen(self._viewport.width, self._viewport.height, resources)
        resources.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        return mujoco.MjvScene(model, MAX_GEOMS), resources

    def close(self) -> None:
        """Free what OpenGL holds; safe to call twice."""
        if self._context is None:
            return
        atexit.unregister(self._at_exit)
        self._context.make_current()  # else the resources of the context that is current would be freed
        for _, resources in self._drawn.values():
            resources.free()
        self._drawn.clear()
        self._context.free()
        self._context = None

    def __del__(self) -> None:
        if getattr(self, "_context", None) is not None:
            self.close()


class Window:
    """Gymnasium's window. There is one per environment, opened anew where a task has another model."""

    def __init__(self, width: int, height: int) -> None:
        opengl.check_window()
        self._size = (width, height)
        self._model: mujoco.MjModel | None = None
        self._viewer: Any = None
        self._closed_by_user = False

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData, camera: str, mode: str) -> None:
        """Show one frame; nothing any more after the user has closed the window."""
        # Imported here: it loads GLFW, which training does not need.
        from gymnasium.envs.mujoco import mujoco_rendering as gymnasium

        if self._viewer is not None and gymnasium.glfw.window_should_close(self._viewer.window):
            self._closed_by_user = True
            self.close()
        if self._closed_by_user:
            return
        if model is not self._model:
            self.close()
            self._viewer, self._model = gymnasium.WindowViewer(model, data, *self._size, MAX_GEOMS), model
            self._viewer.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
            self._viewer.cam.fixedcamid = model.camera(camera).id
        self._viewer.make_context_current()  # another environment may have drawn meanwhile
        self._viewer.render()

    def close(self) -> None:
        """Close the window, without Gymnasium's way, which ends the windows of all environments."""
        if self._viewer is not None:
            self._viewer.make_context_current()
            self._viewer.con.free()
            self._viewer.free()
        self._viewer, self._model = None, None


def frames_per_second(task_set: TaskSet) -> int:
    """Frames per second that show a task set in real time."""
    return round(1.0 / task_set.dt)


def _meters(depth: np.ndarray, model: mujoco.MjModel) -> np.ndarray:
    """Distances in m from OpenGL's depths, 0 at the far plane and 1 at the near one."""
    near = model.vis.map.znear * model.stat.extent
    far = model.vis.map.zfar * model.stat.extent
    return (near * far / (near + depth.astype(np.float64) * (far - near))).astype(np.float32)


def _close(canvas: weakref.ref[Canvas]) -> None:
    """Close a canvas that still exists."""
    alive = canvas()
    if alive is not None:
        alive.close()
