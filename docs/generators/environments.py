"""Documentation pages, one per id and an index: ``python -m docs.generators.environments docs/envs``.

The prose is the docstring of the task set's class, in the sections below. The rest is made from the code, so that it
cannot disagree with it; a test fails where a page is out of date. In the docstring

* ``{NAME}``, ``{NAME[0]}`` or ``{NAME:.3g}`` stands for a constant of the module (or of ``constant_modules``),
  or for one of its family's tables (:data:`FAMILY_TABLES`),
* a table whose first column is ``Num`` (sections "Action space" and "Observation space") gets the bounds of the space,
* ``:param name: meaning`` (section "Arguments") becomes a row of a table that has the default from the signature.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from docs.generators import environment_tables as tables
from docs.generators import kitchen, metaworld_cds
from qmp_envs.drivers.env import TaskSetEnv
from qmp_envs.drivers.vector import BatchedTaskSetEnv
from qmp_envs.registry import ENTRIES, Entry, make_task_set
from qmp_envs.rendering.opengl import PACKAGES
from qmp_envs.task_set import TaskSet
from qmp_envs.task_sets.kitchen.task_set import Kitchen
from qmp_envs.task_sets.metaworld_cds.task_set import MetaWorldCDS

SECTIONS = (
    "Description",
    "Action space",
    "Observation space",
    "Rewards",
    "Starting state",
    "Episode end",
    "Success",
    "Arguments",
    "Differences",
    "Version history",
)
PICTURES_PER_ROW = 4
MOST_PICTURES = 12  # of single tasks; larger sets have one sheet
SHEET = "all"
NOT_THE_USERS = ("task_set", "max_episode_steps")
FAMILY_TABLES = {Kitchen: kitchen.page_tables, MetaWorldCDS: metaworld_cds.page_tables}
"""Family -> function of the task set: tables that its docstring names, name -> heading and rows."""
COMMON = "More that every task set takes: [common arguments](index.md#common-arguments)."
NOTE = "<!-- Written by `python -m docs.generators.environments docs/envs`; edit {} instead. -->\n"


def _family_tables(task_set: TaskSet) -> dict[str, tables.Table]:
    make = FAMILY_TABLES.get(type(task_set))
    return {} if make is None else make(task_set)


def page(entry: Entry) -> str:
    """The page of one id, Markdown."""
    task_set = make_task_set(entry.id)
    kind, modules = type(task_set), tables.modules_of(task_set)
    own_tables = {name: tables.table(*parts) for name, parts in _family_tables(task_set).items()}
    sections = split(tables.filled(inspect.cleandoc(kind.__doc__ or ""), modules, own_tables), kind.__name__)

    for name, space in (("Action space", task_set.action_space), ("Observation space", task_set.observation_space)):
        text = tables.with_bounds(sections[name], space, f"{kind.__name__}, {name}")
        sections[name] = f"{tables.space_in_short(space)}\n\n{text}"
    if "| Num " not in sections["Action space"]:
        sections["Action space"] += "\n\n" + tables.motors(task_set)
    sections["Starting state"] += "\n\n" + tables.reset_options(task_set)
    own = tables.arguments(sections["Arguments"], kind, entry.kwargs)
    rest = tables.without_parameters(sections["Arguments"])
    sections["Arguments"] = f"{own}\n{COMMON}\n\n{rest}"

    constants = tables.constants(modules)
    generated = {"Info": ("Success", tables.info(task_set)), "Constants": ("Arguments", constants)}
    parts = [
        NOTE.format(f"the docstring of {kind.__name__}") + f"# {entry.id}",
        f"![Episodes of {entry.id}](gifs/{stem(entry.id)}.gif)",
        _summary(entry, task_set),
        f"## Tasks\n\n{_tasks(entry, task_set)}",
    ]
    for name in SECTIONS:
        parts.append(f"## {name}\n\n{sections[name].strip()}")
        parts += [f"## {extra}\n\n{text}" for extra, (after, text) in generated.items() if after == name and text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def split(text: str, name: str) -> dict[str, str]:
    """The sections of a docstring by their headings; all of them have to be there, in their order."""
    pieces = re.split(r"^## (.+)$", text, flags=re.M)
    found = tuple(pieces[1::2])
    if found != SECTIONS:
        missing = [section for section in SECTIONS if section not in found]
        raise ValueError(
            f"The docstring of {name} has the sections {', '.join(found)}; wanted are, in this order, "
            f"{', '.join(SECTIONS)}. Missing: {', '.join(missing) or 'none'}."
        )
    return dict(zip(found, (piece.strip() for piece in pieces[2::2]), strict=True))


def index() -> str:
    """The page that lists all others, with the arguments that they share."""
    rows = []
    for entry in ENTRIES.values():
        task_set = make_task_set(entry.id)
        sizes = f"{task_set.observation_space.shape[0]} / {task_set.action_space.shape[0]}"
        counts = (str(task_set.num_tasks), str(entry.horizon), sizes)
        picture = picture_names(entry.id, task_set.task_names)[0]
        image = f"![{entry.id}](pictures/{stem(entry.id)}/{picture}.png)"
        rows.append((f"[`{entry.id}`]({stem(entry.id)}.md)", image, entry.summary, *counts))
    heading = ("Id", "", "What it is", "Tasks", "Steps", "Observation / action")
    single = tables.arguments(TaskSetEnv.__doc__ or "", TaskSetEnv, {}, NOT_THE_USERS)
    batched = tables.arguments(
        BatchedTaskSetEnv.__doc__ or "",
        BatchedTaskSetEnv,
        {},
        (*NOT_THE_USERS, *inspect.signature(TaskSetEnv).parameters),
    )
    return f"""\
{NOTE.format("the registry")}# Environments

