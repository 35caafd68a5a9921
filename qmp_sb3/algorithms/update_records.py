"""What is logged of the updates: ``train/...``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from stable_baselines3.common.logger import Logger


def record_updates(
    logger: Logger,
    by_measure: Mapping[str, np.ndarray],
    totals: Mapping[str, float],
    task_names: tuple[str, ...],
    learning: np.ndarray,
) -> None:
    """Record means over the tasks, and each task's own values where there are several.

    :param by_measure: name -> value of each task, ``(tasks,)``
    :param totals: name -> value that belongs to no task
    :param learning: the tasks that have data, ``(tasks,)`` bool
    """
    for measure, total in totals.items():
        logger.record(f"train/{measure}", total, exclude="tensorboard" if measure == "n_updates" else None)
    tasks = np.flatnonzero(learning).tolist()
    for measure, by_task in by_measure.items():
        values = by_task[tasks].tolist()
        logger.record(f"train/{measure}", sum(values) / len(values))
        for task, value in zip(tasks, values, strict=True) if len(task_names) > 1 else ():
            logger.record(f"train/{task_names[task]}/{measure}", value, exclude="stdout")
