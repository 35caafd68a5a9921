"""The files of one run. Each is written beside its place and then renamed: nobody ever reads half of one.

::

    config.yaml             the run: its spec, hyper-parameters with versions, git revision and machine
    events.out.tfevents.*   TensorBoard
    evaluations.npz         per evaluation, task and episode
    checkpoints/000100000/  model.zip, replay.pkl, checkpoint.json (the two newest are kept)
    best_model.zip          the model of the best evaluation
    final_model.zip         the model at the end
    tracking.json           the trackers that follow the run, with the names they gave it
    result.json             written last: a run that has it is finished
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KEPT_CHECKPOINTS = 2


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, its files verified against the digests written with them."""

    path: Path
    steps: int
    seconds: float

    @property
    def model(self) -> Path:
        return self.path / "model.zip"

    @property
    def replay(self) -> Path:
        return self.path / "replay.pkl"


class RunDirectory:
    """The files of one run under ``path``. Reading needs nothing but the folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.evaluations = self.path / "evaluations.npz"
        self.final_model = self.path / "final_model.zip"
        self.best_model = self.path / "best_model.zip"

    @property
    def is_run(self) -> bool:
        return (self.path / "config.yaml").is_file()

    @property
    def is_free(self) -> bool:
        """Whether a new run may be written here: nothing there yet, or an empty folder."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def config(self) -> dict[str, Any]:
        try:
            return yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except OSError:
            raise FileNotFoundError(f"{self.path} holds no run (no config.yaml)") from None

    def write_config(self, config: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", text)

    def result(self) -> dict[str, Any] | None:
        """The finished run's result, None while it is not finished."""
        file = self.path / "result.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def write_result(self, result: Mapping[str, Any]) -> None:
        write_text(self.path / "result.json", json.dumps(dict(result), indent=2) + "\n")

    def tracking(self) -> list[dict[str, Any]]:
        """The trackers of the run, as :meth:`write_tracking` got them; none where the file cannot be read."""
        return _read_json(self.path / "tracking.json") or []

    def write_tracking(self, trackers: list[dict[str, Any]]) -> None:
        write_text(self.path / "tracking.json", json.dumps(trackers, indent=2) + "\n")

    def products(self) -> list[Path]:
        """Those files of a finished run that are worth keeping elsewhere."""
        names = ("config.yaml", "result.json", "evaluations.npz", "results.parquet", "mixture.parquet")
        files = [self.path / name for name in names] + [self.best_model, self.final_model]
        return [file for file in files if file.is_file()]

    def discard_result(self) -> None:
        """The run goes on: it is not finished any more."""
        (self.path / "result.json").unlink(missing_ok=True)

    def save_checkpoint(
        self,
        steps: int,
        seconds: float,
        save_model: Callable[[Path], Any],
        save_replay: Callable[[Path], Any],
    ) -> Checkpoint:
        """Write a checkpoint, then drop all but the newest :data:`KEPT_CHECKPOINTS`.

        :param steps: environment steps done so far
        :param seconds: training time so far
        :param save_model: writes the model to the path given to it
        :param save_replay: writes the replay buffer to the path given to it
        """
        folder = self.path / "checkpoints"
        place, part = folder / f"{steps:09d}", folder / f".{steps:09d}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_model(part / "model.zip")
        save_replay(part / "replay.pkl")
        digests = {file.name: _digest(file) for file in sorted(part.iterdir())}
        note = {"steps": steps, "seconds": round(seconds, 3), "sha256": digests}
        write_text(part / "checkpoint.json", json.dumps(note, indent=2) + "\n")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(part, place)
        for old in self._checkpoint_folders()[KEPT_CHECKPOINTS:]:
            shutil.rmtree(old)
        return Checkpoint(place, steps, seconds)

    def latest_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint whose files are whole, None where there is none."""
        for folder in self._checkpoint_folders():
            note = _read_json(folder / "checkpoint.json")
            if note is not None and all(_digest(folder / name) == digest for name, digest in note["sha256"].items()):
                return Checkpoint(folder, note["steps"], note["seconds"])
        return None

    def newest_model(self) -> Path:
        """The final model, or the newest checkpoint's where the run did not end."""
        if self.final_model.is_file():
            return self.final_model
        checkpoint = self.latest_checkpoint()
        if checkpoint is None:
            raise FileNotFoundError(f"{self.path} holds no model yet")
        return checkpoint.model

    def _checkpoint_folders(self) -> list[Path]:
        """Newest first."""
        folder = self.path / "checkpoints"
        if not folder.is_dir():
            return []
        return sorted((entry for entry in folder.iterdir() if entry.name.isdigit()), reverse=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path`` (with its suffix), then rename it to ``path``."""
    part = path.with_name(f".part-{path.name}")
    write(part)
    os.replace(part, path)


def _digest(file: Path) -> str | None:
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
