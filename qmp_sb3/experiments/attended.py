"""The files by which an engine and the process of a run know of each other, wherever that process is.

::

    .progress.json   how the run stands; while it is at work
    .stop            a request to save a checkpoint and end
    .task            the number that a cluster gave to the run's newest task
    error.txt        the traceback that ended the run
    worker.log       what its process printed, on this machine
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qmp_sb3.experiments.whole_files import PART, write_text

ATTENDED = (".progress.json", ".stop", ".task", "error.txt", "worker.log")
"""A folder that holds nothing else is free for a new run."""


class Attended:
    """The part of a run directory that engines use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress, self._stop, self._task, self._error, self.log = (path / name for name in ATTENDED)

    def error(self) -> str | None:
        """The traceback that ended the run, None unless an error did."""
        return _read_text(self._error)

    def write_error(self, text: str) -> None:
        write_text(self._error, text)

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Whole at any time, but not worth waiting for the disk."""
        part = self.path / f"{PART}progress"
        part.write_text(json.dumps(dict(progress)) + "\n", encoding="utf-8")
        os.replace(part, self.progress)

    def request_stop(self) -> None:
        """Ask the process at work, on whatever machine it is, to save a checkpoint and end."""
        self._stop.touch()

    def stop_requested(self) -> bool:
        return self._stop.exists()

    def task(self) -> str | None:
        """The number that a cluster gave to the run's newest task."""
        return _read_text(self._task)

    def write_task(self, number: str) -> None:
        write_text(self._task, number)

    def forget(self) -> None:
        """A new attempt begins: requests and errors of earlier ones no longer count."""
        for file in (self._stop, self._error, self.progress):
            file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """The run is finished: what only said how it stood goes."""
        for file in (self.progress, self._task):
            file.unlink(missing_ok=True)
        if self.log.is_file() and self.log.stat().st_size == 0:
            self.log.unlink()


def _read_text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
