"""Task sets that are stepped at the same time, for tests; in a module of their own, so that workers can import them."""

import os
import signal
from functools import partial

import numpy as np

from qmp_envs import BatchedTaskSetEnv
from qmp_envs.simulation.physics import State
from qmp_envs.simulation.workers import in_workers
from qmp_envs.task_sets.point import Point2D
from qmp_envs.task_sets.reacher import MultistageReacher


class ThreadedReacher(MultistageReacher):
    """Its steps are too short for threads to pay, but they have to give the same numbers."""

    step_in_threads = True


def reacher_physics(task_ids):
    return MultistageReacher().make_physics(task_ids)


class WorkerReacher(MultistageReacher):
    def make_physics(self, task_ids, workers=1):
        return in_workers(reacher_physics, task_ids, workers, self.task_names, 6)


class Walking:
    """Physics written in Python: points that drift by their task's number, and misbehave when an action says so."""

    def __init__(self, broken_task, task_ids):
        if broken_task in task_ids:
            raise OSError("the model is not here")
        self.task_ids = np.array(task_ids)
        slots = len(task_ids)
        never = np.zeros(slots, bool)
        self.state = State(qpos=np.zeros((slots, 2)), qvel=np.zeros((slots, 0)), failed=never, hits=never.astype(int))

    def place(self, slots, task_ids, *start):
        self.task_ids[slots] = task_ids
        self.state.qpos[slots] = start[0]
        self.state.hits[slots] = 0

    def lead(self, slots, controls):
        for slot, rows in zip(slots, controls, strict=True):
            self.state.qpos[slot] += rows.sum(0)

    def step(self, control):
        if (control == RAISE).any():
            raise ZeroDivisionError("this action is too much")
        if (control == DIE).any():
            os.kill(os.getpid(), signal.SIGKILL)
        moved = self.state.qpos + 0.01 * control + 0.001 * self.task_ids[:, None]
        hits = self.state.hits + (moved < 0.0).any(1)
        self.state = State(qpos=np.abs(moved), qvel=self.state.qvel, failed=self.state.failed, hits=hits)
        return self.state

    def close(self):
        pass


RAISE, DIE = 0.25, 0.5  # actions


class Walkers(Point2D):
    """Five tasks of that physics, spread over processes."""

    name = "Walkers"
    task_names = ("none", "one", "two", "three", "four")

    def __init__(self, broken_task=None):
        super().__init__()
        self.broken_task = broken_task

    def make_physics(self, task_ids, workers=1):
        return in_workers(partial(Walking, self.broken_task), task_ids, workers, self.task_names, 2)

    def draw_reset(self, generator):
        return generator.uniform(0.0, 0.1, 2)

    def initial_state(self, task_ids, draws):
        return draws, np.zeros((len(draws), 0))

    def opening_controls(self, task_ids, draws):
        return [np.full((task, 2), 0.01) for task in task_ids]


def make(task_set, workers, **options):
    return BatchedTaskSetEnv(task_set(), workers=workers, max_episode_steps=23, **options)
