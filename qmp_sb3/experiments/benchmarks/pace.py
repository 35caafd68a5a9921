"""How long runs will take, from runs that were measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from qmp_sb3.experiments.benchmarks.definitions import folder
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec

Pace = Mapping[tuple[str, str, str], float]
"""Task set, method and preset: seconds per environment step of all tasks together."""
RECORDED = {"reacher": "QMP/MultistageReacher-v0", "maze": "QMP/Maze-v0", "cheetah": "QMP/HalfCheetahGravity-v0"}
"""File of recorded runs of the preset ``fast``: its task set."""


def known(runs: Iterable[Path]) -> Pace:
    """The pace of everything that was measured: finished runs among these folders, else what the suite recorded."""
    here: dict[tuple[str, str, str], list[float]] = {}
    for path in runs:
        result = RunDirectory(path).result()
        if result is not None:
            spec = RunSpec.from_dict(result["run"])
            here.setdefault((spec.env, spec.method, spec.preset), []).append(result["seconds"] / result["steps"])
    return {**_recorded(), **{key: fmean(paces) for key, paces in here.items()}}


def hours(spec: RunSpec, pace: Pace) -> float | None:
    """What a run will take; of a method without a measured run as long as the slowest one there; None if unknown."""
    same_set = [seconds for (env, _, preset), seconds in pace.items() if (env, preset) == (spec.env, spec.preset)]
    seconds = pace.get((spec.env, spec.method, spec.preset), max(same_set, default=None))
    return None if seconds is None else seconds * spec.steps / 3600.0


def _recorded() -> dict[tuple[str, str, str], float]:
    measured: dict[tuple[str, str, str], list[float]] = {}
    for name, env in RECORDED.items():
        file = folder() / "results" / f"{name}.json"
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.is_file() else []
        for run in runs:
            if run["seconds"] and "," not in run["method"]:
                measured.setdefault((env, run["method"], "fast"), []).append(run["seconds"] / run["steps"][-1])
    return {key: fmean(paces) for key, paces in measured.items()}
