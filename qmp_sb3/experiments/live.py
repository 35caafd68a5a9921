"""What a training run shows: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from qmp_envs.evaluation import Evaluation

REFRESH_SECONDS = 0.5
SPEED_WINDOW_SECONDS = 60.0
"""The speed shown is the mean over this long: warm-up and training differ by a factor."""


class Display:
    """Told what happens in a run, in the run's own thread. This one shows nothing."""

    def start(self, title: str, task_names: Sequence[str], total_steps: int, done_steps: int) -> None:
        """The run begins, or goes on after ``done_steps`` of its ``total_steps``."""

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
        self._line(
            f"{steps:>10,} steps  return {mean(evaluation.returns):9.2f}  success {mean(evaluation.success_any):4.2f}"
            f"  whole task {mean(evaluation.success_all):4.2f}  subgoals {mean(evaluation.stages):4.2f}"
            f"  {speed:,.0f} steps/s  {left} left"
        )

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveTable(Display):
    """Tasks down, figures across, a progress bar below; redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.values: Mapping[str, float] = {}
        self.evaluation: Evaluation | None = None
        self.evaluated_at = 0
        self.drawn = -np.inf

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
        self.evaluation, self.evaluated_at, self.drawn = evaluation, steps, -np.inf

    def stop(self) -> None:
        self.live.stop()

    def _picture(self) -> RenderableType:
        return Group(self._table(), self.bar)

    def _table(self) -> Table:
        at = f"evaluation at {self.evaluated_at:,}" if self.evaluation is not None else "no evaluation yet"
        table = Table(title=f"{self.title}   [dim]{at}[/dim]", title_justify="left", expand=False)
        table.add_column("task")
        for column in ("return", "success", "whole task", "subgoals", "training return", "training success", "own share"):
            table.add_column(column, justify="right")
        for row, name in enumerate(self.task_names):
            table.add_row(name, *_evaluation_cells(self.evaluation, row), *self._training_cells(name))
        return table

    def _training_cells(self, name: str) -> list[str]:
        keys = (f"rollout/{name}/ep_rew_mean", f"rollout/{name}/success_any", f"mixture/{name}/{name}")
        values = [self.values.get(key, np.nan) for key in keys]
        return [number(values[0], 1), share(values[1]), share(values[2])]


def task_table(evaluation: Evaluation, title: str) -> Table:
    """The result of an evaluation: one row per task and their mean."""
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for column in ("return", "length", "success", "whole task", "subgoals"):
        table.add_column(column, justify="right")
    for row, name in enumerate(evaluation.task_names):
        table.add_row(name, *_evaluation_cells(evaluation, row, with_length=True))
    table.add_section()
    table.add_row("mean of tasks", *_evaluation_cells(evaluation, slice(None), with_length=True))
    return table


def _evaluation_cells(
    evaluation: Evaluation | None, rows: int | slice, with_length: bool = False
) -> list[str]:
    if evaluation is None:
        return [""] * (5 if with_length else 4)
    cells = [number(mean(evaluation.returns[rows]), 1)]
    if with_length:
        cells.append(number(mean(evaluation.lengths[rows]), 0))
    parts = (evaluation.success_any, evaluation.success_all, evaluation.stages)
    return cells + [share(mean(part[rows])) for part in parts]


def mean(values: np.ndarray) -> float:
    """Mean of an array, NaN where the task set does not define the value."""
    return float(np.asarray(values, dtype=np.float64).mean())


def share(value: float) -> str:
    """A share in percent, with the colour that its size deserves; ``-`` where it is undefined."""
    if np.isnan(value):
        return "-"
    colour = "green" if value >= 0.9 else "yellow" if value >= 0.1 else "red"
    return f"[{colour}]{value:.0%}[/{colour}]"


def number(value: float, digits: int) -> str:
    return "-" if np.isnan(value) else f"{value:,.{digits}f}"


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} steps/s")
