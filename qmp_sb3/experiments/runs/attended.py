"""The files by which an engine and the process of a run know of each other, wherever that process is.

::

    .progress.json   the status of the run, while it is at work
    .stop-NAME       a request to the processes of one engine to save a checkpoint and end; .stop: to any process
    .in-use-NAME     why the process of one engine could not begin: another one is at the run
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

from qmp_envs.atomic_files import PART, write_text

ATTENDED = (".progress.json", ".stop", ".in-use", ".task", "error.txt", "worker.log")
"""A folder that holds nothing else, by the beginnings of names, is free for a new run."""


class Attended:
    """The part of a run directory that engines use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.progress, self._stop, self._in_use, self._task, self._error, self.log = (path / name for name in ATTENDED)

    def error(self) -> str | None:
        """The traceback that ended the run, None unless an error did."""
        return _read_text(self._error)

    def write_error(self, text: str) -> None:
        write_text(self._error, text)

    def error_mark(self) -> tuple[int, int] | None:
        """What tells one error from the next, even of the same text; None where there is none."""
        try:
            status = self._error.stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_ino

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Written in one step, but not worth waiting for the disk."""
        part = self.path / f"{PART}progress"
        part.write_text(json.dumps(dict(progress)) + "\n", encoding="utf-8")
        os.replace(part, self.progress)

    def request_stop(self, engine: str = "") -> None:
        """Ask the process at work, on whatever machine it is, to save a checkpoint and end.

        :param engine: whose process it has to be; empty: anybody's
        """
        _of(self._stop, engine).touch()

    def stop_requested(self, engine: str = "") -> bool:
        """Whether a process of ``engine`` is to stop."""
        return self._stop.exists() or _of(self._stop, engine).exists()

    def write_in_use(self, engine: str, text: str) -> None:
        """Tell ``engine`` that its process could not begin; whoever is at the run does not hear of it."""
        write_text(_of(self._in_use, engine), text)

    def take_in_use(self, engine: str) -> str | None:
        """What :meth:`write_in_use` told, once."""
        text = _read_text(_of(self._in_use, engine))
        _of(self._in_use, engine).unlink(missing_ok=True)
        return text

    def task(self) -> str | None:
        """The number that a cluster gave to the run's newest task."""
        return _read_text(self._task)

    def write_task(self, number: str) -> None:
        write_text(self._task, number)

    def forget(self) -> None:
        """A new attempt begins, which has the run's lock: what earlier ones left no longer counts."""
        for file in (self._error, self.progress):
            file.unlink(missing_ok=True)

    def tidy(self) -> None:
        """The run is finished: what only said how it stood goes."""
        for file in (self.progress, self._task, *self.path.glob(f"{self._stop.name}*")):
            file.unlink(missing_ok=True)
        if self.log.is_file() and self.log.stat().st_size == 0:
            self.log.unlink()


def _of(file: Path, engine: str) -> Path:
    """The file that is for one engine only."""
    return file.with_name(f"{file.name}-{engine}") if engine else file


def _read_text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
