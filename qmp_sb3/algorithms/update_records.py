"""What is logged of the updates: ``train/...``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch as th

if TYPE_CHECKING:
    from qmp_sb3.algorithms.sac import MultiTaskSAC


def record_updates(model: MultiTaskSAC, means: th.Tensor) -> None:
    """Record means over the tasks, and each task's own values where there are several.

    :param means: temperature, critic and actor loss and alpha, ``(4, tasks)``
    """
    names = ("ent_coef_loss", "critic_loss", "actor_loss", "ent_coef")
    by_measure = dict(zip(names, means.cpu().numpy(), strict=True))
    if model.log_ent_coef is None:
        del by_measure["ent_coef_loss"]
    kept = model.sharing.kept()
    if kept is not None:
        by_measure["shared_data"] = kept
    priorities = model.replay_buffer.mean_priorities()
    if priorities is not None:
        by_measure["priority"] = priorities
    record = model.logger.record
    for measure, value in model.draw.measures().items():
        record(f"train/{measure}", value)
    record("train/n_updates", model._n_updates, exclude="tensorboard")
    learning = np.flatnonzero(model.replay_buffer.sizes).tolist()  # tasks that have data
    for measure, by_task in by_measure.items():
        values = by_task[learning].tolist()
        record(f"train/{measure}", sum(values) / len(values))
        for task, value in zip(learning, values, strict=True) if model.n_tasks > 1 else ():
            record(f"train/{model.task_names[task]}/{measure}", value, exclude="stdout")
