"""``qmp eval``: evaluate a run's newest model."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from qmp_envs.measures import MEASURES
from qmp_sb3.cli.tables import show
from qmp_sb3.cli.words import count, find_modules_here, say, usage_errors, whole


def add(commands: argparse._SubParsersAction) -> None:
    """The command's grammar."""
    command = commands.add_parser("eval", help="evaluate a trained run", allow_abbrev=False)
    command.add_argument("run", metavar="RUN_DIR")
    command.add_argument("--episodes", type=count, default=10, metavar="N", help="per task (default 10)")
    command.add_argument("--seed", type=whole, default=0, metavar="S", help="default 0")
    command.add_argument("--trust", action="store_true", help="load what runs code: pickles, a module of the task set")
    command.add_argument("--json", action="store_true", help="machine-readable, with every episode")


def run(options: argparse.Namespace) -> int:
    """Do what the command's ``options`` say; the exit code."""
    from qmp_sb3.experiments.runs.summary import summarize, summary_table
    from qmp_sb3.experiments.runs.trained import TrainedRun

    with usage_errors("eval"):
        if options.trust:
            find_modules_here()
        trained = TrainedRun.open(options.run, options.trust)
    evaluation = trained.evaluate(options.episodes, options.seed)
    if options.json:
        about = {"run": trained.spec.to_dict(), "steps": trained.steps, "seed": options.seed}
        print(json.dumps({**about, **evaluation_dict(evaluation)}, indent=2))
    else:
        spec = trained.spec
        title = f"{spec.method} on {spec.env} after {trained.steps:,} steps, {options.episodes} episodes per task"
        console = Console()
        say(console, title)
        show(console, summary_table(summarize(evaluation)))
    return 0


def evaluation_dict(evaluation: Any) -> dict[str, Any]:
    """An evaluation as plain values; a measure that the task set does not define is null."""
    values: dict[str, Any] = {"tasks": list(evaluation.task_names)}
    for measure in MEASURES:
        rows = evaluation[measure].astype(float).tolist()
        values[measure] = [[None if number != number else number for number in row] for row in rows]
    return values
