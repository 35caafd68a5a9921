"""Tables of the documentation that show recorded trainings: ``python -m benchmarks.paper.measured docs/methods/*.md``.

A table stands between ``<!-- measured: METHOD... -->`` and ``<!-- end -->``: what the named methods reached on the
Multistage Reacher, beside separate learners and QMP. ``<!-- measured-maze -->`` and ``<!-- measured-cheetah -->`` are
for all recorded runs of these. A test fails where one is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import qmp_envs
from benchmarks.paper import tables
from benchmarks.paper.curves import RESULTS, load
from docs.generators.tables import bring_up_to_date
from qmp_sb3.experiments.benchmarks.definitions import read
from qmp_sb3.experiments.benchmarks.pace import RECORDED

PLACE = re.compile(r"(<!-- measured:((?: \S+)+) -->\n).*?(<!-- end -->)", re.DOTALL)
MAZE = re.compile(r"(<!-- measured-maze -->\n).*?(<!-- end -->)", re.DOTALL)
CHEETAH = re.compile(r"(<!-- measured-cheetah -->\n).*?(<!-- end -->)", re.DOTALL)
BESIDE = ("no-sharing", "qmp")
"""Methods that every table shows."""


def reached(methods: Sequence[str]) -> str:
    """What methods reached on the Multistage Reacher, in Markdown; those without a recorded run are named."""
    runs, [part] = load(RESULTS / "reacher.json"), read("ours-reacher").parts
    shown = {method: runs[method] for method in dict.fromkeys([*methods, *BESIDE]) if method in runs}
    missing = ", ".join(f"`{method}`" for method in methods if method not in runs)
    lines = ["Multistage Reacher, preset `fast`, the mean of the last three evaluations:", ""]
    lines += [tables.reacher(shown, part.steps), ""]
    if missing:
        lines += [f"Not trained to a result yet: {missing}.", ""]
    return "\n".join(lines)


def routes() -> str:
    """Success over time and when each route was found, of all recorded runs of the Maze, in Markdown."""
    runs = load(RESULTS / "maze.json")
    return f"{tables.over_time(runs, 'success_all', 'mean success at')}\n\n{tables.found(runs)}\n"


def gravities() -> str:
    """Returns over time and of each gravity, of all recorded runs of the HalfCheetah, in Markdown."""
    runs, tasks = load(RESULTS / "cheetah.json"), qmp_envs.task_names(RECORDED["cheetah"])
    return f"{tables.over_time(runs, 'return', 'mean return at', ',.0f')}\n\n{tables.returns(runs, tasks)}\n"


def rewrite(text: str) -> str:
    """The text with every table as it should be."""
    text = PLACE.sub(lambda place: place[1] + reached(place[2].split()) + place[3], text)
    text = MAZE.sub(lambda place: place[1] + routes() + place[2], text)
    return CHEETAH.sub(lambda place: place[1] + gravities() + place[2], text)


def main() -> None:
    """Bring the files named on the command line up to date."""
    bring_up_to_date(sys.argv[1:], rewrite)


if __name__ == "__main__":
    main()
