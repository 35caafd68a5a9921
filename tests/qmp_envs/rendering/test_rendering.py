"""Pictures: they exist, they show the goal, they never change an episode, and no environment disturbs another's."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import qmp_envs
from qmp_envs.rendering import opengl
from qmp_envs.rendering.renderer import Window
from tests.sampling import each_batch_id, each_id

ROOT = Path(__file__).parents[3]
needs_gl = pytest.mark.gl


def acted(env, steps, seed=0, render=False):
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    observations = []
    for _ in range(steps):
        observations.append(env.step(rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32))[0])
        if render:
            env.render()
    return np.array(observations)


def drawn(id, mode="rgb_array", size=64, **options):
    return gym.make(id, task=0, render_mode=mode, width=size, height=size, **options)


def red(frame):
    return int(((frame[..., 0] > 120) & (frame[..., 1] < 110) & (frame[..., 2] < 110)).sum())


def scene(env):
    """Model and data that were drawn, in an environment of one task."""
    [drawn_last] = env.unwrapped._renderer._scenes.values()
    return drawn_last


def has_goal(env):
    model, _ = scene(env)
    return bool({model.geom(i).name for i in range(model.ngeom)} & {"goal", "target"})


# ---- frames ------------------------------------------------------------------------------------------------


@needs_gl
@each_batch_id
def test_every_camera_and_the_goal(id):
    env = gym.make(id, task=0, render_mode="rgb_array", width=160, height=120)
    acted(env, 3)
    for camera in env.unwrapped.task_set.cameras:
        env.unwrapped._renderer.camera = camera
        frame = env.render()
        assert frame.shape == (120, 160, 3) and frame.dtype == np.uint8
        assert frame.std() > 5.0, camera
        if has_goal(env):
            assert red(frame) > 10, camera
    env.close()


@needs_gl
@each_batch_id
def test_frames_follow_the_episode(id):
    env = drawn(id)
    env.reset(seed=0)
    first = env.render()
    np.testing.assert_array_equal(env.render(), first)
    for _ in range(8):
        env.step(np.ones(env.action_space.shape, np.float32))
    assert not np.array_equal(env.render(), first)
    env.close()


@needs_gl
@each_batch_id
def test_rendering_does_not_change_the_episode(id):
    env = drawn(id)
    np.testing.assert_array_equal(acted(gym.make(id, task=0), 6), acted(env, 6, render=True))
    env.close()


@needs_gl
@each_id
def test_depth_is_the_distance_from_the_camera_in_meters(id):
    env = drawn(id, "depth_array", 65)
    env.reset(seed=0)
    depth = env.render()
    assert depth.shape == (65, 65) and depth.dtype == np.float32
    model, data = scene(env)
    camera = data.camera(env.unwrapped.task_set.cameras[0])
    forward, groups = -camera.xmat.reshape(3, 3)[:, 2], mujoco.MjvOption().geomgroup
    distance = mujoco.mj_ray(model, data, camera.xpos, forward, groups, 1, -1, np.zeros(1, np.int32))
    middle = depth[31:34, 31:34]
    if distance < 0.0:  # nothing but the sky
        assert middle.min() > model.stat.extent
    else:
        assert middle.min() * 0.99 <= distance <= middle.max() * 1.01
    env.close()


@needs_gl
@each_batch_id
def test_batched_frames_are_those_of_single_environments(id):
    envs = gym.make_vec(id, render_mode="rgb_array", width=64, height=64)
    single = drawn(id)
    envs.reset(seed=3), single.reset(seed=3)
    frames = envs.render()
    assert len(frames) == envs.num_envs
    np.testing.assert_array_equal(frames[0], single.render())
    envs.close(), single.close()


@needs_gl
def test_the_picture_shows_the_subgoal_in_force():
    task_set = qmp_envs.make_task_set("QMP/MultistageReacher-v0")
    data = mujoco.MjData(task_set.models[0])
    env = gym.make("QMP/MultistageReacher-v0", task=2)
    env.reset(seed=0)
    memory = env.unwrapped._episodes.memory
    task_set.pose(data, SimpleNamespace(qpos=np.zeros(6)), type(memory)(*[array[0] for array in memory]), 2)
    np.testing.assert_array_equal(data.mocap_pos[0], task_set.subgoals[2, 0])


@needs_gl
def test_frames_larger_than_the_models_buffer():
    env = gym.make("QMP/Point2D-v0", render_mode="rgb_array", width=1300, height=900)
    env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (900, 1300, 3) and red(frame) > 10
    env.close()


# ---- environments beside each other ------------------------------------------------------------------------


@needs_gl
@each_batch_id
def test_two_environments_do_not_disturb_each_other(id):
    """Frames are the same whether or not others draw in between, at other sizes, of other models, open or closed."""
    alone = drawn(id)
    acted(alone, 4)
    before = alone.render()
    alone.close()

    first, same, other = drawn(id), drawn(id, size=96), drawn("QMP/Maze-v0", size=80)
    acted(first, 4), acted(same, 12, seed=1), other.reset(seed=0)
    for env in (same, other):
        np.testing.assert_array_equal(first.render(), before)
        frame = env.render()
        np.testing.assert_array_equal(first.render(), before)
        np.testing.assert_array_equal(env.render(), frame)
    same.close()
    np.testing.assert_array_equal(first.render(), before)
    other.reset(seed=0), other.render()
    del env, other  # never closed
    np.testing.assert_array_equal(first.render(), before)
    first.close()


@needs_gl
def test_a_closed_or_copied_environment_draws_again():
    env = drawn("QMP/Maze-v0")
    env.reset(seed=0)
    frame = env.render()
    copied = pickle.loads(pickle.dumps(env.unwrapped))
    np.testing.assert_array_equal(copied.render(), frame)
    env.close(), env.close()
    env.reset(seed=0)
    np.testing.assert_array_equal(env.render(), frame)
    env.close(), copied.close()


@needs_gl
def test_an_environment_that_nobody_closes_ends_silently():
    code = """
