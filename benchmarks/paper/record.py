"""Add runs to the recorded curves in ``results``: ``python -m benchmarks.paper.record RUN_DIR...``.

A run is known by its method, with the settings that replace the preset's, and its seed: another one of the same name
takes its place. ``python -m benchmarks.paper.measured`` then makes the documentation's tables.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper import curves
from benchmarks.paper.curves import Curves
from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.benchmarks.pace import RECORDED
from qmp_sb3.experiments.runs import provenance
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec

FILES = {env: f"{name}.json" for name, env in RECORDED.items()}
"""Task set -> the file of its runs."""


def name(spec: RunSpec) -> str:
    """The method with what is other than its preset ``fast``: ``qmp,train_freq=2,gradient_steps=1``."""
    preset = [] if spec.preset == "fast" else [f"preset={spec.preset}"]
    return ",".join([spec.method, *preset, *(word.replace(", ", ",") for word in provenance.settings(spec))])


def read(path: Path, unfinished: bool = False) -> tuple[RunSpec, dict[str, Any]]:
    """A run's spec and its record, with the command that makes it and what it ran on.

    :param unfinished: take it as far as it is evaluated
    :raises ValueError: naming the run, if it is not finished or of a task set that has no file
    """
    directory = RunDirectory(path)
    config = directory.config()
    spec = RunSpec.from_dict(config["run"])
    one_of(f"{path}: task set", spec.env, FILES)
    if not directory.results.is_file():
        raise ValueError(f"{path} has no evaluation yet")
    run = Curves.read(path)
    if directory.result() is None and not unfinished:
        raise ValueError(f"{path} is not finished: its curves end at {run.steps[-1]:,} of {spec.steps:,} steps")
    about = {
        "command": shlex.join(provenance.command(spec)),
        **{key: config[key] for key in ("git", "machine", "versions")},
    }
    return spec, {"method": name(spec), "seed": spec.seed, **about, **run.record()}


def main(arguments: Sequence[str] | None = None, results: Path = curves.RESULTS) -> None:
    """Read all runs, then write: one that cannot be recorded leaves the files as they are."""
    parser = argparse.ArgumentParser(description="add finished runs to the recorded curves")
    parser.add_argument("runs", metavar="RUN_DIR", type=Path, nargs="+")
    parser.add_argument("--unfinished", action="store_true", help="take runs that are not finished as far as they are")
    options = parser.parse_args(arguments)
    records: dict[tuple[str, str, int], dict[str, Any]] = {}
    try:
        for path in options.runs:
            spec, record = read(path, options.unfinished)
            key = (FILES[spec.env], record["method"], spec.seed)
            if key in records:
                raise ValueError(f"{path} is {key[1]}, seed {key[2]}, as another of the runs is: choose one of them")
            records[key] = record
            print(f"{key[1]}, seed {key[2]}: {record['steps'][-1]:,} of {spec.steps:,} steps")
        for file in dict.fromkeys(file for file, *_ in records):
            curves.save(results / file, [record for key, record in records.items() if key[0] == file])
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
