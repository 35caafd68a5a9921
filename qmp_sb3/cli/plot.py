"""``qmp plot``: the report's figures as files."""

from __future__ import annotations

import argparse

from rich.console import Console

from qmp_sb3.cli.report import needs_extra
from qmp_sb3.cli.words import say, usage_errors


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("plot", help="write figures of runs", allow_abbrev=False)
    command.add_argument(
        "runs", nargs="+", metavar="RUNS", help="run directories, folders of them, results files (.parquet, .csv)"
    )
    command.add_argument("--out", default="figures", metavar="DIR", help="folder of the files (default figures)")
    command.add_argument("--format", default="png", metavar="FORMAT", help="png (default), pdf or svg")
    command.add_argument("--figure", metavar="NAME", help="one figure, by the name of its file or the end of it")


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    with usage_errors("plot"):
        needs_extra()
        from qmp_sb3.experiments.report import write_figures

        files = write_figures(options.runs, options.out, options.format, options.figure)
    for file in files:
        say(Console(), str(file))
    return 0
