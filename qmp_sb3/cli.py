"""The command line: ``qmp list | train | eval | watch``. A wrong argument is one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from rich.console import Console
from rich.table import Table

EVALUATIONS = 12
"""Evaluations in a run, unless --eval-every says otherwise."""
STOPPED = 130
"""Exit code of a run that was stopped by a signal, as shells have it."""


class UsageError(Exception):
    """Something that the user can put right; the message is one line."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message}".removeprefix(": "))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for a usage error, 130 for a stopped run."""
    commands = {"list": list_, "train": train, "eval": eval_, "watch": watch}
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        return commands[options.command](options)
    except UsageError as error:
        print(f"qmp {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return STOPPED


def parser() -> Parser:
    """The grammar of the four commands."""
    top = Parser(prog="qmp", description="Multi-task reinforcement learning with shared behaviors.")
    commands = top.add_subparsers(dest="command", metavar="list | train | eval | watch")

    one = commands.add_parser("list", help="show task sets, tasks and methods", allow_abbrev=False)
    one.add_argument("--json", action="store_true", help="machine-readable")

    one = commands.add_parser(
        "train",
        help="train a method on a task set",
        usage="qmp train --env ID --method NAME [options] [key=value ...]\n"
        "       qmp train --resume RUN_DIR [--steps N]",
        epilog="key=value replaces a hyper-parameter: a keyword of the algorithm such as learning_rate=1e-3, "
        "policy_kwargs.net_arch=[256,256], env_kwargs.envs_per_task=4 or another option of the task set.",
        allow_abbrev=False,
    )
    one.add_argument("--env", metavar="ID", help="task set, e.g. QMP/MultistageReacher-v0")
    one.add_argument("--method", metavar="NAME", help="method, e.g. qmp")
    one.add_argument("--steps", type=count, metavar="N", help="environment steps, all tasks together, e.g. 3e5")
    one.add_argument("--seed", type=whole, metavar="S", help="default 0")
    one.add_argument("--preset", metavar="NAME", help="hyper-parameters: fast (default), official, paper, ctpg-paper")
    one.add_argument("--out", metavar="DIR", help="run directory (default: a name of its own in runs/)")
    one.add_argument("--eval-every", type=count, metavar="N", help="steps between evaluations (default: 12 of them)")
    one.add_argument("--eval-episodes", type=count, metavar="N", help="of each task and evaluation (default 10)")
    one.add_argument("--checkpoint-every", type=count, metavar="N", help="steps between checkpoints (default 1e5)")
    one.add_argument("--resume", metavar="RUN_DIR", help="go on with a stopped run")

    one = commands.add_parser("eval", help="evaluate a trained run", allow_abbrev=False)
    one.add_argument("run", metavar="RUN_DIR")
    one.add_argument("--episodes", type=count, default=10, metavar="N", help="per task (default 10)")
    one.add_argument("--seed", type=whole, default=0, metavar="S", help="default 0")
    one.add_argument("--json", action="store_true", help="machine-readable, with every episode")

    one = commands.add_parser("watch", help="film a trained run", allow_abbrev=False)
    one.add_argument("run", metavar="RUN_DIR")
    one.add_argument("--task", metavar="NAME", help="name or number of one task (default: all, side by side)")
    one.add_argument("--out", metavar="FILE", help="an .mp4 or .gif file (default: RUN_DIR/watch.mp4)")
    one.add_argument("--size", type=count, default=320, metavar="PIXELS", help="of each task (default 320)")
    one.add_argument("--seed", type=whole, default=0, metavar="S", help="default 0")
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command; ``overrides`` holds the ``key=value`` pairs, wherever they stand."""
    top = parser()
    commands = _subparsers(top)
    words = [word for word in arguments[:1] if not word.startswith("-")]
    if words and words[0] not in commands:
        raise UsageError(f"has no command {words[0]!r}; {_closest(words[0], commands)}")
    options, rest = top.parse_known_args(arguments)
    if options.command is None:
        top.print_help()
        raise SystemExit(2)
    allowed = [text for action in commands[options.command]._actions for text in action.option_strings]
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        option = unknown[0].partition("=")[0]
        raise UsageError(f"{options.command}: unknown option {option}; {_closest(option, allowed)}")
    if rest and options.command != "train":
        raise UsageError(f"{options.command}: unexpected argument {rest[0]!r}")
    options.overrides = dict(override(word) for word in rest)
    return options


