"""What the suite offers, read from its registries: for ``qmp list`` and for the tables in the README."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import qmp_envs
from qmp_envs.registry import entry
from qmp_sb3.methods import presets


@dataclass(frozen=True)
class TaskSetLine:
    """A registered id. ``horizon`` in steps, ``observation`` and ``action`` as numbers of elements."""

    id: str
    summary: str
    reward: str
    horizon: int
    observation: int | None
    action: int | None
    tasks: tuple[str, ...]
    missing: str | None = None
    """What to install before its tasks are known here."""


@dataclass(frozen=True)
class MethodLine:
    """A method of the presets."""

    name: str
    summary: str


def task_sets() -> list[TaskSetLine]:
    """Every id of the suite, in the registry's order."""
    return [_line(id) for id in qmp_envs.ids()]


def _line(id: str) -> TaskSetLine:
    about = entry(id)
    known = (id, about.summary, about.reward, about.horizon)
    try:
        task_set = qmp_envs.make_task_set(id)
    except ModuleNotFoundError as error:
        return TaskSetLine(*known, None, None, (), str(error))
    spaces = (task_set.observation_space.shape[0], task_set.action_space.shape[0])
    return TaskSetLine(*known, *spaces, task_set.task_names)


def methods() -> list[MethodLine]:
    """Every method, in the presets' order."""
    return [MethodLine(method.name, method.summary) for method in presets.methods().values()]


def as_dict() -> dict[str, Any]:
    """Everything as plain values, for ``qmp list --json``."""
    return {
        "task_sets": [asdict(line) for line in task_sets()],
        "methods": [asdict(line) for line in methods()],
    }
