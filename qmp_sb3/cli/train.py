"""``qmp train``: start a run, or resume one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from qmp_sb3.cli.tables import show
from qmp_sb3.cli.words import (
    STOPPED,
    UsageError,
    count,
    find_modules_here,
    known_names,
    say,
    stop_on_signals,
    usage_errors,
    whole,
)

EVALUATIONS = 12
"""Evaluations in a run, unless --eval-every says otherwise."""


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser(
        "train",
        help="train a method on a task set",
        usage="qmp train --env ID --method NAME [options] [key=value ...]\n"
        "       qmp train --resume RUN_DIR [--steps N] [--trust]",
        epilog="key=value replaces a hyper-parameter: a keyword of the algorithm such as learning_rate=1e-3, "
        "policy_kwargs.net_arch=[256,256], env_kwargs.envs_per_task=4 or another option of the task set.",
        allow_abbrev=False,
    )
    command.add_argument("--env", metavar="ID", help="task set, e.g. QMP/MultistageReacher-v0")
    command.add_argument("--method", metavar="NAME", help="method, e.g. qmp")
    command.add_argument(
        "--steps",
        type=count,
        metavar="N",
        help="environment steps, all tasks together, e.g. 3e5; rounded up to whole rollouts",
    )
    command.add_argument("--seed", type=whole, metavar="S", help="default 0")
    command.add_argument("--preset", metavar="NAME", help="hyper-parameters: {presets}; default fast")
    command.add_argument("--out", metavar="DIR", help="run directory (default: a name of its own in runs/)")
    command.add_argument(
        "--eval-every", type=count, metavar="N", help="steps between evaluations (default: 12 of them)"
    )
    command.add_argument("--eval-episodes", type=count, metavar="N", help="of each task and evaluation (default 10)")
    command.add_argument("--checkpoint-every", type=count, metavar="N", help="steps between checkpoints (default 1e5)")
    command.add_argument("--resume", metavar="RUN_DIR", help="resume a stopped run")
    command.add_argument(
        "--trust", action="store_true", help="with --resume: read what runs code: pickles, a module of the task set"
    )
    command.add_argument(
        "--track", action="append", metavar="NAME", help="follow the run with wandb or mlflow (may be given twice)"
    )
    command.add_argument("--project", metavar="NAME", help="project of the tracker (default qmp)")
    command.add_argument("--track-files", action="store_true", help="upload the finished run's models and results")
    command.set_defaults(overrides={})  # it takes key=value


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    from qmp_sb3.experiments.runs import live
    from qmp_sb3.experiments.runs.run import prepare, train
    from qmp_sb3.experiments.runs.run_lock import RunInUse
    from qmp_sb3.experiments.runs.summary import summary_table
    from qmp_sb3.experiments.runs.tracking import remembered

    with usage_errors("train"):
        tracking = _tracking(options)
        spec, path = _resumed(options) if options.resume is not None else _new(options)
        prepared = prepare(spec, path, options.trust)
        before = remembered(prepared.directory, warn=not tracking) if options.resume is not None else {}
    console = Console()
    if prepared.model is not None:
        followed = {one.tracker for one in tracking}
        for one in before.values():
            words = (
                "continues there"
                if one.tracker in followed and options.project in (None, one.project)
                else f"continues without it; --track {one.tracker} resumes it"
            )
            say(console, f"The run was tracked by {one.tracker} (project {one.project}) and {words}")
        say(console, f"Using {prepared.model.replay_buffer}")
        if prepared.about is not None:
            say(console, f"Resuming at {prepared.model.num_timesteps:,} of {spec.steps:,} steps")
    display = live.LiveTable(console) if console.is_terminal else live.PlainLines(console)
    with stop_on_signals() as should_stop:
        try:
            status = train(prepared, display, should_stop, tracking)
        except RunInUse as error:
            raise UsageError(f"train: {error}") from error
    # What names a module to import is only read again by those who say so.
    again = f"{path} --trust" if ":" in spec.env else path
    steps = f"{status.steps:,}"
    if not status.finished:
        say(console, f"Stopped at {steps} of {spec.steps:,} steps; resume with: qmp train --resume {again}")
        return STOPPED
    say(console, f"{spec.method} on {spec.env} after {steps} steps")
    show(console, summary_table(status.summary))
    say(console, f"Finished {steps} steps in {live.clock(status.seconds)}; see it with: qmp watch {again}")
    return 0


def _tracking(options: argparse.Namespace) -> list[Any]:
    """The trackers that follow the run, checked before anything begins."""
    from qmp_sb3.experiments.runs.tracking import Tracking

    if not options.track:
        for name, given in (("--project", options.project), ("--track-files", options.track_files)):
            if given:
                raise UsageError(f"train: {name} needs --track wandb or --track mlflow")
    return [Tracking(name, options.project, options.track_files) for name in options.track or ()]


def _new(options: argparse.Namespace) -> tuple[Any, Path]:
    """Spec and folder of a new run."""
    from qmp_sb3.experiments.runs.run import default_path
    from qmp_sb3.experiments.runs.run_directory import RunDirectory
    from qmp_sb3.experiments.runs.run_spec import RunSpec
    from qmp_sb3.methods import presets

    known_names("train", options.env, options.method)
    if options.trust:
        raise UsageError("train: --trust is for --resume: a new run reads no files")
    steps = options.steps or presets.default_steps(options.env)
    choices = {
        "seed": options.seed,
        "preset": options.preset,
        "eval_every": options.eval_every or max(1, steps // EVALUATIONS),
        "eval_episodes": options.eval_episodes,
        "checkpoint_every": options.checkpoint_every,
    }
    given = {key: value for key, value in choices.items() if value is not None}
    spec = RunSpec(options.env, options.method, steps, overrides=options.overrides, **given)
    path = Path(options.out or default_path(spec))
    directory = RunDirectory(path)
    if directory.is_run and directory.result() is not None:
        raise UsageError(
            f"train: {path} holds a finished run; see it with qmp eval {path}, give it a later end with "
            f"qmp train --resume {path} --steps N, or choose another --out"
        )
    if directory.is_run:
        raise UsageError(f"train: {path} holds a run; resume it with qmp train --resume {path} or choose another --out")
    return spec, path


def _resumed(options: argparse.Namespace) -> tuple[Any, Path]:
    """Spec and folder of a run that resumes."""
    from qmp_sb3.experiments.runs.run import extend
    from qmp_sb3.experiments.runs.run_directory import RunDirectory
    from qmp_sb3.experiments.runs.run_spec import RunSpec

    fixed = ("env", "method", "seed", "preset", "out", "eval_every", "eval_episodes", "checkpoint_every")
    keeps = "cannot be given with --resume: the run keeps its own; only --steps can grow"
    for name in fixed:
        if getattr(options, name) is not None:
            raise UsageError(f"train: --{name.replace('_', '-')} {keeps}")
    for key in options.overrides:
        raise UsageError(f"train: {key}= {keeps}")
    path = Path(options.resume)
    if options.trust:
        find_modules_here()
    spec = RunSpec.from_file(RunDirectory(path).config(), path, options.trust)
    return (spec if options.steps is None else extend(path, options.steps, options.trust)), path
