"""``qmp list``: what there is."""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qmp_sb3.cli.tables import show


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("list", help="show task sets, tasks and methods", allow_abbrev=False)
    command.add_argument("--json", action="store_true", help="machine-readable")


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    from qmp_sb3.methods import catalog

    if options.json:
        print(json.dumps(catalog.as_dict(), indent=2))
        return 0
    console = Console()
    table = Table(title="Task sets", title_justify="left")
    table.add_column("task set", no_wrap=True)
    table.add_column("what it is")
    table.add_column("tasks")
    for line in catalog.task_sets():
        table.add_row(line.id, line.summary, escape(line.missing or f"{len(line.tasks)}: {', '.join(line.tasks)}"))
    show(console, table)
    table = Table("method", "what it is", title="Methods", title_justify="left")
    for method in catalog.methods():
        table.add_row(method.name, method.summary)
    show(console, table)
    return 0
