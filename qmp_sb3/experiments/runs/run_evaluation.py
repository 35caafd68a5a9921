"""The evaluation of a run, which writes the run's results and mixture."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from qmp_envs.evaluation import Evaluation
from qmp_envs.results.table import Results
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.evaluation import MultiTaskEvalCallback
from qmp_sb3.experiments.runs import mixture
from qmp_sb3.experiments.runs.mixture import Mixture
from qmp_sb3.experiments.runs.provenance import about_run
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_lock import RunLock
from qmp_sb3.experiments.runs.run_spec import RunSpec

EVALUATION_SEED_OFFSET = 1_000_003
"""Evaluation episodes are drawn from other seeds than training episodes."""


class Stopwatch:
    """Wall time of a whole run in seconds.

    :param before: what it took until now
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before, self._began = before, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began


class RunEvaluation(MultiTaskEvalCallback):
    """An evaluation that neither begins nor is written once another process has taken the run over.

    :param lock: of the run
    :param watch: tells the training time that stands in the results
    """

    def __init__(self, spec: RunSpec, directory: RunDirectory, lock: RunLock, watch: Stopwatch) -> None:
        super().__init__(
            spec.env,
            eval_freq=spec.eval_every,
            n_eval_episodes=spec.eval_episodes,
            log_path=directory.path,
            best_model_save_path=directory.path,
            seed=EVALUATION_SEED_OFFSET + spec.seed,
            env_kwargs=spec.task_set_options,
        )
        self.spec, self.directory, self.lock, self.watch = spec, directory, lock, watch
        self._mixture: Mixture | None = None

    def evaluate(self) -> bool:
        self.lock.check()
        return super().evaluate()

    def snapshot(self) -> dict[str, Any]:
        points = self._mixture
        return {**super().snapshot(), "mixture": None if points is None else dataclasses.asdict(points)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        self._mixture = None if snapshot["mixture"] is None else Mixture(**snapshot["mixture"])
        super().restore(snapshot)

    def _keep(self, rows: Results) -> None:
        model = self.model
        assert isinstance(model, MultiTaskOffPolicyAlgorithm)
        if len(model.candidates) > 1:
            points = self._mixture or mixture.empty(model.task_names, model.candidates)
            self._mixture = points.with_point(model.num_timesteps, model.behavior.counts)
        super()._keep(rows)

    def _rows(self, policy: str, evaluation: Evaluation) -> Results:
        spec, seconds = self.spec, round(self.watch.seconds, 3)
        return Results.of(evaluation, spec.env, spec.method, spec.seed, self.num_timesteps, policy, seconds)

    def _write(self) -> None:
        self.lock.check()
        if self.results is not None:
            about = about_run(self.directory.config(), float(self.results.column("seconds").max()))
            self.results = Results(self.results.table, about)
            if self._mixture is not None:
                dataclasses.replace(self._mixture, about=about).write(self.directory.mixture)
        super()._write()
