"""What the commands have in common: numbers and settings as words, errors of one line, signals."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import yaml
from rich.console import Console

from qmp_envs.suggestions import did_you_mean

STOPPED = 130
"""Exit code of a run that was stopped by a signal, as shells report it."""

REGISTRIES = {
    "presets": "qmp_sb3.methods.presets:PRESETS",
    "scales": "qmp_sb3.experiments.benchmarks.scales:SCALES",
    "engines": "qmp_sb3.experiments.engines:ENGINES",
    "samplers": "qmp_sb3.experiments.tuning.samplers:SAMPLERS",
    "pruners": "qmp_sb3.experiments.tuning.samplers:PRUNERS",
}
"""What stands in braces in a help text: where the names are known."""


class Known(dict):
    """For ``str.format_map``: the names of a registry, which is imported only where a help text is shown."""

    def __missing__(self, key: str) -> str:
        module, _, name = REGISTRIES[key].partition(":")
        *names, last = getattr(importlib.import_module(module), name)
        return f"{', '.join(names)} or {last}"


class UsageError(Exception):
    """Something that the user can put right; the message is one line."""


def override(word: str, command: str = "train") -> tuple[str, Any]:
    """``key=value``, the value read as a YAML scalar or list."""
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise UsageError(f"{command}: expected key=value, got {word!r}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{command}: cannot read {word!r}; a value is a number, a word, true or [1, 2]") from None
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


def known_names(command: str, env: str | None, method: str | None) -> None:
    """Raise for a task set or a method that does not exist, or is not given."""
    import qmp_envs
    from qmp_sb3.methods import presets

    for name, value, known in (("env", env, qmp_envs.ids()), ("method", method, tuple(presets.methods()))):
        if value is None:
            raise UsageError(f"{command}: --{name} is missing; one of {', '.join(known)}")
        if name == "env" and value not in known and not _from_elsewhere(command, value):
            raise UsageError(f"{command}: unknown {name} {value!r}; {did_you_mean(value, known)}")
    try:
        presets.method(str(method))
    except ValueError as error:
        raise UsageError(f"{command}: {error}") from error


def _from_elsewhere(command: str, env: str) -> bool:
    """Whether ``module:id`` names a task set of somebody else's."""
    from qmp_envs.registry import is_task_set

    module = env.rpartition(":")[0]
    try:
        if module:
            find_modules_here()
            importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{command}: cannot import {module!r} of --env {env}: {error}") from error
    return is_task_set(env)


def find_modules_here() -> None:
    """Let a user's module be imported from the folder in which the command is called.

    Only where the user named one, as in ``--env my_tasks:Mine/Rail-v0``, or said ``--trust``: the folder may hold a
    stranger's run.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@contextmanager
def usage_errors(command: str) -> Iterator[None]:
    """Turn what the libraries say about a wrong value (SB3 by assertions) into the command's one line."""
    try:
        yield
    except (ValueError, TypeError, AssertionError, OSError, ImportError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.strerror:
            message = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
        raise UsageError(f"{command}: {' '.join(message.split())}") from error


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Inside, a first SIGINT or SIGTERM only makes the given function return True; a second acts as usual."""
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


def say(console: Console, text: str) -> None:
    """Print a line as it is, without markup, colors or line breaks of the console's own."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
