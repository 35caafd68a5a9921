"""A run directory as something that acts: for evaluation and films."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qmp_envs
from qmp_envs.evaluation import Evaluation, evaluate
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.evaluation import OwnPolicy
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.experiments.runs.video import film
from qmp_sb3.methods import presets


@dataclass(frozen=True)
class TrainedRun:
    """The newest model of a run: the final one, or the newest checkpoint's."""

    spec: RunSpec
    model: MultiTaskOffPolicyAlgorithm
    task_names: tuple[str, ...]

    @classmethod
    def open(cls, path: str | os.PathLike[str], trust: bool = False) -> TrainedRun:
        """Load a run directory.

        :param path: its folder
        :param trust: load what is pickled, too, and import the module of a task set from elsewhere; both run code
            that the run names or brings along
        :raises FileNotFoundError: where there is no run or no model yet
        :raises UntrustedFile: without ``trust``, if something is pickled or is to be imported
        """
        directory = RunDirectory(path)
        spec = RunSpec.from_file(directory.config(), path, trust)
        model = presets.method(spec.method).algorithm.load(directory.newest_model(), trust=trust)
        return cls(spec, model, model.task_names)

    @property
    def steps(self) -> int:
        """Environment steps that the model was trained for, all tasks together."""
        return self.model.num_timesteps

    def tasks(self, task: str | None) -> list[int]:
        """The index of a task given by name or number; all tasks for None."""
        if task is None:
            return list(range(len(self.task_names)))
        task_set = qmp_envs.make_task_set(self.spec.env, **self.spec.task_set_options)
        return [task_set.task_id(int(task) if task.isdigit() else task)]

    def evaluate(self, episodes: int, seed: int) -> Evaluation:
        """``episodes`` of every task, by its own deterministic policy."""
        return evaluate(
            OwnPolicy(self.model),
            self.spec.env,
            seeds=(seed,),
            episodes=episodes,
            **self.spec.task_set_options,
        )

    def film(self, tasks: Sequence[int], out: Path, seed: int, size: int) -> int:
        """Film one episode of each task, in squares of ``size`` pixels; returns the number of frames."""

        def act(observation: np.ndarray, task: int) -> np.ndarray:
            return self.model.predict(observation, task=task, deterministic=True)[0]

        return film(self.spec.env, tasks, act, out, seed, size, **self.spec.task_set_options)
