"""Optuna's samplers and pruners, by the names that a search takes. Optuna itself is imported when one is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qmp_sb3.experiments.runs.run_spec import RunSpec

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

STARTUP_TRIALS = 5
"""Trials that are drawn at random and never pruned, before the samplers and pruners that compare begin."""


def _tpe(seed: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=STARTUP_TRIALS, multivariate=True, seed=seed)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed)


def _median(spec: RunSpec) -> BasePruner:
    from optuna.pruners import MedianPruner

    # The first third of a run tells little.
    return MedianPruner(STARTUP_TRIALS, n_warmup_steps=spec.steps // 3)


def _halving(spec: RunSpec) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(min_resource=spec.eval_every)


def _none(spec: RunSpec) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "random": _random}
"""Name: makes the sampler from a seed."""
PRUNERS: dict[str, Callable[[RunSpec], BasePruner]] = {"median": _median, "halving": _halving, "none": _none}
"""Name: makes the pruner for the runs of a search."""
