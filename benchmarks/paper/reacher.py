"""The Multistage Reacher of the paper's sections 6 and 7: what does sharing gain over separate learners?

``python -m benchmarks.paper.reacher`` trains every method with every seed, two runs at a time with one thread each, and
prints a table. Runs go on where they were interrupted, and finished ones are only read. Fifteen runs of 300,000 steps
take an hour or more on two cores. ``--methods parameters parameters+qmp data`` takes any names, joined ones too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from qmp_sb3 import presets
from qmp_sb3.experiments.run import run
from qmp_sb3.experiments.run_directory import RunDirectory
from qmp_sb3.experiments.run_spec import RunSpec

ID = "QMP/MultistageReacher-v0"
METHODS, SEEDS, STEPS = ("no-sharing", "qmp", "qmp-uniform"), (0, 1, 2, 3, 4), 300_000
EVALUATE_EVERY = 25_000  # steps
LAST = 3  # evaluations that a result is the mean of: single ones drop when a task is lost for a moment
SPARSE = 3  # index of the task with a sparse reward
MEASURES = {"success_any": "successes_any", "success_all": "successes", "subgoals": "stages"}
"""Measure -> its array in ``evaluations.npz``."""


@dataclass(frozen=True)
class Curves:
    """One run: ``steps (evaluations,)``, per measure ``(evaluations, tasks)``, and seconds of training per step."""

    steps: np.ndarray
    values: Mapping[str, np.ndarray]
    pace: float = float("nan")

    @classmethod
    def read(cls, path: Path) -> Curves:
        """From a run directory's ``evaluations.npz`` and, if it is finished, ``result.json``."""
        result = RunDirectory(path).result() or {"seconds": float("nan"), "steps": 1}
        with np.load(path / "evaluations.npz") as saved:
            tasks = len(saved["task_names"])
            by_task = {name: saved[key].reshape(len(saved[key]), tasks, -1) for name, key in MEASURES.items()}
            values = {name: episodes.mean(axis=2) for name, episodes in by_task.items()}
            return cls(saved["timesteps"], values, result["seconds"] / result["steps"])

    def at(self, measure: str, steps: int) -> np.ndarray:
        """Mean of the last three evaluations up to ``steps``, ``(tasks,)``; NaN if the run is not there yet."""
        done = np.flatnonzero(self.steps <= steps)
        if self.steps[-1] < steps:
            return np.full(self.values[measure].shape[1], np.nan)
        return self.values[measure][done[-LAST:]].mean(axis=0)


def summary(runs: Iterable[Curves], steps: int) -> dict[str, np.ndarray]:
    """Per measure, the mean over tasks of every run, ``(runs,)``; with ``sparse solved``: 1 where task 3 is solved."""
    runs = list(runs)
    result = {measure: np.array([one.at(measure, steps).mean() for one in runs]) for measure in MEASURES}
    result["sparse solved"] = np.array([one.at("success_any", steps)[SPARSE] > 0.5 for one in runs], dtype=float)
    return result


def table(by_method: Mapping[str, list[Curves]], steps: int) -> str:
    """A markdown table: mean over seeds, the seeds' own values of the published measure, and the time to get there."""
    lines = [
        f"| at {steps:,} steps | seeds | published (any) | each seed | strict (all) | subgoals | sparse task solved "
        "| minutes of a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, runs in by_method.items():
        there = [one for one in runs if one.steps[-1] >= steps]
        if not there:
            continue
        values = summary(there, steps)
        each = " ".join(f"{value:.2f}" for value in values["success_any"])
        means = {name: value.mean() for name, value in values.items()}
        lines.append(
            f"| {method} | {len(there)} | **{means['success_any']:.2f}** | {each} | {means['success_all']:.2f} "
            f"| {means['subgoals']:.2f} | {values['sparse solved'].sum():.0f} of {len(there)} "
            f"| {minutes(there, steps)} |"
        )
    return "\n".join(lines)


def minutes(runs: Iterable[Curves], steps: int) -> str:
    """Wall time of ``steps`` steps with their evaluations: the least and the most of the finished runs."""
    times = np.array([one.pace for one in runs if not np.isnan(one.pace)]) * steps / 60
    if len(times) == 0:
        return ""
    least, most = (f"{value:.1f}" for value in (times.min(), times.max()))
    return least if least == most else f"{least} to {most}"


def train(method: str, seed: int, steps: int, folder: Path) -> Path:
    """One run, or what is missing of it; returns its directory."""
    path = folder / f"{method}-{seed}"
    run(RunSpec(ID, method, steps, seed, eval_every=EVALUATE_EVERY), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="of all tasks together (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/paper-reacher"))
    options = parser.parse_args()
    try:
        for method in options.methods:
            presets.method(method)
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        started = {
            (method, seed): pool.submit(train, method, seed, options.steps, options.out)
            for seed in options.seeds
            for method in options.methods
        }
        runs: dict[str, list[Curves]] = {method: [] for method in options.methods}
        for (method, seed), future in started.items():
            runs[method].append(Curves.read(future.result()))
            print(f"{method}, seed {seed}: finished", flush=True)
    print(table(runs, options.steps))


if __name__ == "__main__":
    main()
