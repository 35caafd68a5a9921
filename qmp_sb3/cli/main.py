"""``qmp``: find the command and run it. A wrong argument is one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.cli import bench, eval_, list_, plot, report, results, train, tune, watch
from qmp_sb3.cli.words import STOPPED, Known, UsageError, override


class Command(Protocol):
    """A file of a command. It imports inside its functions, so that a command loads only what it needs."""

    def add(self, commands: argparse._SubParsersAction) -> None:
        """Add the command's grammar."""

    def run(self, options: argparse.Namespace) -> int:
        """Do what the options say; the exit code."""


COMMANDS: dict[str, Command] = {
    "list": list_,
    "train": train,
    "tune": tune,
    "eval": eval_,
    "watch": watch,
    "bench": bench,
    "results": results,
    "report": report,
    "plot": plot,
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message}".removeprefix(": "))

    def format_help(self) -> str:
        for action in self._actions:
            if action.help is not None:
                action.help = action.help.format_map(Known())
        return super().format_help()

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                None, f"unknown {value!r}; {did_you_mean(str(value), map(str, action.choices))}"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for a usage error, 130 for a stopped run."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        return COMMANDS[options.command].run(options)
    except UsageError as error:
        print(f"qmp {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return STOPPED


class Version(argparse.Action):
    """Looks the version up only where it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from qmp_envs.results.provenance import versions

        print(f"qmp-suite {versions(['qmp-suite'])['qmp-suite']}")
        parser.exit()


def parser() -> Parser:
    """The grammar of all commands."""
    top = Parser(prog="qmp", description="Multi-task reinforcement learning with shared behaviors.")
    top.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar=" | ".join(COMMANDS))
    for command in COMMANDS.values():
        command.add(commands)
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command; ``overrides`` holds the ``key=value`` pairs, ``words`` all words."""
    top = parser()
    commands = _subparsers(top)
    words = [word for word in arguments[:1] if not word.startswith("-")]
    if words and words[0] not in commands:
        raise UsageError(f"has no command {words[0]!r}; {did_you_mean(words[0], commands)}")
    options, rest = top.parse_known_args(arguments)
    if options.command is None:
        top.print_help()
        raise SystemExit(2)
    allowed = {text for action in _actions(commands[options.command], options) for text in action.option_strings}
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        option = unknown[0].partition("=")[0]
        raise UsageError(f"{options.command}: unknown option {option}; {did_you_mean(option, sorted(allowed))}")
    if rest and "overrides" not in options:
        raise UsageError(f"{options.command}: unexpected argument {rest[0]!r}")
    options.overrides = dict(override(word, options.command) for word in rest)
    options.words = list(arguments)
    return options


def _actions(command: argparse.ArgumentParser, options: argparse.Namespace) -> list[argparse.Action]:
    """What a command understands, with what its chosen part does."""
    below = [part for part in command._actions if isinstance(part, argparse._SubParsersAction)]
    return [*command._actions, *(one for part in below for one in part.choices[getattr(options, part.dest)]._actions)]


def _subparsers(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [action] = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(action.choices)
