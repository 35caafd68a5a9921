"""Where a run comes from: package versions, the code's git revision, the machine, the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch as th
import yaml

import qmp_envs
from qmp_envs.results import provenance
from qmp_envs.results.table import SCHEMA_VERSION
from qmp_sb3.experiments.runs.run_spec import RunSpec

PACKAGES = (*provenance.PACKAGES, "stable-baselines3", "torch")
"""The packages that a run's numbers depend on."""


def versions() -> dict[str, str]:
    """Version of Python and of each of :data:`PACKAGES`; ``"source"`` where one is not installed."""
    return provenance.versions(PACKAGES)


def git_revision() -> dict[str, str | bool] | None:
    """Commit of the checkout that the code runs from and whether it was edited; None without a checkout."""
    return provenance.git_revision(Path(qmp_envs.__file__).resolve().parents[1])


def machine() -> dict[str, str | int | list[str]]:
    """The kind of machine, without anything that names it; ``gpus`` has a name for each graphics card."""
    gpus = [th.cuda.get_device_name(number) for number in range(th.cuda.device_count())]
    return {**provenance.machine(), "gpus": gpus}


def command(spec: RunSpec) -> list[str]:
    """The words of the command that makes this run, however it was started."""
    options = ("env", "method", "steps", "seed", "preset", "eval_every", "eval_episodes", "checkpoint_every")
    words = ["qmp", "train"]
    for name in options:
        words += [f"--{name.replace('_', '-')}", str(getattr(spec, name))]
    return [*words, *settings(spec)]


def settings(spec: RunSpec) -> list[str]:
    """What replaces the preset's values, as words of the command: ``gamma=0.9``."""
    return [f"{key}={_scalar(value)}" for key, value in spec.overrides.items()]


def about_run(config: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    """The description that goes with the results of a run.

    :param config: content of the run's ``config.yaml``
    :param seconds: wall time of the training so far
    """
    spec = RunSpec.from_dict(config["run"])
    # An option of the task set may be another reward: both belong to the number.
    options = [f"{name}={_scalar(value)}" for name, value in sorted(spec.task_set_options.items())]
    return {
        "schema": SCHEMA_VERSION,
        "run": config["run"],
        "command": command(spec),
        **{key: config[key] for key in ("git", "versions", "machine")},
        "seconds": seconds,
        "reward": "; ".join([config["reward"], *options]),
        "settings": config["settings"],
    }


def _scalar(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
