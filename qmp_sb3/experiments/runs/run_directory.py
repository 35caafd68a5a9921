"""The files of one run. Each is written beside its place and then renamed: nobody ever reads half of one.

::

    config.yaml             the run: its spec, hyper-parameters with versions, git revision and machine
    events.out.tfevents.*   TensorBoard
    evaluations.npz         per evaluation, task and episode, as SB3 and rl-zoo3 have it
    results.parquet         the same with where it comes from, see docs/results-schema.md
    mixture.parquet         who acted for whom between two evaluations
    checkpoints/            what a run resumes from, see checkpoints.py
    best_model.zip          the model of the best evaluation
    final_model.zip         the model at the end
    tracking.json           the trackers that follow the run, with the names they gave it
    result.json             written last: a run that has it is finished
    lock.json               who writes here; only while somebody does

and what engines keep there, see attended.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from qmp_envs.atomic_files import PART, remove_parts, write_json, write_text
from qmp_envs.results.table import FILE_NAME
from qmp_sb3.experiments.runs.attended import ATTENDED, Attended
from qmp_sb3.experiments.runs.checkpoints import Checkpoint, Checkpoints
from qmp_sb3.experiments.runs.run_lock import RunLock
from qmp_sb3.serialization.checkpoint_folders import read_json

_COMPLETE = {"run", "settings", "sources", "tasks", "reward", "versions", "git", "machine"}
"""What an intact ``config.yaml`` has at least."""
_LOG = logging.getLogger(__name__)


class RunDirectory(Attended):
    """The files of one run under ``path``. Reading needs nothing but the folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(Path(path))
        self.evaluations = self.path / "evaluations.npz"
        self.results = self.path / FILE_NAME
        self.mixture = self.path / "mixture.parquet"
        self.final_model = self.path / "final_model.zip"
        self.best_model = self.path / "best_model.zip"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self._config, self._result, self._lock, self._tracking = (
            self.path / name for name in ("config.yaml", "result.json", "lock.json", "tracking.json")
        )

    @property
    def is_run(self) -> bool:
        return self._config.is_file()

    @property
    def is_free(self) -> bool:
        """Whether a new run may be written here: nothing is there yet, or only what a killed run left."""
        if not self.path.exists():
            return True
        left = (self._lock.name, PART, *ATTENDED)
        return self.path.is_dir() and all(entry.name.startswith(left) for entry in self.path.iterdir())

    def config(self) -> dict[str, Any]:
        """What the run is and was made with; where the file is damaged, from the newest checkpoint.

        :raises FileNotFoundError: if there is no run
        :raises ValueError: if the file is damaged, and there is no checkpoint either
        """
        config = self._written_config() or self.checkpoints.newest_config()
        if config is None:
            raise ValueError(f"{self._config} is damaged, and no checkpoint holds a copy: choose another folder")
        return config

    def _written_config(self) -> dict[str, Any] | None:
        """What stands in ``config.yaml``, None where that is damaged."""
        try:
            config = yaml.safe_load(self._config.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} holds no run (no config.yaml)") from None
        except (yaml.YAMLError, UnicodeDecodeError):
            return None
        return config if isinstance(config, dict) and config.keys() >= _COMPLETE else None

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_text(self._config, text)

    def result(self) -> dict[str, Any] | None:
        """The finished run's result; None while it is not finished, or where it has to be written again."""
        if not self._result.is_file():
            return None
        result = read_json(self._result)
        if not isinstance(result, dict) or not result.keys() >= {"run", "steps", "seconds", "tasks"}:
            _LOG.warning("%s is damaged: the end of the run is repeated from its last checkpoint", self._result)
            return None
        config = self._written_config() if self.is_run else None
        if config is not None and _differ(result["run"], config["run"]):
            _LOG.warning("%s is of another run than config.yaml, which was extended: it resumes", self._result)
            return None
        return result

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_json(self._result, dict(result))

    def tracking(self) -> Any:
        """The trackers of the run, as :meth:`write_tracking` got them; whatever else a damaged file says."""
        return read_json(self._tracking) if self._tracking.is_file() else []

    def write_tracking(self, trackers: list[dict[str, Any]]) -> None:
        write_json(self._tracking, trackers)

    def products(self) -> list[Path]:
        """Those files of a finished run that are worth keeping elsewhere."""
        numbers = (self._config, self._result, self.evaluations, self.results, self.mixture)
        return [file for file in (*numbers, self.best_model, self.final_model) if file.is_file()]

    def discard_result(self) -> None:
        """The run resumes: it is no longer finished, and its final model is no longer final."""
        self._result.unlink(missing_ok=True)
        self.final_model.unlink(missing_ok=True)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint whose files are intact, None where there is none.

        :raises DamagedCheckpoints: if there are some but none is intact
        """
        return self.checkpoints.newest()

    def newest_model(self) -> Path:
        """The final model, or the newest checkpoint's where the run did not end."""
        final = self.final_model if self.final_model.is_file() else None
        if final is not None and self.result() is not None:
            return final
        newest = self.checkpoints.newest_model() or final
        if newest is None:
            raise FileNotFoundError(f"{self.path} holds no model yet")
        return newest

    def lock(self) -> RunLock:
        """Keep other processes from writing here, until it is released.

        :raises RunInUse: if another process does
        """
        self.path.mkdir(parents=True, exist_ok=True)
        return RunLock(self._lock)

    def repair(self) -> None:
        """Before a run resumes: remove what a killed process left half-written, and write a damaged
        ``config.yaml`` again.
        """
        remove_parts(self.path)
        self.checkpoints.tidy()
        if self.is_run and self._written_config() is None:
            self.write_config(self.config())
            _LOG.warning("%s was damaged: written again from the newest checkpoint", self._config)


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two descriptions of a run contradict each other, as JSON has them; NaN equals NaN."""

    def plain(value: Any) -> str:
        return json.dumps(json.loads(json.dumps(value, default=str)), sort_keys=True)

    return any(plain(one[key]) != plain(other[key]) for key in one.keys() & other.keys())
