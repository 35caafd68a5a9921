"""The tables of the documentation that come from the registries: ``python -m docs.generators.tables FILE...``.

A table stands between ``<!-- generated: NAME ARGUMENT... -->`` and ``<!-- end -->``; a test fails where one is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from docs.generators import method_pages
from qmp_envs.atomic_files import write_text
from qmp_sb3 import presets
from qmp_sb3.methods import catalog

PLACE = re.compile(r"(<!-- generated: (\S+)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def task_sets() -> str:
    """One row per id of the suite."""
    rows = [
        (f"`{line.id}`", str(len(line.tasks)), str(line.horizon), f"{line.observation} / {line.action}", line.summary)
        for line in catalog.task_sets()
    ]
    return markdown(("task set", "tasks", "steps per episode", "observation / action", "what it is"), rows)


def tasks() -> str:
    """One row per id with its tasks' names and the origin of its reward."""
    rows = [
        (f"`{line.id}`", ", ".join(f"`{task}`" for task in line.tasks), line.reward) for line in catalog.task_sets()
    ]
    return markdown(("task set", "tasks", "reward"), rows)


def methods() -> str:
    """One row per method."""
    rows = [(f"`{one.name}`", one.summary, one.source) for one in presets.methods().values()]
    return markdown(("method", "what it is", "from"), rows)


def _table(make: Callable[..., Sequence[Sequence[str]]]) -> Callable[..., str]:
    def table(*arguments: str) -> str:
        heading, *rows = make(*arguments)
        return markdown(heading, rows)

    return table


#: name of a place -> function of its arguments
TABLES: dict[str, Callable[..., str]] = {
    "task-sets": task_sets,
    "tasks": tasks,
    "methods": methods,
    "method-table": _table(method_pages.method_table),
    "parts": _table(method_pages.parts),
    "parameters": _table(method_pages.parameters),
    "steps": _table(method_pages.steps),
    "can-i-use": _table(method_pages.can_i_use),
}


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def rewrite(text: str) -> str:
    """The text with every generated table as it should be."""
    return PLACE.sub(lambda place: place[1] + TABLES[place[2]](*place[3].split()) + place[4], text)


def bring_up_to_date(names: Sequence[str], rewrite: Callable[[str], str]) -> None:
    """Rewrite the files whose tables are stale, and say which."""
    for name in names:
        path = Path(name)
        text = path.read_text(encoding="utf-8")
        if rewrite(text) != text:
            write_text(path, rewrite(text))
            print(f"{name}: tables brought up to date")


def main() -> None:
    """Bring the files named on the command line up to date."""
    bring_up_to_date(sys.argv[1:], rewrite)


if __name__ == "__main__":
    main()
