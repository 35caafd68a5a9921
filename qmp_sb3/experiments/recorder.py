"""Writes a run's results and mixture at every evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from qmp_envs.evaluation import Evaluation
from qmp_envs.results import Results
from qmp_sb3 import MultiTaskSAC
from qmp_sb3.experiments import mixture
from qmp_sb3.experiments.evaluations_file import results_of_evaluations
from qmp_sb3.experiments.mixture import Mixture
from qmp_sb3.experiments.provenance import about_run
from qmp_sb3.experiments.run_directory import RunDirectory

_LOG = logging.getLogger(__name__)
Kept = TypeVar("Kept", Results, Mixture)


class Recorder:
    """Adds the evaluations of a run to its files, which are whole at any time.

    A run that goes on keeps the evaluations before its first new one.

    :param directory: of the run
    """

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self._results: Results | None = None
        self._mixture: Mixture | None = None

    def add(self, model: MultiTaskSAC, seconds: float, own: Evaluation, mixed: Evaluation | None) -> None:
        """Write the files with one more evaluation.

        :param model: as it was evaluated
        :param seconds: wall time of the training so far
        :param own: of the tasks' own policies
        :param mixed: of the mixture, None where there is none
        """
        step, config = model.num_timesteps, self.directory.config()
        about = about_run(config, round(seconds, 3))
        run = config["run"]
        for policy, evaluation in (("own", own), ("mixture", mixed)):
            if evaluation is not None:
                rows = Results.of(evaluation, run["env"], run["method"], run["seed"], step, policy, about["seconds"])
                rows = Results(rows.table, about)
                before = self._kept_results(step) if self._results is None else self._results
                self._results = rows if before is None else Results(before.with_rows(rows).table, about)
        assert self._results is not None
        self._results.write(self.directory.results)
        if len(model.candidates) > 1:
            points = self._kept_mixture(model, step) if self._mixture is None else self._mixture
            self._mixture = replace(points, about=about).with_point(step, model.behavior.counts)
            self._mixture.write(self.directory.mixture)

    def _kept_results(self, step: int) -> Results | None:
        kept = _read(Results.read, self.directory.results)
        if kept is None:
            kept = _read(results_of_evaluations, self.directory.path)
        return None if kept is None else kept.until(step - 1)

    def _kept_mixture(self, model: MultiTaskSAC, step: int) -> Mixture:
        begin = mixture.empty(model.task_names, model.candidates, {})
        kept = _read(Mixture.read, self.directory.mixture)
        fits = kept is not None and (kept.tasks, kept.candidates) == (begin.tasks, begin.candidates)
        return kept.before(step) if kept is not None and fits else begin


def _read(read: Callable[[Path], Kept], path: Path) -> Kept | None:
    """What is there; None where nothing is, or where it is damaged, which is said."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        _LOG.warning("%s; what can be had from other files is written again", error)
        return None
