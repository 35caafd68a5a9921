"""Which trackers follow a run.

The run directory remembers what they call it, so that ``--track`` on a resumed run continues in the same place. Nothing
is tracked because a folder says so: it may be somebody else's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.integrations.trackers import TRACKERS, Tracker

_LOG = logging.getLogger(__name__)
PROJECT = "qmp"
"""Where a tracked run is put unless a project is given."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Tracking:
    """A tracker that follows a run.

    :param tracker: ``"wandb"`` or ``"mlflow"``
    :param project: the tracker's project or experiment; None for the previous one, or :data:`PROJECT`
    :param files: whether the finished run's files are uploaded
    :param id: of the tracked run, once there is one
    """

    tracker: str
    project: str | None = None
    files: bool = False
    id: str | None = None

    def __post_init__(self) -> None:
        one_of("tracker", self.tracker, TRACKERS)

    def after(self, before: Tracking | None) -> Tracking:
        """This one, continuing where another one was, unless it is meant for another project."""
        if before is None or self.project not in (None, before.project):
            return replace(self, project=self.project or PROJECT)
        return replace(self, project=before.project or PROJECT, id=self.id or before.id)


@contextmanager
def tracked(
    chosen: Sequence[Tracking], directory: RunDirectory, title: str, config: Mapping[str, Any]
) -> Iterator[list[Tracker]]:
    """Inside, the chosen trackers, started, or resumed where the folder remembers them; afterwards they are ended."""
    before = remembered(directory) if chosen else {}
    choices = {one.tracker: one.after(before.get(one.tracker)) for one in chosen}
    trackers: dict[str, Tracker] = {}
    for name, choice in choices.items():
        trackers[name] = TRACKERS[name](choice.project or PROJECT, choice.id)
        trackers[name].start(title, config, directory.path)
    if choices:
        known = before | {name: replace(one, id=trackers[name].id) for name, one in choices.items()}
        directory.write_tracking(
            [{"tracker": one.tracker, "project": one.project, "id": one.id} for one in known.values()]
        )
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


def remembered(directory: RunDirectory, warn: bool = True) -> dict[str, Tracking]:
    """The trackers that followed a run before, by name; damaged entries are left out, with a warning.

    Only names and places are taken: whether files are uploaded is for the command to say.
    """
    written = directory.tracking()
    entries = written if isinstance(written, list) else []
    found = {one["tracker"]: _read(one) for one in entries if _is_one(one)}
    if warn and (not isinstance(written, list) or len(found) < len(entries)):
        _LOG.warning("%s: the note of its trackers is damaged; damaged entries are not used", directory.path)
    return found


def _is_one(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("tracker"), str) or entry["tracker"] not in TRACKERS:
        return False
    project, id = entry.get("project"), entry.get("id")
    return isinstance(project, str) and (id is None or isinstance(id, str) and _ID.fullmatch(id) is not None)


def _read(entry: Mapping[str, Any]) -> Tracking:
    return Tracking(entry["tracker"], entry["project"], id=entry.get("id"))
