"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

PART = ".part-"
"""How the names of files and folders begin that are being written."""


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path`` (with its suffix), then rename it to ``path``.

    A power cut leaves the old one or the new one; an error leaves the old one.
    """
    part = path.with_name(f"{PART}{path.name}")
    try:
        write(part)
        sync(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's list of names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
