"""Starts given to reset, and the physics that they must lead to."""

import numpy as np

from qmp_envs import TaskSet
from qmp_envs.simulation.physics import State


def start_and_state(task_set: TaskSet, task_ids: np.ndarray) -> tuple[dict[str, np.ndarray], State]:
    """Reset options with a start for every slot, and the state into which they put the physics."""
    draws = np.stack([task_set.draw_reset(np.random.default_rng(9 + slot)) for slot in range(len(task_ids))])
    start = task_set.initial_state(task_ids, draws)
    physics = task_set.make_physics(task_ids)
    physics.place(np.arange(len(task_ids)), task_ids, *start)
    return dict(zip(task_set.start_names, start, strict=True)), physics.state


def assert_same_state(state: State, expected: State) -> None:
    for name, array in vars(expected).items():
        np.testing.assert_array_equal(getattr(state, name), array, err_msg=name)