{tables.table(heading, rows)}
## Common arguments

`gym.make(id, ...)` takes these and the arguments of the task set, and Gymnasium's `max_episode_steps` for another time
limit.

{single}
`gym.make_vec(id, ...)` takes these too:

{batched}
## Rendering

`render_mode="rgb_array"` gives frames `(height, width, 3)` uint8, `"depth_array"` the distance from the camera's plane
in m `(height, width)` float32, `"human"` a window. The first two need no display: they draw through EGL, or through
OSMesa where there is no EGL. The variable `MUJOCO_GL` chooses one of `egl`, `osmesa`, `glfw`. On Debian or Ubuntu the
libraries are in the packages `{PACKAGES["egl"]}` and `{PACKAGES["osmesa"]}`.
"""


def stem(id: str) -> str:
    """``"QMP/MultistageReacher-v0"`` -> ``"multistage_reacher"``."""
    name = id.removeprefix("QMP/").rpartition("-")[0]
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def picture_names(id: str, task_names: tuple[str, ...]) -> list[str]:
    """The names of an id's pictures: one per task, or one sheet with all of them."""
    if len(task_names) > MOST_PICTURES:
        return [SHEET]
    return [re.sub(r"\W+", "-", name) for name in task_names]


def write(folder: Path) -> None:
    """Write every page."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in ENTRIES.values():
        (folder / f"{stem(entry.id)}.md").write_text(page(entry), encoding="utf-8")
    (folder / "index.md").write_text(index(), encoding="utf-8")


def _summary(entry: Entry, task_set: TaskSet) -> str:
    rows = [
        ("Make", f'`gym.make("{entry.id}")`, `gym.make_vec("{entry.id}")`'),
        ("Tasks", str(task_set.num_tasks)),
        ("Observation space", tables.space_in_short(task_set.observation_space)),
        ("Action space", tables.space_in_short(task_set.action_space)),
        ("Time limit", f"{entry.horizon} steps of {task_set.dt:g} s"),
        ("Reward", entry.reward),
        ("Cameras", ", ".join(f"`{name}`" for name in task_set.cameras)),
    ]
    return f"{entry.summary[0].upper()}{entry.summary[1:]}.\n\n{tables.table(('', ''), rows)}"


def _tasks(entry: Entry, task_set: TaskSet) -> str:
    """Pictures with numbers and names; for large sets a sheet and a list, both in the order of the numbers."""
    folder, pictures = f"pictures/{stem(entry.id)}", picture_names(entry.id, task_set.task_names)
    names = [f"{i}: `{name}`" for i, name in enumerate(task_set.task_names)]
    if pictures == [SHEET]:
        return f"![All tasks, row by row]({folder}/{SHEET}.png)\n\n{', '.join(names)}"
    cells = [
        f"![{task}]({folder}/{picture}.png)<br>{name}"
        for task, picture, name in zip(task_set.task_names, pictures, names, strict=True)
    ]
    width = min(PICTURES_PER_ROW, len(cells))
    cells += [""] * (-len(cells) % width)
    rows = [cells[i : i + width] for i in range(0, len(cells), width)]
    return tables.table([""] * width, rows)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
