"""Which trackers follow a run; the run directory remembers them, so that a resumed run goes on in the same place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from qmp_sb3.checks import one_of
from qmp_sb3.experiments.run_directory import RunDirectory
from qmp_sb3.trackers import TRACKERS, Tracker


@dataclass(frozen=True)
class Tracking:
    """A tracker that follows a run.

    :param tracker: ``"wandb"`` or ``"mlflow"``
    :param project: the tracker's project or experiment
    :param files: whether the finished run's files are uploaded
    :param id: of the tracked run, once there is one
    """

    tracker: str
    project: str = "qmp"
    files: bool = False
    id: str | None = None

    def __post_init__(self) -> None:
        one_of("tracker", self.tracker, TRACKERS)


@contextmanager
def tracked(
    chosen: Sequence[Tracking], directory: RunDirectory, title: str, config: Mapping[str, Any]
) -> Iterator[list[Tracker]]:
    """Inside, the run's trackers, begun or going on; afterwards they are ended.

    :param chosen: besides those that the run directory remembers; the same tracker in both goes on as it was
    """
    choices = {one.tracker: one for one in chosen} | remembered(directory)
    trackers: dict[str, Tracker] = {}
    for name, choice in choices.items():
        trackers[name] = TRACKERS[name](choice.project, choice.id)
        trackers[name].start(title, config, directory.path)
    known = {name: trackers[name].id for name in choices}
    if choices:
        directory.write_tracking([asdict(one) | {"id": known[name]} for name, one in choices.items()])
    outcome = "failed"
    try:
        yield list(trackers.values())
        outcome = "finished" if directory.result() is not None else "stopped"
        for name, choice in choices.items():
            if choice.files and outcome == "finished":
                trackers[name].keep(directory.products())
    finally:
        for tracker in trackers.values():
            tracker.finish(outcome)


def remembered(directory: RunDirectory) -> dict[str, Tracking]:
    """The trackers of a run that was begun before, by name."""
    return {values["tracker"]: Tracking(**values) for values in directory.tracking()}
