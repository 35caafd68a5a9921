"""The mixture that a designer would set by hand (QMP-Domain: QMP, appendix D.1)."""

from __future__ import annotations

import numpy as np

from qmp_envs.task_set import TaskSet


def shared_segments(subgoals: np.ndarray) -> np.ndarray:
    """Probability that task i uses policy j: p_ij = sum_s 1/S 1(s in T_j) / sum_k 1(s in T_k) over i's segments s.

    A segment leads from one subgoal to the next (the first one from the start); two tasks share it if it has the same
    number in their order and the same two ends. This reading gives the matrix that the paper prints.

    :param subgoals: positions, ``(tasks, segments, dimensions)``; NaN where the goal is the task's alone
    :return: ``(tasks, tasks)``, rows sum to one
    """
    tasks, segments, _ = subgoals.shape
    starts = np.concatenate([np.zeros_like(subgoals[:, :1]), subgoals[:, :-1]], axis=1)
    ways = np.concatenate([starts, subgoals], axis=2)
    same = (ways[:, None] == ways[None]).all(axis=-1)  # (tasks, tasks, segments); NaN equals nothing
    same |= np.eye(tasks, dtype=bool)[:, :, None]
    return (same / same.sum(axis=1, keepdims=True)).sum(axis=-1) / segments


def domain_table(n_tasks: int, task_set: TaskSet | None = None) -> np.ndarray:
    """:func:`shared_segments` of a task set that names its subgoals.

    :raises ValueError: if it names none
    """
    subgoals = getattr(task_set, "subgoals", None)
    if subgoals is None:
        name = "the environment" if task_set is None else f"task set {task_set.name}"
        raise ValueError(f"behavior `domain` needs the subgoals of each task, but {name} has none; give table([[...]])")
    return shared_segments(np.asarray(subgoals))
