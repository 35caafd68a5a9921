"""``qmp bench``: the papers' tables and figures and our own, run from their definitions."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from qmp_sb3.cli.tables import show, show_lines
from qmp_sb3.cli.words import (
    STOPPED,
    UsageError,
    count,
    find_modules_here,
    override,
    say,
    stop_on_signals,
    usage_errors,
    whole,
)

if TYPE_CHECKING:
    from qmp_sb3.experiments.benchmarks.benchmark import Benchmark
    from qmp_sb3.experiments.runs.run_spec import RunSpec

FAILED = 1
"""Exit code where runs failed, or could not be compared and reported."""
OF_ENGINE = "engine."
"""What stands before a setting of the engine."""


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser(
        "bench",
        help="run a table or figure of the papers and compare",
        usage="qmp bench --list\n       qmp bench NAME|FILE.yaml [options] [key=value ...] [engine.key=value ...]",
        epilog="key=value replaces a hyper-parameter of every run, as for qmp train; engine.key=value is a setting of "
        "the engine, such as engine.threads=2, engine.address=auto, engine.partition=gpu.",
        allow_abbrev=False,
    )
    command.add_argument("name", metavar="NAME", nargs="?", help="a definition's name, or a file that ends in .yaml")
    command.add_argument("--list", action="store_true", help="show all definitions")
    command.add_argument("--scale", default="laptop", metavar="NAME", help="{scales}; default laptop")
    command.add_argument("--engine", default="local", metavar="NAME", help="{engines}; default local")
    command.add_argument("--jobs", type=count, metavar="N", help="runs at a time (default: what there is room for)")
    command.add_argument(
        "--seeds", type=whole, nargs="+", metavar="S", help="these seeds (default: those of the scale)"
    )
    command.add_argument("--methods", nargs="+", metavar="NAME", help="these rows, or other methods: qmp,gamma=0.9")
    command.add_argument("--task-sets", nargs="+", metavar="LABEL", help="these columns, by label or id")
    command.add_argument("--out", default="runs", metavar="DIR", help="folder of the run directories (default runs)")
    command.add_argument(
        "--dry-run", action="store_true", help="show the runs, their folders and about how long they take"
    )
    command.add_argument(
        "--trust",
        action="store_true",
        help="FILE.yaml may name a module to import, before an id; pickles in checkpoints of unfinished runs are read",
    )
    command.set_defaults(overrides={})  # it takes key=value


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    console = Console()
    if options.list:
        show(console, _list())
        return 0
    from qmp_sb3.experiments.benchmarks.scales import scale
    from qmp_sb3.experiments.engines import LiveBoard, PlainBoard, make_engine

    with usage_errors("bench"):
        if options.trust:
            find_modules_here()
        benchmark, runs = plan(options)
        size, engine = scale(options.scale), make_engine(options.engine, **_engine_settings(options))
    given = (f"{key} is {value}." for key, value in options.overrides.items())
    for line in (*benchmark.statement(size, options.seeds), *given):
        say(console, line)
    if options.dry_run:
        show_lines(console, _dry_run(runs))
        say(console, _sum(runs))
        return 0
    with usage_errors("bench"), stop_on_signals() as should_stop:
        board = LiveBoard(console) if console.is_terminal else PlainBoard(console)
        outcomes = list(engine.map(runs, should_stop, board, options.trust))
    for outcome in outcomes:
        if outcome.state == "failed":
            say(console, f"Failed: {outcome.job}: {outcome.reason}; see {outcome.job.path}")
    states = {outcome.state for outcome in outcomes}
    compared = _attempt(console, "No comparison", lambda: _compare(console, benchmark, runs))
    if "stopped" in states:
        say(console, f"Stopped with checkpoints; resume with: {shlex.join(['qmp', *options.words])}")
        return STOPPED
    out = Path(options.out) / f"{benchmark.name}-{size.name}.html"
    reported = _attempt(console, "No report", lambda: _report(console, benchmark, runs, out))
    return 0 if compared and reported and "failed" not in states else FAILED


def _attempt(console: Console, without: str, act: Callable[[], None]) -> bool:
    """Whether ``act`` worked; otherwise one line gives the reason: the runs are done and remain for another try."""
    try:
        with usage_errors("bench"):
            act()
    except UsageError as error:
        say(console, f"{without}: {str(error).removeprefix('bench: ')}")
        return False
    return True


def _list() -> Table:
    from qmp_sb3.experiments.benchmarks.definitions import available, read
    from qmp_sb3.experiments.benchmarks.scales import SCALES

    table = Table(
        title="Definitions",
        title_justify="left",
        show_edge=False,  # so that every word fits into 80 columns
        caption="runs and steps of all runs together, by scale; smoke has 40 steps of each task",
    )
    for heading in ("name", "what", "task sets", "rows", *(name for name in SCALES if name != "smoke")):
        table.add_column(heading, no_wrap=heading == "name")
    for name in available():
        one = read(name)
        sizes = []
        for scale in list(SCALES.values())[1:]:
            steps = [run.spec.steps for run in one.runs(scale)]
            sizes.append(f"{len(steps)} runs\n{sum(steps) / 1e6:,.1f} M steps")
        table.add_row(name, one.title, ", ".join(part.label for part in one.parts), str(len(one.arms)), *sizes)
    return table


def plan(options: argparse.Namespace) -> tuple[Benchmark, list[tuple[RunSpec, Path]]]:
    """The definition as far as it was asked for, and its runs with their directories.

    Directories are named by what a run is, so tables share the runs that they have in common.

    :raises ValueError: if a name is unknown
    """
    from qmp_sb3.experiments.benchmarks.definitions import read
    from qmp_sb3.experiments.benchmarks.scales import scale
    from qmp_sb3.experiments.runs.provenance import versions
    from qmp_sb3.methods import presets

    if options.name is None:
        raise ValueError("which one? qmp bench --list shows all")
    benchmark = _columns(read(options.name, options.trust), options.task_sets)
    benchmark = _rows(benchmark, options.methods)
    overrides = {key: value for key, value in options.overrides.items() if not key.startswith(OF_ENGINE)}
    presets.check_overrides(overrides)
    planned = benchmark.runs(scale(options.scale), options.seeds, overrides=overrides)
    out, packages = Path(options.out), versions()
    return benchmark, [(one.spec, out / one.spec.directory_name(packages)) for one in planned]


def _engine_settings(options: argparse.Namespace) -> dict[str, Any]:
    words = {key: value for key, value in options.overrides.items() if key.startswith(OF_ENGINE)}
    settings = {key.removeprefix(OF_ENGINE): value for key, value in words.items()}
    return settings if options.jobs is None else {"jobs": options.jobs, **settings}


def _columns(benchmark: Benchmark, labels: Sequence[str] | None) -> Benchmark:
    """The definition with only some of its task sets."""
    from qmp_sb3.common.validation import one_of

    if labels is None:
        return benchmark
    known = {part.label: part for part in benchmark.parts}
    ids = [part.id for part in benchmark.parts]
    for label in labels:
        if label not in ids:
            one_of("task set", label, known)
    return replace(benchmark, parts=tuple(one for one in benchmark.parts if one.label in labels or one.id in labels))


def _rows(benchmark: Benchmark, words: Sequence[str] | None) -> Benchmark:
    """The definition with only some of its rows, or with others."""
    from qmp_sb3.experiments.benchmarks.benchmark import Arm
    from qmp_sb3.methods import presets

    if words is None:
        return benchmark
    arms = {}
    for word in words:
        name, *settings = re.split(r",(?=[\w.]+=)", word)
        arms[word] = benchmark.arms.get(word) or Arm(
            word, word, name, dict(override(setting, "bench") for setting in settings)
        )
        presets.method(arms[word].method)
        presets.check_overrides(arms[word].settings)
    parts = tuple(
        replace(part, arms=tuple(name for name in arms if name in part.arms or name not in benchmark.arms))
        for part in benchmark.parts
    )
    return replace(benchmark, arms=arms, parts=parts)


def _state(path: Path) -> str:
    from qmp_sb3.experiments.runs.run_directory import RunDirectory

    directory = RunDirectory(path)
    if directory.result() is not None:
        return "finished"
    return "failed" if directory.error() else "unfinished" if directory.is_run else "to do"


def _hours(runs: Sequence[tuple[RunSpec, Path]]) -> list[float | None]:
    from qmp_sb3.experiments.benchmarks import pace

    paces = pace.known(path for _, path in runs)
    return [pace.hours(spec, paces) for spec, _ in runs]


def _dry_run(runs: Sequence[tuple[RunSpec, Path]]) -> Table:
    table = Table()
    for heading in ("method", "task set", "seed", "steps", "state", "hours", "folder"):
        table.add_column(heading, justify="right" if heading in ("seed", "steps", "hours") else "left")
    for (spec, path), hours in zip(runs, _hours(runs), strict=True):
        time = "not measured" if hours is None else f"{hours:.2f}"
        table.add_row(spec.method, spec.env, str(spec.seed), f"{spec.steps:,}", _state(path), time, Text(str(path)))
    return table


def _sum(runs: Sequence[tuple[RunSpec, Path]]) -> str:
    left = [hours for (_, path), hours in zip(runs, _hours(runs), strict=True) if _state(path) != "finished"]
    known = [hours for hours in left if hours is not None]
    unknown = f", and {len(left) - len(known)} runs whose pace was not measured" if len(known) < len(left) else ""
    finished = len(runs) - len(left)
    return f"{len(runs)} runs, {finished} finished; about {sum(known):.1f} hours of one core are left{unknown}."


def _compare(console: Console, benchmark: Benchmark, runs: Sequence[tuple[RunSpec, Path]]) -> None:
    from qmp_sb3.experiments.benchmarks.benchmark import MOMENTS
    from qmp_sb3.experiments.benchmarks.published import compare, comparison_table

    show(console, comparison_table(benchmark, compare(benchmark, runs)))
    theirs = f" Published: {benchmark.published}." if benchmark.published else ""
    say(console, f"Ours: {MOMENTS[benchmark.moment]}.{theirs}")
    for heading, lines in (("The paper says", benchmark.claims), ("Missing", benchmark.missing)):
        for line in lines:
            say(console, f"{heading}: {line}")


def _report(console: Console, benchmark: Benchmark, runs: Sequence[tuple[RunSpec, Path]], out: Path) -> None:
    from qmp_sb3.experiments.runs.run_directory import RunDirectory

    try:
        report = import_module("qmp_sb3.experiments.report")
    except ImportError as error:
        say(console, f"No report was written: {error}")
        return
    finished = [path for _, path in runs if RunDirectory(path).result() is not None]
    if finished:
        say(console, f"Report: {report.write_report(finished, out, benchmark)}")
