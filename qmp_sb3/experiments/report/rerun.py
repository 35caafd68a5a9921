"""How each run can be made again: its command, what it was, and with which versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from qmp_sb3.experiments.report.sources import Run
from qmp_sb3.experiments.report.tables import machine
from qmp_sb3.experiments.report.words import hours


@dataclass(frozen=True)
class Recipe:
    """What somebody needs to make a run again.

    :param command: for a shell; empty where the run does not say
    :param facts: name -> text
    :param settings: as YAML
    """

    name: str
    state: str
    command: str
    facts: Mapping[str, str]
    settings: str


def recipe(run: Run) -> Recipe:
    """The recipe of a run, from its own description."""
    about = run.about
    versions = about.get("versions") or {}
    facts = {
        "code": _revision(about.get("git")),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded",
        "machine": machine(run) or "not recorded",
        "reward": str(about.get("reward") or "not recorded"),
        "time": hours(run.seconds),
    }
    state = f"{run.steps:,} steps" if run.finished else f"unfinished: {run.steps:,} of {run.spec['steps']:,} steps"
    described = {key: about[key] for key in ("run", "settings") if about.get(key)}
    settings = yaml.safe_dump(described, sort_keys=False, allow_unicode=True) if described else ""
    return Recipe(f"{run.method}, seed {run.seed}", state, command(run), facts, settings)


def command(run: Run) -> str:
    """The command that makes the run again: what its description says, else what was typed, else nothing."""
    spec = run.spec
    if {"env", "method", "steps", "preset"} <= set(spec):
        words = ["qmp", "train", "--env", spec["env"], "--method", spec["method"], "--steps", str(spec["steps"])]
        words += ["--seed", str(spec.get("seed", 0)), "--preset", spec["preset"]]
        for option in ("eval_every", "eval_episodes", "checkpoint_every"):
            if option in spec:
                words += [f"--{option.replace('_', '-')}", str(spec[option])]
        words += [f"{key}={_word(value)}" for key, value in (spec.get("overrides") or {}).items()]
        return shlex.join(words)
    typed = run.about.get("command")
    return shlex.join(map(str, typed)) if typed else ""


def _word(value: Any) -> str:
    """A value as the command line reads it."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("\n").removesuffix("\n...")


def _revision(git: Mapping[str, Any] | None) -> str:
    if not git:
        return "not recorded"
    return f"git {git.get('commit')}{', with changes that are not in it' if git.get('edited') else ''}"
