"""Runs as processes of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from subprocess import Popen

from qmp_sb3.experiments.engines.base import Engine, environment
from qmp_sb3.experiments.engines.job import Job

END_SECONDS = 5.0
"""How long runs may take to end when the engine is closed early, before they are killed."""


class Local(Engine):
    """A fresh Python interpreter for every run, with its own number of threads.

    A process ends with a checkpoint when it gets SIGTERM, and when the process of the engine is gone.

    :param jobs: runs at a time (default: cores divided by threads)
    :param threads: of each run
    :param retries: how often a run whose process was killed is restarted
    """

    def open(self, jobs: Sequence[Job]) -> None:
        """Nothing to make ready."""

    def places(self) -> int:
        return self.jobs or max(1, cores() // self.threads)

    def launch(self, jobs: Sequence[Job]) -> Sequence[Popen[str]]:
        return [self._process(job) for job in jobs]

    def ended(self, handle: Popen[str]) -> str | None:
        code = handle.poll()
        if code is None:
            return None
        _let_go(handle)
        if code < 0:
            return f"its process was killed ({signal.Signals(-code).name})"
        return f"its process ended with exit code {code}"

    def halt(self, job: Job, handle: Popen[str]) -> None:
        _let_go(handle)

    def close(self, handles: Sequence[Popen[str]]) -> None:
        for handle in handles:
            handle.terminate()
        until = time.monotonic() + END_SECONDS
        for handle in handles:
            try:
                handle.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                handle.kill()
                handle.wait()
            _let_go(handle)

    def _process(self, job: Job) -> Popen[str]:
        job.path.mkdir(parents=True, exist_ok=True)
        with job.directory.log.open("ab") as log:
            process = Popen(
                [sys.executable, "-m", "qmp_sb3.experiments.engines.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, **environment(self.threads)},
                # Ctrl-C in a terminal goes to a whole group of processes; the runs learn of it from the engine.
                process_group=0,
            )
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which ended() will report
            process.stdin.write(json.dumps(self.order(job)) + "\n")
            process.stdin.flush()
        return process


def _let_go(process: Popen[str]) -> None:
    """Close the pipe by which a run notices that it is no longer wanted."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
