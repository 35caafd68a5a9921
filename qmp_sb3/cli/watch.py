"""``qmp watch``: film a run's newest model."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from qmp_sb3.cli.words import UsageError, count, find_modules_here, say, usage_errors, whole

LARGEST = 2048
"""Pixels along a side of a task's picture; far more than fit a screen do not fit the memory."""


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("watch", help="film a trained run", allow_abbrev=False)
    command.add_argument("run", metavar="RUN_DIR")
    command.add_argument("--task", metavar="NAME", help="name or number of one task (default: all, side by side)")
    command.add_argument("--out", metavar="FILE", help="an .mp4 or .gif file (default: RUN_DIR/watch.mp4)")
    command.add_argument("--size", type=_pixels, default=320, metavar="PIXELS", help="of each task (default 320)")
    command.add_argument("--seed", type=whole, default=0, metavar="S", help="default 0")
    command.add_argument("--trust", action="store_true", help="load what runs code: pickles, a module of the task set")


def _pixels(text: str) -> int:
    size = count(text)
    if size > LARGEST:
        raise argparse.ArgumentTypeError(f"{text} is too large; it must be at most {LARGEST}")
    return size


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    from qmp_envs.rendering.opengl import NoRendering
    from qmp_sb3.experiments.runs.trained import TrainedRun
    from qmp_sb3.experiments.runs.video import check_format

    with usage_errors("watch"):
        out = Path(options.out or Path(options.run) / "watch.mp4")
        check_format(out)
        if options.trust:
            find_modules_here()
        trained = TrainedRun.open(options.run, options.trust)
        tasks = trained.tasks(options.task)
    try:
        frames = trained.film(tasks, out, options.seed, options.size)
    except NoRendering as error:
        raise UsageError(f"watch: {error}") from error
    say(Console(), f"{out}: {frames} frames of {', '.join(trained.task_names[task] for task in tasks)}")
    return 0
