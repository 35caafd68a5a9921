"""What follows a run elsewhere: the contract of a tracker, and that none of them can stop a training."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from stable_baselines3.common.logger import KVWriter

NUMBER = (int, float, np.integer, np.floating)
LOG = logging.getLogger("qmp_sb3")


class Tracker(KVWriter, ABC):
    """A log writer that hands every logged number to a tracking service, from :meth:`start` to :meth:`finish`.

    Whatever goes wrong is said once, as a warning of the logger ``qmp_sb3``; from then on the tracker does nothing,
    and training continues. A subclass may raise in all it does.

    :param project: name under which the service groups runs (MLflow: the experiment)
    :param id: of the tracked run to resume; None begins a new one
    """

    name: ClassVar[str]
    """On the command line."""
    package: ClassVar[str]
    """What ``pip install`` takes."""

    def __init__(self, project: str = "qmp", id: str | None = None) -> None:
        self.project, self.id = project, id
        self.running = False

    def start(self, title: str, config: Mapping[str, Any], folder: Path | None = None) -> None:
        """Start the tracked run, or resume the one called :attr:`id`, which is set by this.

        :param title: what the service shows as the run's name
        :param config: nested plain values
        :param folder: for files of the service's own; None leaves that to it
        """
        self.running = True
        self._attempt("beginning", lambda: self._start(title, config, folder))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """What SB3's logger dumps; keys that are kept from TensorBoard are kept from here too.

        :param step: environment steps, all tasks together
        """
        values = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, NUMBER) and "tensorboard" not in (key_excluded.get(key) or ())
        }
        self._attempt("logging", lambda: self._log(values, step))

    def keep(self, files: Sequence[Path]) -> None:
        """Upload the files as the run's artifacts."""
        self._attempt("saving files", lambda: self._keep(files))

    def finish(self, outcome: str = "finished") -> None:
        """End the tracked run.

        :param outcome: ``"finished"``, ``"stopped"`` (it can resume) or ``"failed"``
        """
        self._attempt("ending", lambda: self._finish(outcome))
        self.running = False

    def close(self) -> None:
        """The end of the logger is not that of the run: files may still follow. :meth:`finish` ends it."""

    def _attempt(self, doing: str, action: Callable[[], Any]) -> None:
        if not self.running:
            return
        try:
            action()
        except ModuleNotFoundError as error:
            self.running = False
            missing = f"{error.name} is not installed (pip install {self.package})"
            LOG.warning("This run is not tracked by %s: %s.", self.name, missing)
        except Exception as error:  # a service has as many errors as it has releases; none is worth the run
            self.running = False
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            LOG.warning("%s failed while %s (%s); training continues without it.", self.name, doing, reason)

    # ---- what a service does ----

    @abstractmethod
    def _start(self, title: str, config: Mapping[str, Any], folder: Path | None) -> None:
        """Start or resume; set :attr:`id`."""

    @abstractmethod
    def _log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""

    @abstractmethod
    def _keep(self, files: Sequence[Path]) -> None:
        """Upload files."""

    @abstractmethod
    def _finish(self, outcome: str) -> None:
        """End."""
