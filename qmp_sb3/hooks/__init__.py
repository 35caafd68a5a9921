"""Hooks: what else happens between the updates."""

from __future__ import annotations

from qmp_sb3.hooks.distillation import Distill
from qmp_sb3.hooks.hook import Hook

#: word -> class
HOOKS: dict[str, type[Hook]] = {"distill": Distill}

__all__ = ["HOOKS", "Distill", "Hook"]
