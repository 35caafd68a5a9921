"""Intervals of the means that charts show: the suite's statistics in the shapes that charts have."""

from __future__ import annotations

from functools import partial

import numpy as np

from qmp_sb3.experiments.statistics import Interval, bootstrap, mean

RESAMPLES = 2000
"""Of each point of a chart; the ends of a 95% interval then move by about a tenth of its width from seed to seed."""


def of_all_tasks(values: np.ndarray) -> Interval:
    """Mean over runs and tasks of ``values (runs, tasks, points)`` with its interval, ``(points,)`` each."""
    return bootstrap(mean, values, resamples=RESAMPLES, points=True)


def of_each_task(values: np.ndarray) -> Interval:
    """Mean over runs of ``values (runs, tasks, points)`` with its interval, ``(tasks, points)`` each."""
    by_task = bootstrap(partial(np.mean, axis=-2), values, resamples=RESAMPLES, points=True)
    return Interval(*(array.T for array in by_task))
