"""``qmp tune``: search hyper-parameters."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from qmp_sb3.cli.words import STOPPED, UsageError, count, known_names, say, stop_on_signals, usage_errors, whole

EVALUATIONS = 8
"""Evaluations in a trial, at each of which it may be pruned."""
FAILED = 1
"""Exit code where no trial came to its end, or a process of the search was lost."""


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser(
        "tune",
        help="search hyper-parameters",
        usage="qmp tune --env ID --method NAME [options] [key=value ...]",
        epilog="key=value is a hyper-parameter that stays, as for qmp train. The same command resumes a search "
        "that was stopped, or adds trials.",
        allow_abbrev=False,
    )
    command.add_argument("--env", metavar="ID", help="task set, e.g. QMP/MultistageReacher-v0")
    command.add_argument("--method", metavar="NAME", help="method, e.g. qmp")
    command.add_argument("--trials", type=count, default=20, metavar="N", help="in all (default 20)")
    command.add_argument("--steps", type=count, metavar="N", help="environment steps of a trial, all tasks together")
    command.add_argument(
        "--seed", type=whole, default=0, metavar="S", help="of the search and of every run (default 0)"
    )
    command.add_argument("--preset", default="fast", metavar="NAME", help="where it begins: {presets}; default fast")
    command.add_argument("--sampler", default="tpe", metavar="NAME", help="{samplers}; default tpe")
    command.add_argument("--pruner", default="median", metavar="NAME", help="{pruners}; default median")
    command.add_argument("--evaluations", type=count, default=EVALUATIONS, metavar="N", help="of a trial (default 8)")
    command.add_argument("--eval-episodes", type=count, default=10, metavar="N", help="of each task (default 10)")
    command.add_argument("--space", metavar="FILE", help="YAML file with other ranges")
    command.add_argument("--storage", metavar="URL", help="database of the study (default: study.db in the folder)")
    command.add_argument("--jobs", type=count, default=1, metavar="N", help="processes (default 1)")
    command.add_argument("--out", metavar="DIR", help="folder of the trials (default: tune/ENV_METHOD)")
    command.set_defaults(overrides={})  # it takes key=value


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    try:
        from qmp_sb3.experiments.tuning import tune
    except ModuleNotFoundError as error:
        raise UsageError(f"tune: {error.name} is not installed; pip install 'qmp-suite[tune]'") from error

    console = Console()
    with usage_errors("tune"):
        task = _search(options)
        with stop_on_signals() as should_stop:
            try:
                found = tune.search(task, options.jobs, lambda text: say(console, text), should_stop)
            except tune.LostProcess as error:
                print(f"qmp tune: {error}", file=sys.stderr)
                return FAILED
            stopped = should_stop()
    if found is not None:
        say(console, f"Best: {found.value:.3f} in {found.folder}")
        say(console, found.command)
    elif not stopped:
        say(console, "No trial came to its end.")
    if stopped:
        say(console, "Stopped; the same command resumes.")
        return STOPPED
    return 0 if found is not None else FAILED


def _search(options: argparse.Namespace) -> Any:
    from qmp_sb3.experiments.runs.run_spec import RunSpec
    from qmp_sb3.experiments.tuning.tune import Search
    from qmp_sb3.methods import presets

    known_names("tune", options.env, options.method)
    steps = options.steps or presets.default_steps(options.env)
    spec = RunSpec(
        options.env,
        options.method,
        steps,
        options.seed,
        options.preset,
        options.overrides,
        eval_every=max(1, steps // options.evaluations),
        eval_episodes=options.eval_episodes,
        checkpoint_every=max(1, steps // 4),
    )
    name = f"{options.env.rpartition('/')[2]}_{options.method}"
    folder = Path(options.out or Path("tune") / name)
    space = None if options.space is None else Path(options.space)
    return Search(spec, folder, options.trials, options.sampler, options.pruner, options.storage, space)