def override(word: str) -> tuple[str, Any]:
    """``key=value``, the value read as a YAML scalar or list."""
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UsageError(f"train: expected key=value, got {word!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"train: cannot read {word!r}; a value is a number, a word, true or [1, 2]") from None
    if isinstance(value, str):
        # YAML 1.1 reads 1e-3 as a word, since it has no point.
        try:
            value = float(value)
        except ValueError:
            pass
    return key, value


def count(text: str) -> int:
    """A whole number of at least 1; ``3e5`` and ``300_000`` are such numbers."""
    number = whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is too small; it must be at least 1")
    return number


def whole(text: str) -> int:
    """A whole number of at least 0."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if number < 0 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(number)


# ---- commands ----------------------------------------------------------------------------------------------
# They import what they need themselves: PyTorch takes seconds, `qmp --help` should not.


def list_(options: argparse.Namespace) -> int:
    """``qmp list``"""
    from qmp_sb3.experiments import catalog

    if options.json:
        print(json.dumps(catalog.as_dict(), indent=2))
        return 0
    console = Console()
    table = Table(title="Task sets", title_justify="left")
    table.add_column("task set", no_wrap=True)
    table.add_column("what it is")
    table.add_column("tasks")
    for line in catalog.task_sets():
        table.add_row(line.id, line.summary, f"{len(line.tasks)}: {', '.join(line.tasks)}")
    console.print(table)
    table = Table("method", "what it is", title="Methods", title_justify="left")
    for method in catalog.methods():
        table.add_row(method.name, method.summary)
    console.print(table)
    return 0


def train(options: argparse.Namespace) -> int:
    """``qmp train``"""
    from qmp_sb3.experiments import live
    from qmp_sb3.experiments.run import prepare, train
    from qmp_sb3.experiments.summary import summary_table

    with usage_errors("train"):
        spec, path = _resumed(options) if options.resume is not None else _new(options)
        prepared = prepare(spec, path)
    console = Console()
    if prepared.model is not None:
        _say(console, f"Using {prepared.model.replay_buffer}")
    display = live.LiveTable(console) if console.is_terminal else live.PlainLines(console)
    with stop_on_signals() as should_stop:
        status = train(prepared, display, should_stop)
    steps = f"{status.steps:,}"
    if not status.finished:
        _say(console, f"Stopped at {steps} of {spec.steps:,} steps; go on with: qmp train --resume {path}")
        return STOPPED
    _say(console, f"{spec.method} on {spec.env} after {steps} steps")
    console.print(summary_table(status.summary))
    _say(console, f"Finished {steps} steps in {live.clock(status.seconds)}; see it with: qmp watch {path}")
    return 0


def _new(options: argparse.Namespace) -> tuple[Any, Path]:
    """Spec and folder of a new run."""
    import qmp_envs
    from qmp_sb3 import presets
    from qmp_sb3.experiments.provenance import versions
    from qmp_sb3.experiments.run_directory import RunDirectory
    from qmp_sb3.experiments.run_spec import RunSpec

    for name, known in (("env", qmp_envs.ids()), ("method", tuple(presets.methods()))):
        value = getattr(options, name)
        if value is None:
            raise UsageError(f"train: --{name} is missing; one of {', '.join(known)}")
        if name == "env" and value not in known:
            raise UsageError(f"train: unknown {name} {value!r}; {_closest(value, known)}")
    try:
        presets.method(options.method)
    except ValueError as error:
        raise UsageError(f"train: {error}") from error
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
    path = Path(options.out or Path("runs") / spec.directory_name(versions()))
    if RunDirectory(path).is_run:
        raise UsageError(f"train: {path} holds a run; go on with qmp train --resume {path} or choose another --out")
    return spec, path


def _resumed(options: argparse.Namespace) -> tuple[Any, Path]:
    """Spec and folder of a run that goes on."""
    from qmp_sb3.experiments.run import extend
    from qmp_sb3.experiments.run_directory import RunDirectory
    from qmp_sb3.experiments.run_spec import RunSpec

    fixed = ("env", "method", "seed", "preset", "out", "eval_every", "eval_episodes", "checkpoint_every")
    keeps = "cannot be given with --resume: the run keeps its own; only --steps can grow"
    for name in fixed:
        if getattr(options, name) is not None:
            raise UsageError(f"train: --{name.replace('_', '-')} {keeps}")
    for key in options.overrides:
        raise UsageError(f"train: {key}= {keeps}")
    path = Path(options.resume)
    spec = RunSpec.from_dict(RunDirectory(path).config()["run"])
    return (spec if options.steps is None else extend(path, options.steps)), path


def eval_(options: argparse.Namespace) -> int:
    """``qmp eval``"""
    from qmp_sb3.experiments.summary import summarize, summary_table
    from qmp_sb3.experiments.trained import TrainedRun

    with usage_errors("eval"):
        trained = TrainedRun.open(options.run)
    evaluation = trained.evaluate(options.episodes, options.seed)
    if options.json:
        about = {"run": trained.spec.to_dict(), "steps": trained.steps, "seed": options.seed}
        print(json.dumps({**about, **evaluation_dict(evaluation)}, indent=2))
    else:
        spec = trained.spec
        title = f"{spec.method} on {spec.env} after {trained.steps:,} steps, {options.episodes} episodes per task"
        console = Console()
        _say(console, title)
        console.print(summary_table(summarize(evaluation)))
    return 0


def evaluation_dict(evaluation: Any) -> dict[str, Any]:
    """An evaluation as plain values; a measure that the task set does not define is null."""
    parts = ("returns", "lengths", "success_any", "success_all", "stages")
    values: dict[str, Any] = {"tasks": list(evaluation.task_names)}
    for part in parts:
        rows = getattr(evaluation, part).astype(float).tolist()
        values[part] = [[None if number != number else number for number in row] for row in rows]
    return values


def watch(options: argparse.Namespace) -> int:
    """``qmp watch``"""
    from qmp_envs.opengl import NoRendering
    from qmp_sb3.experiments.trained import TrainedRun
    from qmp_sb3.experiments.video import check_format

    with usage_errors("watch"):
        out = Path(options.out or Path(options.run) / "watch.mp4")
        check_format(out)
        trained = TrainedRun.open(options.run)
        tasks = trained.tasks(options.task)
    try:
        frames = trained.film(tasks, out, options.seed, options.size)
    except NoRendering as error:
        raise UsageError(f"watch: {error}") from error
    _say(Console(), f"{out}: {frames} frames of {', '.join(trained.task_names[task] for task in tasks)}")
    return 0


# ---- helpers -----------------------------------------------------------------------------------------------


@contextmanager
def usage_errors(command: str) -> Iterator[None]:
    """Turn what the libraries say about a wrong value (SB3 by assertions) into the command's one line."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, OSError) as error:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{command}: {' '.join(message.split())}") from error


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Inside, a first SIGINT or SIGTERM only makes the given function return True; a second acts as ever."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _subparsers(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [action] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(action.choices)


def _closest(given: str, known: Sequence[str] | dict[str, Any]) -> str:
    """``did you mean 'x'?``, without importing what knows the same for models."""
    match = difflib.get_close_matches(given, list(known), n=1)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


if __name__ == "__main__":
    sys.exit(main())
