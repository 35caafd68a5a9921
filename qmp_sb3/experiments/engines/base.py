"""What all engines have in common: which run begins when, and what happens to one that was lost."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qmp_sb3.common.validation import whole_number
from qmp_sb3.experiments.engines.board import Board
from qmp_sb3.experiments.engines.job import Job, Outcome
from qmp_sb3.experiments.engines.preflight import check_specs
from qmp_sb3.experiments.runs.run import check_content, status_of
from qmp_sb3.experiments.runs.run_spec import RunSpec

ALL = sys.maxsize
"""Runs at a time, where nothing limits them."""


class Engine(ABC):
    """Brings runs to their end, several at a time, each in a process that may die.

    A run that raises an error fails alone: its traceback is in ``error.txt`` in its folder. One whose process is
    killed resumes from its newest checkpoint, on whichever machine is free, at most ``retries`` times.

    :param jobs: runs at a time; None: as many as the machines allow
    :param threads: of each run; equal results need equal threads
    :param retries: how often a lost run is restarted
    """

    interval = 0.2
    """Seconds between two checks of the runs."""

    def __init__(self, jobs: int | None = None, threads: int = 1, retries: int = 3) -> None:
        self.jobs = None if jobs is None else whole_number("jobs", jobs, 1)
        self.threads, self.retries = whole_number("threads", threads, 1), whole_number("retries", retries, 0)
        self.name = uuid.uuid4().hex
        """Tells its processes from those of another command at the same runs; another one in each :meth:`map`."""
        self.trust = False

    def order(self, job: Job) -> dict[str, Any]:
        """What :func:`~qmp_sb3.experiments.engines.worker.attend` is told, in plain values."""
        return {
            "spec": job.spec.to_dict(),
            "path": str(job.path),
            "threads": self.threads,
            "engine": self.name,
            "trust": self.trust,
        }

    @abstractmethod
    def open(self, jobs: Sequence[Job]) -> None:
        """Prepare for runs; a wrong setting of the engine raises a ValueError here."""

    @abstractmethod
    def launch(self, jobs: Sequence[Job]) -> Sequence[Any]:
        """Start or resume runs; returns a handle for each."""

    @abstractmethod
    def ended(self, handle: Any) -> str | None:
        """How the process of a run ended, in words; None while it is waiting or at work."""

    def halt(self, job: Job, handle: Any) -> None:
        """Ask a run to save a checkpoint and end; it may take until its next rollout."""
        job.directory.request_stop(self.name)

    @abstractmethod
    def close(self, handles: Sequence[Any]) -> None:
        """Give back what :meth:`open` took; runs that are still at work are ended."""

    def places(self) -> int:
        """How many runs may be launched and not yet ended; :data:`ALL` where the cluster has a queue of its own."""
        return self.jobs or ALL

    def map(
        self,
        runs: Iterable[tuple[RunSpec, str | os.PathLike[str]]],
        should_stop: Callable[[], bool] = bool,
        board: Board | None = None,
        trust: bool = False,
    ) -> Iterator[Outcome]:
        """Bring every run to its end, and yield what became of each, in the order in which they end.

        Finished runs are only reported, unfinished ones resume; equal specs are run once. Nothing is started before
        all specs and folders were checked.

        :param runs: what to train, and the folder of each
        :param should_stop: asked several times a second; True lets every run save a checkpoint and end
        :param board: is shown the status of the runs
        :param trust: as for :func:`~qmp_sb3.experiments.runs.run.run`
        :raises ValueError: if a spec, a folder or a setting of the engine is not usable
        """
        jobs = distinct(runs)
        unfinished = [job for job in jobs if job.directory.result() is None]
        self.trust = trust
        check_specs([job.spec for job in unfinished])
        return self._map(jobs, unfinished, should_stop, board or Board())

    def _map(
        self, jobs: Sequence[Job], unfinished: Sequence[Job], should_stop: Callable[[], bool], board: Board
    ) -> Iterator[Outcome]:
        waiting, lost, at_work = deque(unfinished), Counter[Job](), dict[Job, Any]()
        earlier = {job: job.directory.error_mark() for job in unfinished}
        self.name, stopping = uuid.uuid4().hex, False
        try:
            board.start(jobs)
            if unfinished:
                self.open(unfinished)
            yield from (Outcome(job, "finished", status_of(job.directory)) for job in jobs if job not in unfinished)
            while waiting or at_work:
                if not stopping and should_stop():
                    stopping = True
                    for job, handle in at_work.items():
                        self.halt(job, handle)
                    yield from (Outcome(job, "stopped") for job in waiting)
                    waiting.clear()
                begun = [waiting.popleft() for _ in range(min(len(waiting), self.places() - len(at_work)))]
                if begun:
                    at_work.update(zip(begun, self.launch(begun), strict=True))
                for job, handle in list(at_work.items()):
                    how = self.ended(handle)
                    if how is None:
                        continue
                    del at_work[job]
                    outcome = judge(job, how, stopping, self.name, earlier[job])
                    if outcome is None and lost[job] < self.retries:
                        lost[job] += 1
                        waiting.append(job)
                        board.note(f"{job}: {how}; it resumes from its checkpoint ({lost[job]} of {self.retries})")
                        continue
                    outcome = outcome or Outcome(job, "failed", reason=f"{how}, {lost[job] + 1} times")
                    board.ended(outcome.job, outcome.state, outcome.reason)
                    yield outcome
                board.update(at_work)
                time.sleep(self.interval)
        finally:
            self.close(list(at_work.values()))
            board.stop()


def judge(job: Job, how: str, stopping: bool, engine: str, earlier: tuple[int, int] | None = None) -> Outcome | None:
    """What became of a run whose process has ended, read from its folder; None if it was lost.

    :param how: the process ended, in words
    :param stopping: whether the runs were told to stop
    :param engine: the name of the engine
    :param earlier: the mark of the error that stood there before the engine began
    """
    directory = job.directory
    if directory.result() is not None:
        return Outcome(job, "finished", status_of(directory))
    in_use = directory.take_in_use(engine)
    if in_use is not None:
        return Outcome(job, "failed", reason=in_use)
    error = directory.error() if directory.error_mark() != earlier else None
    if error is not None:
        return Outcome(job, "failed", reason=error.strip().splitlines()[-1])
    return Outcome(job, "stopped", reason=how) if stopping else None


def distinct(runs: Iterable[tuple[RunSpec, str | os.PathLike[str]]]) -> list[Job]:
    """The jobs to do: absolute folders, equal specs once.

    :raises ValueError: if two runs have one folder, or a folder holds something else
    """
    jobs: dict[str, Job] = {}
    folders: dict[Path, Job] = {}
    for spec, path in runs:
        key, plain = json.dumps(spec.to_dict(), sort_keys=True), json.loads(json.dumps(spec.to_dict()))
        if key in jobs:
            continue
        job = Job(RunSpec.from_dict(plain), Path(path).absolute())
        if job.path in folders:
            raise ValueError(f"{job.path} is the folder of two runs: {folders[job.path]}; {job}")
        check_content(job.directory, job.spec)
        jobs[key] = folders[job.path] = job
    return list(jobs.values())


def environment(threads: int) -> Mapping[str, str]:
    """Variables of a run's process: the libraries below NumPy and PyTorch read them when they are loaded."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
