"""How the losses of the tasks become one number."""

from __future__ import annotations

from collections.abc import Callable

import torch as th


def task_sum(losses: th.Tensor, present: th.Tensor | None = None) -> th.Tensor:
    """L = sum_i L_i over the tasks that have data: N separate learners, since each network sees only its own L_i.

    :param losses: ``(tasks,)``
    :param present: which tasks count, ``(tasks,)``; None for all
    """
    return losses.sum() if present is None else th.where(present, losses, 0.0).sum()


#: name -> function of the per-task losses (and the tasks that have data)
TASK_WEIGHTS: dict[str, Callable[[th.Tensor, th.Tensor | None], th.Tensor]] = {"sum": task_sum}
