"""Writes a run's results and mixture at every evaluation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qmp_envs.evaluation import Evaluation
from qmp_envs.results.table import COLUMNS, Results
from qmp_sb3.algorithms.sac import MultiTaskSAC
from qmp_sb3.experiments.runs import mixture
from qmp_sb3.experiments.runs.evaluations_file import results_of_evaluations
from qmp_sb3.experiments.runs.mixture import Mixture
from qmp_sb3.experiments.runs.provenance import about_run
from qmp_sb3.experiments.runs.run_directory import RunDirectory


class Recorder:
    """Adds the evaluations of a run to its files, which are complete at any time.

    :param directory: of the run
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self._results: Results | None = None
        self._mixture: Mixture | None = None
        self._seconds: dict[int, float] = {}

    def add(self, model: MultiTaskSAC, seconds: float, own: Evaluation, mixed: Evaluation | None) -> None:
        """Write the files with one more evaluation.

        :param model: as it was evaluated
        :param seconds: wall time of the training so far
        :param own: of the tasks' own policies
        :param mixed: of the mixture, None where there is none
        """
        step, run = model.num_timesteps, self.directory.config()["run"]
        self._seconds[step] = round(seconds, 3)
        for policy, evaluation in (("own", own), ("mixture", mixed)):
            if evaluation is not None:
                rows = Results.of(evaluation, run["env"], run["method"], run["seed"], step, policy, self._seconds[step])
                self._results = rows if self._results is None else self._results.with_rows(rows)
        if len(model.candidates) > 1:
            self._mixture = self._mixture or mixture.empty(model.task_names, model.candidates)
            self._mixture = self._mixture.with_point(step, model.behavior.counts)
        self._write()

    def snapshot(self) -> dict[str, Any]:
        """What a checkpoint has to keep besides the evaluations themselves, as plain values."""
        points = self._mixture
        return {
            "seconds": dict(self._seconds),
            "mixture": None if points is None else {"steps": points.steps, "acted": points.acted},
        }

    def restore(self, model: MultiTaskSAC, snapshot: dict[str, Any]) -> None:
        """Resume from a checkpoint, whatever the files hold; they are written again.

        :param model: of the checkpoint
        :param snapshot: of :meth:`snapshot`; ``evaluations.npz`` has been restored already
        """
        self._seconds = dict(snapshot["seconds"])
        if not self._seconds:
            return
        results = results_of_evaluations(self.directory.path)
        seconds = np.array([self._seconds[step] for step in results.column("step").tolist()])
        self._results = Results(
            results.table.set_column(COLUMNS.names.index("seconds"), COLUMNS.field("seconds"), [seconds]), {}
        )
        if snapshot["mixture"] is not None:
            self._mixture = replace(mixture.empty(model.task_names, model.candidates), **snapshot["mixture"])
        self._write()

    def _write(self) -> None:
        about = about_run(self.directory.config(), max(self._seconds.values()))
        if self._results is not None:
            Results(self._results.table, about).write(self.directory.results)
        if self._mixture is not None:
            replace(self._mixture, about=about).write(self.directory.mixture)