import gymnasium as gym, qmp_envs
envs = [gym.make("QMP/Point2D-v0", render_mode="rgb_array", width=32, height=32) for _ in range(2)]
print([env.reset(seed=0) and env.render().shape for env in envs])
"""
    result = python(code)
    assert result.stdout.strip() == "[(32, 32, 3), (32, 32, 3)]" and not result.stderr, result.stderr


# ---- the window --------------------------------------------------------------------------------------------


@each_id
def test_human_mode_shows_every_reset_and_step(id, monkeypatch):
    """With the window replaced, as there may be no display."""
    shown = []

    class Recorder:
        def __init__(self, width, height):
            assert (width, height) == (480, 480)

        def draw(self, model, data, camera, mode):
            shown.append((camera, mode, data.qpos.copy()))

        def close(self):
            shown.append("closed")

    monkeypatch.setattr("qmp_envs.rendering.renderer.Window", Recorder)
    env = gym.make(id, task=0, render_mode="human")
    acted(env, 3)
    _, data = scene(env)
    np.testing.assert_array_equal(shown[-1][2], data.qpos)
    assert any(not np.array_equal(shown[0][2], later) for _, _, later in shown[1:])
    env.close()
    assert [entry[:2] for entry in shown[:-1]] == [(env.unwrapped.task_set.cameras[0], "human")] * 4
    assert shown[-1] == "closed"


class Viewer:
    """Stands for Gymnasium's window and its resources; writes down what happens to it."""

    def __init__(self, model, data, width, height, max_geom):
        self.events.append(("open", model, width, height))
        self.window, self.cam, self.con = self, mujoco.MjvCamera(), self

    def make_context_current(self):
        self.events.append("current")

    def render(self):
        self.events.append(("shown", self.cam.fixedcamid))

    def free(self):
        self.events.append("free")


