"""Where files are written and read: Stable-Baselines3's rules for paths, and nothing half-written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qmp_envs.atomic_files import replace


def replaced(path: Path, write: Callable[[Path], Any]) -> None:
    """As :func:`qmp_envs.atomic_files.replace`; a link stays one."""
    replace(Path(os.path.realpath(path)), write)


def target(path: str | os.PathLike[str], suffix: str) -> Path:
    """Where to write: ``suffix`` is added to a name without one, missing folders are made, and what is a folder itself
    gets ``_2`` behind its name.
    """
    place = Path(path)
    if place.suffix == "":
        place = place.with_name(f"{place.name}{suffix}")
    if place.is_dir():
        warnings.warn(f"{place} is a folder; writing to {place}_2 instead", stacklevel=3)
        place = place.with_name(f"{place.name}_2")
    if not place.parent.is_dir():
        warnings.warn(f"{place.parent} does not exist and is made", stacklevel=3)
        place.parent.mkdir(parents=True, exist_ok=True)
    return place


def source(path: str | os.PathLike[str], *suffixes: str) -> Path:
    """The file to read: as given, or with one of the suffixes.

    :raises FileNotFoundError: naming all that was tried
    """
    given = Path(path)
    candidates = [given, *(given.with_name(f"{given.name}{suffix}") for suffix in suffixes)]
    for file in candidates:
        if file.is_file():
            return file
    raise FileNotFoundError(f"there is no such file; tried {', '.join(map(str, candidates))}")
