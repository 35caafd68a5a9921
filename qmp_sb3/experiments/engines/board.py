"""The status of all runs, from their own files: a table that is redrawn on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from qmp_envs.measures import MEASURES
from qmp_sb3.experiments.engines.job import Job
from qmp_sb3.experiments.engines.progress import Progress
from qmp_sb3.experiments.runs.live import clock
from qmp_sb3.experiments.runs.summary import cell

POLL_SECONDS = 1.0
SHOWN = ("success_any", "success_all", "return")
"""The measures that tell how well a run does; a task set without success has its return only."""
ORDER = ("running", "failed", "stopped", "waiting", "finished")
"""From what a person wants to see first to what may be folded away."""
ROWS_BESIDE = 8
"""Lines of the terminal that are not rows of the table."""


class Board:
    """Shows the status of an engine's runs; this base class shows nothing."""

    def start(self, jobs: Sequence[Job]) -> None:
        """The runs, before the first of them begins."""

    def update(self, at_work: Collection[Job]) -> None:
        """``at_work`` are the runs that have a process; called several times a second."""

    def note(self, text: str) -> None:
        """Something that a person should know."""

    def ended(self, job: Job, state: str, reason: str) -> None:
        """A run is finished, stopped or failed."""

    def stop(self) -> None:
        """The engine is done."""


class _Reading(Board):
    """Reads the files of the runs at work, at most every :data:`POLL_SECONDS`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.states: dict[Job, str] = {}
        self.progress: dict[Job, Progress] = {}
        self.polled = -POLL_SECONDS

    def start(self, jobs: Sequence[Job]) -> None:
        self.states = {job: "waiting" if job.directory.result() is None else "finished" for job in jobs}
        for job, state in self.states.items():
            result = job.directory.result()
            if state == "finished" and result is not None:
                means = result["tasks"].get("mean of tasks", {})
                self.progress[job] = Progress(result["steps"], result["steps"], 0.0, result["steps"], means)

    def update(self, at_work: Collection[Job]) -> None:
        now = time.monotonic()
        if now - self.polled < POLL_SECONDS:
            return
        self.polled = now
        for job in at_work:
            progress = Progress.read(job.directory)
            self.states[job] = "waiting" if progress is None else "running"
            if progress is not None:
                self.progress[job] = progress
        self.show()

    def ended(self, job: Job, state: str, reason: str) -> None:
        self.states[job] = state
        result = job.directory.result()
        if result is not None:
            means = result["tasks"].get("mean of tasks", {})
            self.progress[job] = Progress(result["steps"], job.spec.steps, 0.0, result["steps"], means)
        self.polled = -POLL_SECONDS

    def show(self) -> None:
        """Something may be new."""


class PlainBoard(_Reading):
    """One line when a run begins, at each of its evaluations, and when it ends; for log files and pipes."""

    def start(self, jobs: Sequence[Job]) -> None:
        super().start(jobs)
        self.told: dict[Job, int] = {}
        finished = sum(state == "finished" for state in self.states.values())
        self.note(f"{len(jobs)} runs, {finished} of them finished before")

    def show(self) -> None:
        for job, progress in self.progress.items():
            if self.states[job] == "running" and self.told.get(job) != progress.evaluated_at:
                self.told[job] = progress.evaluated_at
                self.note(f"{job}: {_sentence(progress)}")

    def ended(self, job: Job, state: str, reason: str) -> None:
        super().ended(job, state, reason)
        progress = self.progress.get(job, Progress(total=job.spec.steps))
        self.note(f"{job}: {state}{f' ({reason})' if reason else ''}, {_sentence(progress)}")

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveBoard(_Reading):
    """A row for each run: those at work first, as many as the terminal is high."""

    def start(self, jobs: Sequence[Job]) -> None:
        super().start(jobs)
        self.live = Live(self.picture(), console=self.console, auto_refresh=False, transient=True)
        self.live.start(refresh=True)

    def show(self) -> None:
        self.live.update(self.picture(), refresh=True)

    def note(self, text: str) -> None:
        self.live.console.print(text, markup=False, highlight=False)

    def ended(self, job: Job, state: str, reason: str) -> None:
        super().ended(job, state, reason)
        if reason:
            self.note(f"{job}: {state} ({reason})")

    def stop(self) -> None:
        self.live.stop()

    def picture(self) -> RenderableType:
        """The table."""
        rows = sorted(self.states, key=lambda job: ORDER.index(self.states[job]))
        fitting = max(1, self.console.height - ROWS_BESIDE)
        counts = {state: sum(one == state for one in self.states.values()) for state in ORDER}
        caption = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        if len(rows) > fitting:
            caption += f"; {len(rows) - fitting} more rows than the terminal shows"
        nodes = {progress.node for progress in self.progress.values() if progress.node}
        table = Table(caption=caption, caption_justify="left", expand=True)
        table.add_column("run", ratio=3, no_wrap=True)
        for heading in ("state", "steps"):
            table.add_column(heading, no_wrap=True)
        table.add_column("", ratio=1, min_width=8)
        for heading in ("steps/s", "left", "evaluated", *(["machine"] if len(nodes) > 1 else [])):
            table.add_column(heading, justify="right", no_wrap=True)
        for job in rows[:fitting]:
            table.add_row(*self._row(job, len(nodes) > 1))
        return table

    def _row(self, job: Job, with_node: bool) -> list[RenderableType]:
        state, progress = self.states[job], self.progress.get(job, Progress(total=job.spec.steps))
        bar = ProgressBar(total=max(1, job.spec.steps), completed=progress.steps)
        running = state == "running" and progress.speed > 0.0
        speed, left = (f"{progress.speed:,.0f}", _left(progress)) if running else ("", "")
        name = f"{job.spec.method}  {job.spec.env.removeprefix('QMP/')}  seed {job.spec.seed}"
        steps = f"{progress.steps:,} / {job.spec.steps:,}"
        cells: list[RenderableType] = [escape(name), state, steps, bar, speed, left, _figure(progress)]
        return [*cells, progress.node] if with_node else cells


def _figure(progress: Progress) -> str:
    """The first measure that the task set defines, ``-`` before the first evaluation."""
    measure = next((one for one in SHOWN if one in progress.means), None)
    return "-" if measure is None else f"{MEASURES[measure].heading} {cell(measure, progress.means[measure])}"


def _left(progress: Progress) -> str:
    return clock((progress.total - progress.steps) / progress.speed) if progress.speed > 0.0 else "-"


def _sentence(progress: Progress) -> str:
    figures = "  ".join(f"{MEASURES[one].heading} {progress.means[one]:.2f}" for one in SHOWN if one in progress.means)
    speed = f", {progress.speed:,.0f} steps/s, {_left(progress)} left" if progress.speed > 0.0 else ""
    evaluated = f", at {progress.evaluated_at:,}: {figures}" if figures else ""
    return f"{progress.steps:,} of {progress.total:,} steps{speed}{evaluated}"
