"""Files that are there whole or not at all, and whether one still is what was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from qmp_envs.atomic_files import PART, replace
from qmp_envs.atomic_files import sync as sync
from qmp_sb3.serialization.checkpoint_folders import digest as digest
from qmp_sb3.serialization.checkpoint_folders import read_json as read_json


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    replace(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write plain values to ``path`` in one step."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def remove_parts(folder: Path) -> None:
    """Remove the files and folders in ``folder`` whose writing was cut short."""
    for entry in folder.glob(f"{PART}*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
