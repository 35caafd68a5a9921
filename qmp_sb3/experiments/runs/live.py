"""What a training run shows: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import MEASURES
from qmp_sb3.experiments.runs.summary import Summary, cell, summarize

REFRESH_SECONDS = 0.5
SPEED_WINDOW_SECONDS = 60.0
"""The speed shown is the mean over this long: warm-up and training differ by a factor."""

LIVE_MEASURES = tuple(measure for measure in MEASURES if measure != "length")
TRAINING_COLUMNS = {
    "rollout/{task}/ep_rew_mean": "training return",
    "rollout/{task}/success_any": "training success",
    "mixture/{task}/{task}": "own share",
}
"""Logged key: heading of the column."""


class Display:
    """Receives what happens in a run, in the run's own thread; this base class shows nothing."""

    def start(self, title: str, task_names: Sequence[str], total_steps: int, done_steps: int) -> None:
        """The run starts, or resumes after ``done_steps`` of its ``total_steps``."""

    def progress(self, steps: int, values: Mapping[str, float]) -> None:
        """``steps`` are done; ``values`` holds the newest value of every logged key."""

    def evaluated(self, steps: int, evaluation: Evaluation) -> None:
        """An evaluation after ``steps``."""

    def stop(self) -> None:
        """The run has ended, for whatever reason."""


class PlainLines(Display):
    """One line per evaluation, for log files and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def start(self, title: str, task_names: Sequence[str], total_steps: int, done_steps: int) -> None:
        self.total, self.first, self.began = total_steps, done_steps, time.monotonic()
        self._line(title)

    def evaluated(self, steps: int, evaluation: Evaluation) -> None:
        seconds = max(time.monotonic() - self.began, 1e-9)
        speed = (steps - self.first) / seconds
        left = clock((self.total - steps) / speed) if speed > 0 else "-"
        means = summarize(evaluation)["mean of tasks"]
        shown = [measure for measure in LIVE_MEASURES if measure in means]
        figures = "  ".join(f"{MEASURES[measure].heading} {means[measure]:.2f}" for measure in shown)
        self._line(f"{steps:>10,} steps  {figures}  {speed:,.0f} steps/s  {left} left")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveTable(Display):
    """Tasks down, figures across, a progress bar below; redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.values: Mapping[str, float] = {}
        self.summary: Summary = {}
        self.evaluated_at = 0
        self.drawn = -math.inf

    def start(self, title: str, task_names: Sequence[str], total_steps: int, done_steps: int) -> None:
        self.title, self.task_names = title, task_names
        self.bar = Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f} steps"),
            _Speed(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            speed_estimate_period=SPEED_WINDOW_SECONDS,
            expand=True,
        )
        self.task = self.bar.add_task("", total=total_steps, completed=done_steps)
        # No thread of its own: the run's thread redraws, at most every REFRESH_SECONDS.
        self.live = Live(self._picture(), console=self.console, auto_refresh=False, transient=True)
        self.live.start(refresh=True)

    def progress(self, steps: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self.drawn >= REFRESH_SECONDS:
            self.values, self.drawn = values, now
            self.bar.update(self.task, completed=steps)
            self.live.update(self._picture(), refresh=True)

    def evaluated(self, steps: int, evaluation: Evaluation) -> None:
        self.summary, self.evaluated_at, self.drawn = summarize(evaluation), steps, -math.inf

    def stop(self) -> None:
        self.live.stop()

    def _picture(self) -> RenderableType:
        return Group(self._table(), self.bar)

    def _table(self) -> Table:
        at = f"evaluation at {self.evaluated_at:,}" if self.summary else "no evaluation yet"
        table = Table(title=f"{self.title}   [dim]{at}[/dim]", title_justify="left")
        table.add_column("task")
        for heading in (*(MEASURES[measure].heading for measure in LIVE_MEASURES), *TRAINING_COLUMNS.values()):
            table.add_column(heading, justify="right")
        for name in self.task_names:
            row = self.summary.get(name, {})
            cells = [cell(measure, row.get(measure)) for measure in LIVE_MEASURES]
            table.add_row(name, *cells, *self._training_cells(name))
        return table

    def _training_cells(self, name: str) -> list[str]:
        keys = {key: key.format(task=name) for key in TRAINING_COLUMNS}
        measures = ("return", "success_any", "own")
        return [cell(measure, self.values.get(keys[key])) for measure, key in zip(measures, keys, strict=True)]


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} steps/s")