def test_a_window_shows_one_model_at_a_time(monkeypatch):
    Viewer.events = []
    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_rendering.WindowViewer", Viewer)
    monkeypatch.setattr("glfw.window_should_close", lambda window: len(Viewer.events) > 11)
    monkeypatch.setattr(opengl, "has_display", lambda: True)
    point, maze = (qmp_envs.make_task_set(id).models[0] for id in ("QMP/Point2D-v0", "QMP/Maze-v0"))
    window = Window(80, 60)
    for model, camera in ((point, "top"), (point, "top"), (maze, "tilted"), (maze, "top"), (maze, "top")):
        window.draw(model, mujoco.MjData(model), camera, "human")
    closed = ["current", "free", "free"]  # resources, then the window
    assert Viewer.events == [
        *[("open", point, 80, 60), "current", ("shown", 0), "current", ("shown", 0), *closed],
        *[("open", maze, 80, 60), "current", ("shown", maze.camera("tilted").id), "current"],
        *[("shown", maze.camera("tilted").id), *closed],
    ]
    window.close()
    assert len(Viewer.events) == 16, "closed by the user: nothing is opened, shown or closed again"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems always have a display")
def test_a_window_without_a_display_is_an_error_in_words(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    env = gym.make("QMP/Point2D-v0", render_mode="human")
    with pytest.raises(opengl.NoRendering, match='no display.*render_mode="rgb_array"'):
        env.reset(seed=0)


# ---- errors ------------------------------------------------------------------------------------------------


@each_id
def test_errors(id):
    with pytest.raises(ValueError, match="Unknown camera 'tup'"):
        gym.make(id, render_mode="rgb_array", camera="tup")
    with pytest.raises(ValueError, match="Unknown render_mode 'rgb'; did you mean 'rgb_array'"):
        gym.make_vec(id, render_mode="rgb")
    with pytest.raises(ValueError, match="at least 1 pixel, got 0 x 480"):
        gym.make(id, render_mode="rgb_array", width=0)
    assert gym.make(id).unwrapped.metadata["render_fps"] == round(1 / qmp_envs.make_task_set(id).dt)


NO_LIBRARIES = """
import ctypes, ctypes.util

find, load = ctypes.util.find_library, ctypes.CDLL.__init__

def nothing_found(name):
    return None if name in ("EGL", "OSMesa") else find(name)

def nothing_loaded(self, name, *args, **kwargs):
    if name and ("EGL" in str(name) or "OSMesa" in str(name)):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")
    load(self, name, *args, **kwargs)

ctypes.util.find_library, ctypes.CDLL.__init__ = nothing_found, nothing_loaded
"""
USE = """
import gymnasium as gym, qmp_envs
env = gym.make("QMP/Maze-v0", render_mode="rgb_array")
env.reset(seed=0)
print(env.step(env.action_space.sample())[1] < 0)
env.render()
"""


def python(code, **variables):
    clean = {name: os.environ[name] for name in os.environ if name not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    environment = {**clean, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the packages named are Debian's")
@pytest.mark.parametrize(
    "backend,error", [("", "qmp_envs.rendering.opengl.NoRendering"), ("egl", "ImportError"), ("osmesa", "ImportError")]
)
def test_a_missing_library_is_one_error_that_names_the_package(backend, error):
    result = python(NO_LIBRARIES + USE, MUJOCO_GL=backend)
    assert result.returncode == 1
    assert result.stdout.strip() == ("True" if backend == "" else "")  # all but drawing works
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"{error}: ")
    assert "apt-get install libegl1" in last and "apt-get install libosmesa6" in last
    assert result.stderr.count("Traceback") == 1 and "site-packages/OpenGL" not in result.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="MUJOCO_GL has these values on Linux")
@pytest.mark.parametrize("backend,words", [("disable", "switches rendering off"), ("glfw", "there is no display")])
def test_a_backend_that_cannot_draw_is_named(backend, words):
    result = python(USE, MUJOCO_GL=backend)
    assert result.returncode == 1 and result.stderr.count("Traceback") == 1
    assert words in result.stderr.strip().splitlines()[-1]
