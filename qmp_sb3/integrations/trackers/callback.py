"""A tracker as a callback, for ``model.learn(callback=...)``."""

from __future__ import annotations

import inspect
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from qmp_sb3.common.validation import one_of
from qmp_sb3.integrations.trackers.choice import TRACKERS
from qmp_sb3.integrations.trackers.tracker import Tracker

PLAIN = (bool, int, float, str, type(None))


class TrackingCallback(BaseCallback):
    """Tracks what any SB3 model logs while it learns.

    :param tracker: ``"wandb"``, ``"mlflow"``, or a tracker
    :param project: as the tracker's; for a tracker given by name
    :param title: the run's name; by default that of the algorithm
    :param id: of the tracked run to resume, e.g. :attr:`id` of the callback that began it
    :param verbose: SB3's
    """

    def __init__(
        self,
        tracker: str | Tracker,
        project: str = "qmp",
        title: str | None = None,
        id: str | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        if isinstance(tracker, str):
            tracker = TRACKERS[one_of("tracker", tracker, TRACKERS)](project, id)
        self.tracker, self.title = tracker, title

    @property
    def id(self) -> str | None:
        """Of the tracked run; None before it began, and where it could not."""
        return self.tracker.id

    def _on_training_start(self) -> None:
        self.tracker.start(self.title or type(self.model).__name__, describe(self.model))
        self.logger.output_formats.append(self.tracker)

    def _on_training_end(self) -> None:
        self.logger.output_formats.remove(self.tracker)
        self.tracker.finish()

    def _on_step(self) -> bool:
        return True


def describe(model: BaseAlgorithm) -> dict[str, Any]:
    """The plain arguments that a model was made with; others as their text."""
    names = [name for name in inspect.signature(type(model)).parameters if not name.startswith("_")]
    values = {name: getattr(model, name) for name in names if hasattr(model, name) and name not in ("env", "policy")}
    return {
        "algorithm": type(model).__name__,
        **{name: value if isinstance(value, PLAIN) else str(value) for name, value in values.items()},
        "tasks": list(getattr(model, "task_names", ())),
    }
