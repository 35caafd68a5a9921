"""What an engine is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from qmp_sb3.experiments.runs.run import RunStatus
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec

State = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class Job:
    """A run and its folder."""

    spec: RunSpec
    path: Path

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.path)

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return f"{self.spec.method} on {self.spec.env}, seed {self.spec.seed}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended here. A stopped one has a checkpoint, a failed one a reason and, as a rule, an ``error.txt``."""

    job: Job
    state: State
    status: RunStatus | None = None
    """Of a finished run."""
    reason: str = ""
