"""Runs that the tests of reports share."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmp_sb3.experiments import RunSpec, run
from tests.qmp_sb3.experiments.synthetic_runs import synthetic_run

METHODS = ("no-sharing", "qmp")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two methods with three seeds each, and one run that is not finished."""
    folder = tmp_path_factory.mktemp("runs")
    made = [
        synthetic_run(folder / f"{method}-{seed}", method, seed, mixed=method == "qmp")
        for method in METHODS
        for seed in range(3)
    ]
    return [*made, synthetic_run(folder / "qmp-3", "qmp", 3, until=40_000)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the Reacher that has hardly begun to learn."""
    path = tmp_path_factory.mktemp("trained") / "run"
    overrides = {"learning_starts": 500, "policy_kwargs.net_arch": [8], "batch_size": 8, "buffer_size": 1000}
    spec = RunSpec("QMP/MultistageReacher-v0", "qmp", 1000, overrides=overrides, eval_every=500, eval_episodes=1)
    assert run(spec, path).finished
    return path
