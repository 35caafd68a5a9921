"""Hooks: what else happens between the updates."""

from __future__ import annotations

from qmp_sb3.hooks.distillation import Distill
from qmp_sb3.hooks.hook import Hook
from qmp_sb3.hooks.maskout import Maskout
from qmp_sb3.hooks.triplet import Triplet
from qmp_sb3.serialization.tags import vocabulary

#: word -> class
HOOKS: dict[str, type[Hook]] = vocabulary("hooks", Hook, {"distill": Distill, "maskout": Maskout, "triplet": Triplet})

__all__ = ["HOOKS", "Distill", "Hook", "Maskout", "Triplet"]
