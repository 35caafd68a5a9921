"""Models of our own making, as MJCF."""

from __future__ import annotations

from pathlib import Path


def asset(name: str) -> str:
    """The path of a model's file."""
    return str(Path(__file__).parent / name)
