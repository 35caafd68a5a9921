"""Pictures: they exist, they show the goal, and they never change an episode."""

from types import SimpleNamespace

import gymnasium as gym
import mujoco
import numpy as np
import pytest

import qmp_envs
from tests.sampling import each_batch_id, each_id


def opengl_works() -> bool:
    try:
        mujoco.GLContext(16, 16).free()
    except Exception:  # whatever the driver raises
        return False
    return True


needs_opengl = pytest.mark.skipif(not opengl_works(), reason="this machine has no OpenGL")


def acted(env, steps, seed=0, render=False):
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    observations = []
    for _ in range(steps):
        observations.append(env.step(rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32))[0])
        if render:
            env.render()
    return np.array(observations)


def red(frame):
    return int(((frame[..., 0] > 120) & (frame[..., 1] < 110) & (frame[..., 2] < 110)).sum())


@needs_opengl
@each_id
def test_every_camera_and_the_goal(id):
    for camera in qmp_envs.make_task_set(id).cameras:
        env = gym.make(id, task=0, render_mode="rgb_array", camera=camera, width=160, height=120)
        acted(env, 3)
        frame = env.render()
        assert frame.shape == (120, 160, 3) and frame.dtype == np.uint8
        assert frame.std() > 5.0 and red(frame) > 10, camera
        env.close()


@needs_opengl
@each_id
def test_rendering_does_not_change_the_episode(id):
    plain, drawn = gym.make(id, task=0), gym.make(id, task=0, render_mode="rgb_array", width=64, height=64)
    np.testing.assert_array_equal(acted(plain, 15), acted(drawn, 15, render=True))
    drawn.close()


@needs_opengl
@each_id
def test_two_environments_do_not_disturb_each_other(id):
    first, second = (gym.make(id, task=0, render_mode="rgb_array", width=96, height=96) for _ in range(2))
    acted(first, 4), acted(second, 12, seed=1)
    before = first.render()
    other = second.render()
    np.testing.assert_array_equal(first.render(), before)
    np.testing.assert_array_equal(second.render(), other)
    assert not np.array_equal(before, other)
    first.close(), second.close()


@needs_opengl
@each_batch_id
def test_batched_frames_are_those_of_single_environments(id):
    envs = gym.make_vec(id, render_mode="rgb_array", width=64, height=64)
    single = gym.make(id, task=0, render_mode="rgb_array", width=64, height=64)
    envs.reset(seed=3), single.reset(seed=3)
    frames = envs.render()
    assert len(frames) == envs.num_envs
    np.testing.assert_array_equal(frames[0], single.render())
    envs.close(), single.close()


@needs_opengl
def test_the_picture_shows_the_subgoal_in_force():
    task_set = qmp_envs.make_task_set("QMP/MultistageReacher-v0")
    data = mujoco.MjData(task_set.models[0])
    env = gym.make("QMP/MultistageReacher-v0", task=2)
    env.reset(seed=0)
    memory = env.unwrapped._slots.memory
    task_set.pose(data, SimpleNamespace(qpos=np.zeros(6)), type(memory)(*[array[0] for array in memory]), 2)
    np.testing.assert_array_equal(data.mocap_pos[0], task_set.subgoals[2, 0])


@each_id
def test_human_mode_shows_every_reset_and_step(id, monkeypatch):
    """With Gymnasium's window replaced, as there may be no display."""
    shown = []

    class Window:
        def __init__(self, model, data, **kwargs):
            self.data = data

        def render(self, mode):
            shown.append((mode, self.data.qpos.copy()))

        def close(self):
            shown.append("closed")

    monkeypatch.setattr("gymnasium.envs.mujoco.mujoco_rendering.MujocoRenderer", Window)
    env = gym.make(id, task=0, render_mode="human")
    acted(env, 3)
    env.close()
    assert [entry[0] for entry in shown[:-1]] == ["human"] * 4 and shown[-1] == "closed"
    np.testing.assert_array_equal(shown[-2][1], env.unwrapped._slots.physics.state.qpos[0])


@each_id
def test_errors(id):
    with pytest.raises(ValueError, match="Unknown camera 'tup'"):
        gym.make(id, render_mode="rgb_array", camera="tup")
    with pytest.raises(ValueError, match="Unknown render_mode"):
        gym.make_vec(id, render_mode="rgb")
    assert gym.make(id).unwrapped.metadata["render_fps"] == round(1 / qmp_envs.make_task_set(id).dt)
