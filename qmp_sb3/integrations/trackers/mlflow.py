"""MLflow."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from qmp_sb3.integrations.trackers.tracker import Tracker

VALUES_PER_CALL = 1000
"""Metrics that the service takes at once."""
PARAMETERS_PER_CALL = 100
LONGEST_PARAMETER = 500
STATES = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
NOT_IN_KEYS = re.compile(r"[^\w\-./ ]")


class MLflowTracker(Tracker):
    """A run of MLflow, in the store that ``MLFLOW_TRACKING_URI`` names, else in MLflow's default.

    It uses a client of its own: an active run of the caller's stays as it is.
    """

    name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"

    def _start(self, title: str, config: Mapping[str, Any], folder: Path | None) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        if self.id is None:
            found = self._client.get_experiment_by_name(self.project)
            experiment = self._client.create_experiment(self.project) if found is None else found.experiment_id
            self.id = self._client.create_run(experiment, run_name=title).info.run_id
            self._log_parameters(config)
        else:
            # Parameters cannot change in MLflow; a longer run shows in the dictionary.
            self._client.update_run(self.id, status="RUNNING")
        self._client.log_dict(self.id, dict(config), "config.json")

    def _log_parameters(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        assert self.id is not None
        parameters = [Param(_key(key), str(value)[:LONGEST_PARAMETER]) for key, value in _flat(config)]
        for first in range(0, len(parameters), PARAMETERS_PER_CALL):
            self._client.log_batch(self.id, params=parameters[first : first + PARAMETERS_PER_CALL])

    def _log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        assert self.id is not None
        now = int(1000 * time.time())
        metrics = [Metric(_key(key), value, now, step) for key, value in values.items()]
        for first in range(0, len(metrics), VALUES_PER_CALL):
            self._client.log_batch(self.id, metrics=metrics[first : first + VALUES_PER_CALL])

    def _keep(self, files: Sequence[Path]) -> None:
        assert self.id is not None
        for file in files:
            self._client.log_artifact(self.id, str(file))

    def _finish(self, outcome: str) -> None:
        self._client.set_terminated(self.id, STATES[outcome])


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """``{"run": {"seed": 0}}`` as ``("run.seed", 0)``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + str(key), value


def _key(text: str) -> str:
    """Without the characters that MLflow does not allow in keys."""
    return NOT_IN_KEYS.sub("_", text)
