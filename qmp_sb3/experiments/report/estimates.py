"""Intervals of the means that charts show: the suite's statistics in the shapes that charts have."""

from __future__ import annotations

import numpy as np

from qmp_sb3.experiments.analysis.statistics import Interval, bootstrap, mean

RESAMPLES = 1000
"""Of each point of a chart, where an interval is a pixel or two more or less."""


def of_all_tasks(values: np.ndarray) -> Interval:
    """Mean over runs and tasks of ``values (runs, tasks, points)`` with its interval, ``(points,)`` each."""
    return bootstrap(mean, values, resamples=RESAMPLES, points=True)


def of_each_task(values: np.ndarray) -> Interval:
    """Mean over runs of ``values (runs, tasks, points)`` with its interval, ``(tasks, points)`` each."""
    by_task = bootstrap(_over_runs, values, resamples=RESAMPLES, points=True)
    return Interval(*(array.T for array in by_task))


def _over_runs(scores: np.ndarray) -> np.ndarray:
    """``(..., runs, tasks)`` -> ``(..., tasks)``"""
    return scores.mean(axis=-2)
