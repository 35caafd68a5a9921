"""Where a result comes from: package versions, the code's git revision, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import qmp_envs

PACKAGES = ("qmp-suite", "gymnasium", "mujoco", "numpy", "stable-baselines3", "torch")
"""The packages that a run's numbers depend on."""


def versions() -> dict[str, str]:
    """Version of Python and of each of :data:`PACKAGES`; ``"source"`` where one is not installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "source"
    return found


def git_revision() -> dict[str, str | bool] | None:
    """Commit of the checkout that the code runs from and whether it was edited; None without a checkout."""
    root = Path(qmp_envs.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        edited = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "edited": edited}


def machine() -> dict[str, str | int]:
    """The kind of machine, without anything that names it."""
    return {"system": platform.system(), "architecture": platform.machine(), "cpus": os.cpu_count() or 1}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
