"""``qmp results``: check, show, convert and collect the results of runs and of other labs' agents."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from qmp_sb3.cli.tables import show
from qmp_sb3.cli.words import UsageError, count, say, usage_errors, whole

if TYPE_CHECKING:
    from qmp_envs.results.table import Results

INVALID = 1
"""Exit code of ``validate`` for an invalid file."""
STATISTICS = "iqm (default), mean, median or optimality_gap of runs and tasks"
FORMATS = ("evaluations", "marl-eval", "rliable", "csv")


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("results", help="check, show, convert and collect results", allow_abbrev=False)
    actions = command.add_subparsers(dest="action", metavar="validate | show | export | collect", required=True)

    validate = actions.add_parser("validate", help="say what is wrong with result files", allow_abbrev=False)
    validate.add_argument("files", nargs="+", metavar="FILE", help=".parquet, or .csv beside its .json")

    show = actions.add_parser("show", help="compare methods", allow_abbrev=False)
    _add_runs(show)
    show.add_argument("--measure", action="append", metavar="NAME", help="default: all; may be given several times")
    show.add_argument("--statistic", default="iqm", metavar="NAME", help=STATISTICS)
    show.add_argument("--at", type=whole, metavar="STEPS", help="default: the last that every run reached")
    show.add_argument("--last", type=count, default=1, metavar="N", help="mean over the last N evaluations (default 1)")
    show.add_argument("--policy", choices=("own", "mixture"), default="own", help="default own")
    show.add_argument("--tasks", action="store_true", help="a column for every task")
    show.add_argument("--json", action="store_true", help="machine-readable")

    export = actions.add_parser("export", help="write what other tools read", allow_abbrev=False)
    _add_runs(export)
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--out", required=True, metavar="DIR")

    collect = actions.add_parser("collect", help="put runs together in a file", allow_abbrev=False)
    _add_runs(collect)
    collect.add_argument("--out", required=True, metavar="FILE", help=".parquet or .csv")


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("runs", nargs="+", metavar="RUN", help="run directory, folder of them, or result file")


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    with usage_errors(f"results {options.action}"):
        return {"validate": _validate, "show": _show, "export": _export, "collect": _collect}[options.action](options)


def _validate(options: argparse.Namespace) -> int:
    from qmp_envs.results.table import Results
    from qmp_envs.results.validation import problems

    wrong = {file: problems(Path(file)) for file in options.files}
    for file, found in wrong.items():
        for problem in found:
            print(f"{file}: {problem}")
        if not found:
            print(f"{file}: valid, {_extent(Results.read(file))}")
    return INVALID if any(wrong.values()) else 0


def _show(options: argparse.Namespace) -> int:
    from qmp_sb3.experiments.analysis.comparison import compare
    from qmp_sb3.experiments.analysis.results import by_task_set, read_runs

    groups = by_task_set(read_runs(options.runs))
    how = (options.measure, options.at, options.last, options.policy, options.statistic)
    compared = [compare(runs, *how) for runs in groups.values()]
    if options.json:
        print(json.dumps([one.to_dict() for one in compared], indent=2))
        return 0
    # A terminal breaks lines; a file need not.
    console = Console(width=None if sys.stdout.isatty() else 200)
    for one in compared:
        show(console, one.table(options.tasks))
        for note in one.notes:
            say(console, note)
    return 0


def _export(options: argparse.Namespace) -> int:
    from qmp_sb3.experiments.analysis import exports
    from qmp_sb3.experiments.analysis.results import read_runs

    for file in exports.FORMATS[options.format](read_runs(options.runs), Path(options.out)):
        say(Console(), str(file))
    return 0


def _collect(options: argparse.Namespace) -> int:
    from qmp_sb3.experiments.analysis.results import Results, read_runs

    out = Path(options.out)
    for file in (out, out.with_suffix(".json")) if out.suffix == ".csv" else (out,):
        if file.exists():
            raise UsageError(f"results collect: {file} is there already; choose another --out")
    together = Results.concatenate(read_runs(options.runs))
    together.write(out)
    say(Console(), f"{out}: {_extent(together)}")
    return 0


def _extent(results: Results) -> str:
    runs = len(results.runs())
    return f"{len(results):,} episodes of {runs} run{'s' if runs != 1 else ''}"
