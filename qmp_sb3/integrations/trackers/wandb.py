"""Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from qmp_sb3.integrations.trackers.tracker import Tracker

STEPS = "steps"
"""The x axis of every key. Not W&B's own step, which cannot go back as a resumed run does."""


class WandbTracker(Tracker):
    """A run of Weights & Biases. ``WANDB_MODE=offline`` keeps it on disk, for ``wandb sync``."""

    name: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"

    def _start(self, title: str, config: Mapping[str, Any], folder: Path | None) -> None:
        import wandb

        self._run = wandb.init(
            project=self.project,
            name=title,
            id=self.id,
            resume=None if self.id is None else "allow",
            config=dict(config),
            dir=folder,
            reinit="create_new",
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric("*", step_metric=STEPS)
        self.id = self._run.id

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, STEPS: step})

    def _keep(self, files: Sequence[Path]) -> None:
        import wandb

        artifact = wandb.Artifact(f"run-{self.id}", type="run")
        for file in files:
            artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def _finish(self, outcome: str) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
