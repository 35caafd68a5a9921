"""Engines by name, with settings as words."""

from __future__ import annotations

import inspect
from typing import Any

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.engines.base import Engine
from qmp_sb3.experiments.engines.local import Local
from qmp_sb3.experiments.engines.ray import Ray
from qmp_sb3.experiments.engines.slurm import Slurm

ENGINES: dict[str, type[Engine]] = {"local": Local, "ray": Ray, "slurm": Slurm}


def make_engine(name: str, **settings: Any) -> Engine:
    """An engine with its settings.

    :raises ValueError: if there is no such engine or setting, naming the closest one
    """
    engine = ENGINES[one_of("engine", name, ENGINES)]
    known = [setting for setting in inspect.signature(engine).parameters if setting != "self"]
    for setting in settings:
        if setting not in known:
            raise ValueError(f"the engine {name!r} has no setting {setting!r}; {did_you_mean(setting, known)}")
    return engine(**settings)
