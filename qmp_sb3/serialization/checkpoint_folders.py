"""Folders of checkpoints, and whether the files in them still are what was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
NOTE, MODEL = "checkpoint.json", "model.zip"


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where it is missing or none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def digest(path: Path) -> str | None:
    """The sha256 of a file's content; None where there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folders(path: Path) -> list[Path]:
    """The checkpoints below ``path``, whole or not, newest first."""
    if not path.is_dir():
        return []
    return sorted((entry for entry in path.iterdir() if entry.name.isdigit()), key=_steps, reverse=True)


def read_note(folder: Path) -> dict[str, Any] | None:
    """The content of a ``checkpoint.json``, None where it is not what was written."""
    note = read_json(folder / NOTE)
    if not isinstance(note, dict) or note.get("format") != FORMAT:
        return None
    return note if note.pop("own_sha256", None) == own_digest(note) else None


def own_digest(note: Mapping[str, Any]) -> str:
    """The sha256 by which a note tells whether it was changed."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()


def newest_model(path: Path) -> Path | None:
    """The model of the newest checkpoint below ``path`` in which that is whole, whatever the other files are like."""
    for folder in folders(path):
        note = read_note(folder)
        if note is not None and digest(folder / MODEL) == note["sha256"][MODEL]:
            return folder / MODEL
    return None


def _steps(folder: Path) -> int:
    return int(folder.name)
