"""How much the loss of each task counts: L = sum_i c_i L_i, with L_i the mean over the task's own transitions."""

from __future__ import annotations

from collections.abc import Callable

import torch as th


def task_sum(counts: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """c_i = 1 for tasks with data: N separate learners, where each network sees only its own L_i.

    :param counts: transitions of each task in the batch, ``(tasks,)``
    :param temperature: alpha of each task, ``(tasks,)``
    :return: c, ``(tasks,)``
    """
    return (counts > 0).to(temperature.dtype)


def sample_mean(counts: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """c_i = n_i / B: every transition counts the same (the released QMP code, for networks that tasks share)."""
    return counts.to(temperature.dtype) / counts.sum()


def task_mean(counts: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """c_i = 1 / N over the tasks with data."""
    return sample_mean(counts > 0, temperature)


def temperature_weighted(counts: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """c = softmax(-log alpha) over the tasks with data: tasks that explore little count more (Soft Modularization)."""
    inverse = task_sum(counts, temperature) / temperature
    return inverse / inverse.sum()


#: name -> function of the counts and temperatures
TASK_WEIGHTS: dict[str, Callable[[th.Tensor, th.Tensor], th.Tensor]] = {
    "sum": task_sum,
    "mean": sample_mean,
    "taskmean": task_mean,
    "alpha": temperature_weighted,
}
