"""Which task does each slot of a VecEnv run?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from qmp_envs import BatchedTaskSetEnv
from qmp_envs.task_set import TaskSet
from qmp_sb3.vec_env.multitask_vec_env import MultiTaskVecEnv


@dataclass(frozen=True)
class TaskSlots:
    """The tasks of a VecEnv and where they run.

    :param names: names of the tasks; a model has a policy for each
    :param fixed: task of each slot ``(slots,)``, or None if it changes at every reset
    :param env: where the reset infos of changing tasks are
    :param num_stages: stages of a task, 0 where there are none
    :param task_set: the task set behind all of the tasks, where it is one of ours
    """

    names: tuple[str, ...]
    fixed: np.ndarray | None
    env: VecEnv
    num_stages: int = 0
    task_set: TaskSet | None = None

    def now(self) -> np.ndarray:
        """The task of the episode that each slot is in, ``(slots,)``."""
        if self.fixed is not None:
            return self.fixed
        return np.array([info.get("task_id", 0) for info in self.env.reset_infos], dtype=np.int64)

    def batched(self) -> BatchedTaskSetEnv:
        """The environment that keeps the columns of its steps.

        :raises ValueError: if this is another one
        """
        envs = getattr(getattr(self.env, "envs", None), "unwrapped", None)
        if not isinstance(envs, BatchedTaskSetEnv):
            raise ValueError("transitions can be rewarded anew only from gym.make_vec or an id of the suite")
        return envs

    def columns(self) -> Mapping[str, np.ndarray]:
        """The task set's ``relabel_columns`` of the step just made, ``(slots, ...)`` each."""
        outcome = self.batched().last_outcome
        assert outcome is not None, "there was no step yet"
        return outcome.columns

    @classmethod
    def of(cls, env: VecEnv) -> TaskSlots:
        """Of any VecEnv. An environment that names no tasks is one task, and its slots are copies of it."""
        base = env.unwrapped
        if isinstance(base, MultiTaskVecEnv):
            return cls(base.task_names, base.task_ids, base, base.num_stages, base.task_set)
        if not (base.has_attr("task_names") and base.has_attr("fixed_task")):
            return cls(("task-0",), np.zeros(base.num_envs, dtype=np.int64), base)
        names, fixed = tuple(base.get_attr("task_names")[0]), base.get_attr("fixed_task")
        num_stages = base.get_attr("num_stages")[0]
        task_set = base.get_attr("task_set")[0] if isinstance(base, DummyVecEnv) else None
        if any(task is None for task in fixed):
            return cls(names, None, base, num_stages, task_set)
        active, task_ids = np.unique(fixed, return_inverse=True)
        whole = task_set if len(active) == len(names) else None
        return cls(tuple(names[task] for task in active), task_ids, base, num_stages, whole)
