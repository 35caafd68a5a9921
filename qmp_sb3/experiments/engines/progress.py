"""The status of a run, as a small file in its folder: written by the run, read by whoever shows a table."""

from __future__ import annotations

import json
import platform
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from qmp_envs.evaluation import Evaluation
from qmp_sb3.experiments.runs.live import Display
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.summary import summarize

WRITE_SECONDS = 1.0
SPEED_WINDOW = 30
"""The speed is the mean over this many writes."""


@dataclass
class Progress:
    """Where a run is. ``speed`` in steps per second, 0 while unknown; ``means`` over tasks, of the last evaluation."""

    steps: int = 0
    total: int = 0
    speed: float = 0.0
    evaluated_at: int = 0
    means: dict[str, float] = field(default_factory=dict)
    node: str = ""

    @classmethod
    def read(cls, directory: RunDirectory) -> Progress | None:
        """What a run last wrote; None before that."""
        try:
            return cls(**json.loads(directory.progress.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


class ProgressFile(Display):
    """Keeps the file up to date, at most every :data:`WRITE_SECONDS`."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory, self.now = directory, Progress(node=platform.node())
        self.marks: deque[tuple[float, int]] = deque(maxlen=SPEED_WINDOW)
        self.written = -WRITE_SECONDS

    def start(self, title: str, task_names: Sequence[str], total_steps: int, done_steps: int) -> None:
        self.directory.forget()  # here, since the run is locked by now
        self.now.steps, self.now.total = done_steps, total_steps
        self._write()

    def progress(self, steps: int, values: Mapping[str, float]) -> None:
        self.now.steps = steps
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self._write()

    def evaluated(self, steps: int, evaluation: Evaluation) -> None:
        self.now.steps = self.now.evaluated_at = steps
        self.now.means = summarize(evaluation)["mean of tasks"]
        self._write()

    def stop(self) -> None:
        self._write()

    def _write(self) -> None:
        self.written = time.monotonic()
        self.marks.append((self.written, self.now.steps))
        began, first = self.marks[0]
        self.now.speed = (self.now.steps - first) / (self.written - began) if self.written > began else 0.0
        self.directory.write_progress(asdict(self.now))
