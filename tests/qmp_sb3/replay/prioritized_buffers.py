"""Small prioritized replay buffers whose transitions are numbered."""

from __future__ import annotations

import numpy as np
import torch as th
from gymnasium import spaces

from qmp_sb3.common.expressions import component
from qmp_sb3.replay import ALLOCATIONS, DRAWS, MultiTaskReplayBuffer

TASKS, OBS, ACT, ROWS = 3, 2, 1, 40
TA_PER = dict(replay="mass", draw="per")


def make_buffer(sizes=(40, 10, 25), replay="mass", draw="per", rows=ROWS, n_envs=1, **kwargs) -> MultiTaskReplayBuffer:
    """The reward of a transition is 1000 times its task, plus its number."""
    buffer = MultiTaskReplayBuffer(
        rows,
        spaces.Box(-1, 1, (OBS,)),
        spaces.Box(-1, 1, (ACT,)),
        device="cpu",
        n_envs=n_envs,
        n_tasks=TASKS,
        rng=np.random.default_rng(0),
        replay=component("replay", replay, ALLOCATIONS),
        draw=component("draw", draw, DRAWS),
        **kwargs,
    )
    for task, size in enumerate(sizes):
        store(buffer, [task], size)
    return buffer


def store(buffer: MultiTaskReplayBuffer, tasks: list[int], steps: int, first: int = 0) -> None:
    """``steps`` vector steps of slots with these tasks."""
    buffer.set_slot_tasks(np.array(tasks))
    slots = len(tasks)
    for number in range(first, first + steps):
        reward = 1000.0 * np.array(tasks) + number
        observations, actions = np.ones((slots, OBS)), np.zeros((slots, ACT))
        buffer.add(observations, observations, actions, reward, np.zeros(slots, bool), [{}] * slots)


def give(buffer: MultiTaskReplayBuffer, errors: np.ndarray) -> np.ndarray:
    """Feed errors ``(tasks, rows)`` back for all transitions; p^alpha of those that there are, 0 elsewhere."""
    buffer.priorities.masses(together=True)
    batch = buffer.sample(4)
    rows, tasks = np.meshgrid(np.arange(errors.shape[1]), np.arange(TASKS))
    there = rows < buffer.sizes[:, None]
    batch.index, batch.errors = np.where(there, rows * TASKS + tasks, -1), th.from_numpy(errors)
    buffer.feedback(batch)
    return np.where(there, (np.abs(errors) + 1e-6) ** buffer.draw.alpha, 0.0)


def random_errors(rows: int = ROWS, seed: int = 3) -> np.ndarray:
    """Errors of different size in each task, ``(tasks, rows)``."""
    return np.random.default_rng(seed).exponential(1.0, (TASKS, rows)) * np.array([[0.1], [1.0], [5.0]])
