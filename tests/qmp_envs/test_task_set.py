"""The parts of the contract that few families use: noise, opening steps, measured views, a body per task."""

import inspect
import pickle
from typing import NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from qmp_envs import BatchedTaskSetEnv, Outcome, TaskSet, TaskSetEnv, make_task_set
from qmp_envs.registry import DRIVER_OPTIONS

PENDULUM = """
<mujoco>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0" damping="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 -{length}" size="0.05"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""


class PendulumMemory(NamedTuple):
    seen: np.ndarray  # (slots,): the last angle, rad
    noise: np.ndarray  # (slots, 2): of the observation


class Pendulums(TaskSet):
    """Three pendulums of different length, seen through noise; the reward is the change of the angle."""

    name = "Pendulums"
    task_names = ("short", "middle", "long")
    horizon = 30
    dt = 0.02
    frame_skip = 10
    noise_size = 2
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self):
        self.models = tuple(
            mujoco.MjModel.from_xml_string(PENDULUM.format(length=length)) for length in (0.3, 0.6, 1.2)
        )
        self.model_of_task = np.arange(3)

    def draw_reset(self, generator):
        return generator.uniform(-1.0, 1.0, 1)

    def initial_state(self, task_ids, draws):
        return draws, np.zeros_like(draws)

    def initial_memory(self, state, task_ids, draws):
        return PendulumMemory(state.qpos[:, 0].copy(), np.tile(draws, (1, 2)))

    def opening_controls(self, task_ids, draws):
        return [np.full((task, 1), 0.1) for task in task_ids]  # as many as the task's number

    def measuring(self, data, views):
        def measure():
            views["height"][:] = 1.0 - np.cos(data.qpos)

        return measure

    def views(self, data):
        return {**super().views(data), "height": np.zeros(1)}

    def outcome(self, before, after, actions, memory, task_ids, noise):
        swing = after.qpos[:, 0] - before.qpos[:, 0]
        np.testing.assert_array_equal(before.qpos[:, 0], memory.seen)  # the previous moment, also after resets
        never = np.zeros(len(swing), bool)
        np.testing.assert_allclose(after.height[:, 0], 1.0 - np.cos(after.qpos[:, 0]))
        measures = {"height": after.height[:, 0].copy()}
        outcome = Outcome(swing, never, None, None, None, {"swing": swing}, {}, measures)
        return outcome, PendulumMemory(after.qpos[:, 0].copy(), noise)

    def observe(self, state, memory, task_ids):
        return np.concatenate([state.qpos, state.qvel], axis=1) + 0.01 * memory.noise


def single(task=None):
    return gym.wrappers.TimeLimit(TaskSetEnv(Pendulums(), task=task), 30)


def test_single_equals_batched():
    loop = SyncVectorEnv([lambda i=i: single(i) for i in range(3)], autoreset_mode=AutoresetMode.SAME_STEP)
    batch = BatchedTaskSetEnv(Pendulums(), max_episode_steps=30)
    np.testing.assert_array_equal(loop.reset(seed=0)[0], batch.reset(seed=0)[0])
    rng = np.random.default_rng(0)
    for _ in range(100):
        actions = rng.uniform(-1.0, 1.0, (3, 1))
        for left, right in zip(loop.step(actions)[:4], batch.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(left, right)


def test_every_task_has_its_own_body():
    env = TaskSetEnv(Pendulums())
    start = {"qpos": np.array([1.0]), "qvel": np.zeros(1)}
    falls = {}
    for task in (0, 1, 2, 0, 2, 1):  # the body follows the task of the episode
        env.reset(seed=0, options={"task": task, **start})
        falls.setdefault(task, set()).add(env.step(np.zeros(1))[1])
    assert all(len(seen) == 1 for seen in falls.values())
    assert len(set.union(*falls.values())) == 3


def test_families_without_success_say_nothing_about_it():
    env = TaskSetEnv(Pendulums(), task=0)
    env.reset(seed=0)
    assert set(env.step(np.zeros(1))[4]) == {"task_id", "task_name", "reward_swing", "height"}
    envs = BatchedTaskSetEnv(Pendulums())
    envs.reset(seed=0)
    assert not {"success", "is_success", "stages_completed"} & set(envs.step(np.zeros((3, 1)))[4])


def test_noise_belongs_to_the_seed_and_survives_pickling():
    envs = BatchedTaskSetEnv(Pendulums())
    first, _ = envs.reset(seed=0)
    assert np.abs(first[:, 1]).min() > 0.0
    copy = pickle.loads(pickle.dumps(envs))
    for _ in range(5):
        np.testing.assert_array_equal(envs.step(np.ones((3, 1)))[0], copy.step(np.ones((3, 1)))[0])
    np.testing.assert_array_equal(envs.reset(seed=0)[0], first)


def test_arguments_of_the_environments_are_told_from_options_of_a_task_set():
    taken = {name for driver in (TaskSetEnv, BatchedTaskSetEnv) for name in inspect.signature(driver).parameters}
    assert set(DRIVER_OPTIONS) == (taken - {"task_set", "options"}) | {"max_episode_steps"}
    everything = {"max_episode_steps": 7, "task": 0, "workers": 1, "layout": "umaze", "num_tasks": 2}
    assert make_task_set("QMP/Maze-v0", **everything).num_tasks == 2
