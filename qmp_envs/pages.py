"""Documentation pages, one per id, made from the registry and the task sets' docstrings."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from qmp_envs.registry import ENTRIES, Entry, make_task_set


def page(entry: Entry) -> str:
    """The page of one id, Markdown."""
    task_set = make_task_set(entry.id)
    tasks = ", ".join(f"`{name}`" for name in task_set.task_names)
    return f"""\
<!-- Written by `python -m qmp_envs.pages docs/envs`; edit the docstring of {type(task_set).__name__} instead. -->
# {entry.id}

{entry.summary[0].upper()}{entry.summary[1:]}.

| | |
|---|---|
| Make | `gym.make("{entry.id}")`, `gym.make_vec("{entry.id}")` |
| Tasks ({task_set.num_tasks}) | {tasks} |
| Observation space | {_space(task_set.observation_space)} |
| Action space | {_space(task_set.action_space)} |
| Time limit | {entry.horizon} steps of {task_set.dt:g} s |
| Reward | {entry.reward} |
| Cameras | {", ".join(f"`{name}`" for name in task_set.cameras)} |

{inspect.cleandoc(task_set.__doc__ or "")}
"""


def file_name(id: str) -> str:
    """``"QMP/MultistageReacher-v0"`` -> ``"multistage_reacher.md"``."""
    name = id.removeprefix("QMP/").rpartition("-")[0]
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() + ".md"


def write(folder: Path) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES.values():
        (folder / file_name(entry.id)).write_text(page(entry))


def _space(space: object) -> str:
    """A space in short: bounds only where all elements share them."""
    low, high = space.low, space.high  # type: ignore[attr-defined]
    bounds = f"{low.min():g}, {high.max():g}, " if low.min() == low.max() and high.min() == high.max() else ""
    return f"`Box({bounds}{space.shape}, {space.dtype})`"  # type: ignore[attr-defined]


if __name__ == "__main__":
    write(Path(sys.argv[1]))
