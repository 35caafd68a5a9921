"""What the logger tells of the last episodes of each task."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from qmp_sb3.vec_env.slot_infos import flags

_SHARES = ("success_any", "success_all", "subgoals")
_MEASURES = ("ep_rew_mean", "ep_len_mean", *_SHARES)


class EpisodeStatistics:
    """Collects, per task, the last episodes' return, length, both success rules and share of stages.

    :param task_names: names of the tasks
    :param num_stages: stages of a task, 0 where there are none
    :param window: how many episodes of a task the means are taken over
    """

    def __init__(self, task_names: tuple[str, ...], num_stages: int, window: int) -> None:
        self.task_names, self.num_stages = task_names, num_stages
        self._episodes: list[dict[str, deque]] = [
            {measure: deque(maxlen=window) for measure in _MEASURES} for _ in task_names
        ]
        self._any: np.ndarray = np.zeros(0, dtype=bool)

    def restart(self) -> None:
        """All slots begin an episode: what they did in the ones that were cut off no longer counts."""
        self._any[:] = False

    def update(self, infos: list[dict[str, Any]], dones: np.ndarray, tasks: np.ndarray) -> None:
        """Take in one vector step: the slots' infos, ``(slots,)`` dones and tasks."""
        success = flags(infos, "success")
        self._any = success if len(self._any) != len(success) else self._any | success
        for slot in np.flatnonzero(dones).tolist():
            self._finish(slot, infos[slot], self._episodes[tasks[slot]])

    def _finish(self, slot: int, info: dict[str, Any], episodes: dict[str, deque]) -> None:
        if "episode" in info:
            episodes["ep_rew_mean"].append(info["episode"]["r"])
            episodes["ep_len_mean"].append(info["episode"]["l"])
        if "success" in info:
            episodes["success_any"].append(float(self._any[slot]))
        if "is_success" in info:
            episodes["success_all"].append(float(info["is_success"]))
        if self.num_stages and "stages_completed" in info:
            episodes["subgoals"].append(info["stages_completed"] / self.num_stages)
        self._any[slot] = False

    def means(self) -> dict[str, float]:
        """``"<task>/<measure>"`` and, over the tasks that have it, ``"<measure>"``."""
        by_task = [{key: float(np.mean(values)) for key, values in one.items() if values} for one in self._episodes]
        result = {
            f"{name}/{key}": mean
            for name, one in zip(self.task_names, by_task, strict=True)
            for key, mean in one.items()
        }
        for measure in _SHARES:
            present = [one[measure] for one in by_task if measure in one]
            if present:
                result[measure] = float(np.mean(present))
        return result
