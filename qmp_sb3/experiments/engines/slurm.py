"""Runs as jobs of a SLURM cluster, through submitit; ``cluster="local"`` is the same path on this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from qmp_sb3.common.validation import one_of, whole_number
from qmp_sb3.experiments.engines.base import ALL, Engine, environment
from qmp_sb3.experiments.engines.job import Job
from qmp_sb3.experiments.engines.local import cores
from qmp_sb3.experiments.engines.worker import attend
from qmp_sb3.experiments.runs.run_directory import RunDirectory

WARNING_SECONDS = 180
"""How long before its end a task is warned: time for a rollout, an evaluation and a checkpoint."""
GRACE_SECONDS = 120.0
"""A run that has not reached its next rollout by then is queued again, to resume from its newest checkpoint."""


@dataclass(frozen=True)
class Task:
    """What a task of the array does: a run until it ends, or until SLURM wants the machine back.

    :param order: of the engine, see :meth:`~qmp_sb3.experiments.engines.base.Engine.order`
    """

    order: Mapping[str, Any]

    def __call__(self) -> None:
        warning = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
        requeue = signal.getsignal(warning)  # submitit's: puts the task back into the queue and ends the process
        assert callable(requeue)
        received: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if number == warning:
                signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

        signal.signal(signal.SIGALRM, lambda number, frame: requeue(warning, frame))
        for number in (warning, signal.SIGTERM):
            signal.signal(number, note)
        ended = attend(**self.order, should_stop=lambda: bool(received))
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if ended == "stopped" and warning in received:
            try:
                requeue(warning, None)
            except Exception as error:
                # The last time limit that it was granted.
                RunDirectory(self.order["path"]).write_error(str(error))

    def checkpoint(self) -> Any:
        """What submitit queues again: the same task, since a run finds its own checkpoint."""
        return _import().helpers.DelayedSubmission(self)


class Slurm(Engine):
    """One array job. Each run is a task of it; on preemption and at its time limit it is queued again, and resumes.

    The folder of the runs has to be one that all nodes see under the same path.

    :param jobs: tasks of the array at a time (default: no limit; cores divided by threads for ``cluster="local"``)
    :param threads: of each run, and as many CPUs
    :param retries: how often a run may be lost, or run into its time limit, and resume
    :param cluster: ``"slurm"``, or ``"local"`` for processes of this machine that behave like it
    :param minutes: time limit of a task
    :param gpus: of each task
    :param memory_gb: of each task
    :param partition: as sbatch has it; None: the cluster's default
    :param options: further options of sbatch without their dashes, such as ``{"account": "robots", "qos": "low"}``
    """

    interval = 1.0

    def __init__(
        self,
        jobs: int | None = None,
        threads: int = 1,
        retries: int = 3,
        cluster: str = "slurm",
        minutes: int = 24 * 60,
        gpus: int = 0,
        memory_gb: float = 4.0,
        partition: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(jobs, threads, retries)
        self.cluster = one_of("cluster", cluster, ("slurm", "local"))
        self.minutes, self.gpus = whole_number("minutes", minutes, 1), whole_number("gpus", gpus, 0)
        if memory_gb <= 0.0:
            raise ValueError(f"memory_gb is {memory_gb}; it must be positive")
        self.memory_gb, self.partition, self.options = memory_gb, partition, dict(options or {})
        self._submitted: set[str] = set()
        self._left: set[str] = set()

    def open(self, jobs: Sequence[Job]) -> None:
        submitit = _import()
        folder = jobs[0].path.parent / ".slurm"
        try:
            self.executor = submitit.AutoExecutor(folder, cluster=self.cluster, slurm_max_num_timeout=self.retries)
        except RuntimeError as error:
            raise ValueError(f"{error}; cluster=local runs the same on this machine") from error
        settings: dict[str, Any] = {
            "name": "qmp",
            "timeout_min": self.minutes,
            "cpus_per_task": self.threads,
            "mem_gb": self.memory_gb,
            "gpus_per_node": self.gpus,
            "slurm_signal_delay_s": WARNING_SECONDS,
            "slurm_setup": [f"export {name}={value}" for name, value in environment(self.threads).items()],
            "slurm_additional_parameters": {"requeue": True, **self.options},
            "slurm_partition": self.partition,
            "slurm_array_parallelism": self.jobs,
        }
        self.executor.update_parameters(**{name: value for name, value in settings.items() if value is not None})

    def places(self) -> int:
        # SLURM itself keeps to `jobs` runs at a time; a machine has no queue.
        return ALL if self.cluster == "slurm" else self.jobs or max(1, cores() // self.threads)

    def launch(self, jobs: Sequence[Job]) -> Sequence[Any]:
        handles = {job: self._earlier(job) for job in jobs}
        new = [job for job, handle in handles.items() if handle is None]
        if not new:
            return list(handles.values())
        with exported(environment(self.threads)), self.executor.batch():
            for job in new:
                handles[job] = self.executor.submit(Task(self.order(job)))
        for job in new:
            job.path.mkdir(parents=True, exist_ok=True)
            job.directory.write_task(handles[job].job_id)
            self._submitted.add(handles[job].job_id)
        return list(handles.values())

    def _earlier(self, job: Job) -> Any:
        """The task that somebody else's command submitted for this run, if it is still waiting or at work."""
        number = job.directory.task()
        if number is None:
            return None
        submitit = _import()
        kind = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}[self.cluster]
        earlier = kind(self.executor.folder, number)
        return None if earlier.done() else earlier

    def ended(self, handle: Any) -> str | None:
        if handle.job_id in self._left:
            return f"its job {handle.job_id} continues: another command submitted it (scancel ends it)"
        if not handle.done():
            return None
        return f"its job {handle.job_id} ended ({handle.state})"

    def halt(self, job: Job, handle: Any) -> None:
        if handle.job_id not in self._submitted:
            self._left.add(handle.job_id)
            return
        super().halt(job, handle)
        if handle.state == "PENDING":
            handle.cancel()

    def close(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            if handle.job_id in self._submitted:
                handle.cancel()


@contextmanager
def exported(variables: Mapping[str, str]) -> Iterator[None]:
    """Inside, processes that are started have these variables; the ones of this process are as before afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _import() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ValueError("the engine 'slurm' needs submitit: pip install 'qmp-suite[cluster]'") from error
    return submitit
