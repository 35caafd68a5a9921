"""What the logger tells of the last episodes of each task."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from qmp_envs.measures import MEASURES, SHARES
from qmp_sb3.vec_env.slot_infos import flags


class EpisodeStatistics:
    """Collects, per task, the last episodes' return, length, both success rules and share of subgoals.

    :param task_names: names of the tasks
    :param num_stages: stages of a task, 0 where there are none
    :param window: how many episodes of a task the means are taken over
    """

    def __init__(self, task_names: tuple[str, ...], num_stages: int, window: int) -> None:
        self.task_names, self.num_stages = task_names, num_stages
        self._episodes: list[dict[str, deque]] = [{name: deque(maxlen=window) for name in MEASURES} for _ in task_names]
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
            episodes["return"].append(info["episode"]["r"])
            episodes["length"].append(info["episode"]["l"])
        if "success" in info:
            episodes["success_any"].append(float(self._any[slot]))
        if "is_success" in info:
            episodes["success_all"].append(float(info["is_success"]))
        if self.num_stages and "stages_completed" in info:
            episodes["subgoals"].append(info["stages_completed"] / self.num_stages)
        self._any[slot] = False

    def means(self) -> dict[str, float]:
        """``"<task>/<measure>"`` and, over the tasks that have it, ``"<measure>"``: the measures' names in the log."""
        by_task = [{name: float(np.mean(values)) for name, values in one.items() if values} for one in self._episodes]
        result = {
            f"{task}/{MEASURES[name].rollout}": mean
            for task, one in zip(self.task_names, by_task, strict=True)
            for name, mean in one.items()
        }
        for measure in SHARES:
            present = [one[measure] for one in by_task if measure in one]
            if present:
                result[MEASURES[measure].rollout] = float(np.mean(present))
        return result
