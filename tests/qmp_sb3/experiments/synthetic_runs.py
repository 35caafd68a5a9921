"""Runs in the form of the suite's results, made up: what a report is tested with, in any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import MEASURES
from qmp_envs.results.table import Results
from qmp_sb3.experiments import RunDirectory, RunSpec
from qmp_sb3.experiments.runs.mixture import Mixture

ID = "QMP/MultistageReacher-v0"
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def evaluation_of(tasks: tuple[str, ...], *values: np.ndarray) -> Evaluation:
    """An evaluation from its arrays in the order of the measures."""
    return Evaluation(tasks, dict(zip(MEASURES, values, strict=True)))


def synthetic_run(
    path: Path,
    method: str = "qmp",
    seed: int = 0,
    tasks: Sequence[str] = ("reach", "push", "stay"),
    steps: int = 100_000,
    until: int | None = None,
    points: int = 10,
    success: bool = True,
    mixed: bool = True,
    episodes: int = 2,
    overrides: Mapping[str, Any] | None = None,
) -> Path:
    """A run directory without models; the run ends at ``steps``, or is unfinished ``until`` there."""
    rng = np.random.default_rng([seed, *method.encode()])
    spec = RunSpec(ID, method, steps, seed, overrides=dict(overrides or {}), eval_every=steps // points)
    directory = RunDirectory(path)
    directory.write_config({"run": spec.to_dict()})
    about = {"run": spec.to_dict(), "command": ["qmp", "train"], "git": {"commit": "c0ffee", "edited": False}}
    shape, level = (len(tasks), episodes), rng.uniform(0.3, 1.0, len(tasks))[:, None]
    rows = None
    times = [step for step in np.linspace(0, steps, points + 1)[1:].astype(int).tolist() if step <= (until or steps)]
    for step in times:
        done = (rng.random(shape) < level * step / steps).astype(float) if success else np.full(shape, np.nan)
        returns = 100 * level * step / steps + rng.normal(size=shape)
        evaluation = evaluation_of(tuple(tasks), returns, np.full(shape, 50.0), done, done, np.full(shape, np.nan))
        one = Results.of(evaluation, ID, method, seed, step, seconds=step / 1000, about=about)
        rows = one if rows is None else rows.with_rows(one)
    assert rows is not None
    rows.write(path / "results.parquet")
    if mixed:
        others = rng.integers(1, 20, (len(times), len(tasks), len(tasks)))
        others[:, np.arange(len(tasks)), np.arange(len(tasks))] += np.linspace(20, 400, len(times)).astype(int)[:, None]
        Mixture(np.array(times), tuple(tasks), tuple(tasks), others, about).write(path / "mixture.parquet")
    return path


def results_file(path: Path, runs: Sequence[Path]) -> Path:
    """The results of run directories as one file, as another lab would send it."""
    Results.concatenate(Results.read(run) for run in runs).write(path)
    return path
