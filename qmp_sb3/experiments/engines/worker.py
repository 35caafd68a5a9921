"""What the process of one run does, on whatever machine it is: ``python -m qmp_sb3.experiments.engines.worker``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Literal

import torch as th

from qmp_sb3.experiments.engines.progress import ProgressFile
from qmp_sb3.experiments.runs.run import run
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_lock import RunInUse
from qmp_sb3.experiments.runs.run_spec import RunSpec

Ended = Literal["finished", "stopped", "failed"]
POLL_SECONDS = 0.5
"""How often a run checks whether to stop."""
PATIENCE = 60.0
"""Seconds that a run waits for the process that was at it before."""


def attend(
    spec: Mapping[str, Any],
    path: str | os.PathLike[str],
    threads: int,
    should_stop: Callable[[], bool] = bool,
    engine: str = "",
    trust: bool = False,
) -> Ended:
    """Bring a run to its end, or to a checkpoint; an error is written into its folder and raised no further.

    :param spec: what :meth:`~qmp_sb3.experiments.runs.run_spec.RunSpec.to_dict` gives
    :param path: the run's folder
    :param threads: for PyTorch
    :param should_stop: asked now and then; so is the folder (``request_stop``)
    :param engine: the name of the engine that this is for
    :param trust: as for :func:`~qmp_sb3.experiments.runs.run.run`
    """
    directory = RunDirectory(path)
    directory.path.mkdir(parents=True, exist_ok=True)
    th.set_num_threads(threads)
    poll = Poll(lambda: should_stop() or directory.stop_requested(engine))
    if poll():
        return "stopped"
    try:
        finished = _run_alone(RunSpec.from_dict(spec), directory, poll, trust)
    except RunInUse as error:
        directory.write_in_use(engine, str(error))
        return "failed"
    except Exception:
        directory.write_error(traceback.format_exc())
        return "failed"
    if finished:
        directory.tidy()
    return "finished" if finished else "stopped"


class Poll:
    """Asks a question at most every :data:`POLL_SECONDS`; a yes stays."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self.question, self.answer, self.asked = question, False, -POLL_SECONDS

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.answer and now - self.asked >= POLL_SECONDS:
            self.answer, self.asked = self.question(), now
        return self.answer


def _run_alone(spec: RunSpec, directory: RunDirectory, poll: Poll, trust: bool) -> bool:
    """Whether the run is finished; waits for a process that is still at it, as one that was told to stop may be."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return run(spec, directory.path, ProgressFile(directory), poll, trust=trust).finished
        except RunInUse:
            if poll():
                return False
            if time.monotonic() > until:
                raise
            time.sleep(POLL_SECONDS)


def main() -> int:
    """Read an order as a line of JSON from the standard input, and :func:`attend` to that run.

    SIGTERM makes it stop with a checkpoint; so does the end of that input: whoever started it is gone, or wants that.
    """
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    told = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        told.set()

    def wait_for_the_end() -> None:
        # Not sys.stdin.read(): a thread inside it would keep Python from ending.
        while os.read(0, 1024):
            pass
        told.set()

    signal.signal(signal.SIGTERM, stop)
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=wait_for_the_end, daemon=True).start()
    attend(**order, should_stop=told.is_set)
    return 0


if __name__ == "__main__":
    sys.exit(main())
