"""``qmp report``: runs as one HTML file."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from qmp_sb3.cli.words import find_modules_here, say, usage_errors, whole


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("report", help="write an HTML report of runs", allow_abbrev=False)
    command.add_argument(
        "runs", nargs="+", metavar="RUNS", help="run directories, folders of them, results files (.parquet, .csv)"
    )
    command.add_argument("--out", default="report.html", metavar="FILE", help="default report.html")
    command.add_argument("--title", metavar="TEXT", help="of the page (default: made of the task sets)")
    command.add_argument(
        "--films", type=whole, default=3, metavar="N", help="tasks whose episode is filmed (default 3; 0: none)"
    )
    command.add_argument("--trust", action="store_true", help="film runs, too, that run code of their own")


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    with usage_errors("report"):
        if Path(options.out).suffix != ".html":
            raise ValueError(f"cannot write {options.out!r}: a report ends in .html")
        needs_extra()
        from qmp_sb3.experiments.report import write_report

        if options.trust:
            find_modules_here()
        path = write_report(options.runs, options.out, title=options.title, films=options.films, trust=options.trust)
    say(Console(), f"{path}: {path.stat().st_size / 1e6:.1f} MB; open it in a browser")
    return 0


def needs_extra() -> None:
    """An error in words where the packages that draw are not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("altair", "jinja2", "vl_convert") if find_spec(name) is None]
    if missing:
        raise ValueError(f"this needs {', '.join(missing)}: pip install 'qmp-suite[report]'")
