"""Files that are there whole or not at all."""

from __future__ import annotations

import os
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
