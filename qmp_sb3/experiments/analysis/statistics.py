"""Statistics over runs and tasks, after Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (NeurIPS 2021).

A statistic is a pure function of scores ``(..., runs, tasks)``: it works on the last two axes, and axes before them are
further samples of the same kind. Bootstrap intervals need this, and draw their thousands of resamples in a few calls.
More is better everywhere. Bring scores of tasks whose returns have different scales to one scale first, by
:func:`normalized`. NaN is an error: leave out what was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 50_000
CHUNK = 2**21
"""Numbers that are resampled at once, at most: 16 MB."""

Statistic = Callable[..., np.ndarray]
"""``statistic(*samples)``, each ``(..., runs, tasks)``, gives ``(...)`` or ``(..., values)``."""


class Interval(NamedTuple):
    """A statistic with its bootstrap interval; arrays of the statistic's shape."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


# ---- aggregates: (..., runs, tasks) -> (...) ---------------------------------------------------------------


def mean(scores: np.ndarray) -> np.ndarray:
    """The mean over runs and tasks."""
    return _checked(scores).mean(axis=(-2, -1))


def median(scores: np.ndarray) -> np.ndarray:
    """The median over tasks of the means over runs."""
    return np.median(_checked(scores).mean(axis=-2), axis=-1)


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean: of all runs and tasks together, without the lowest and the highest quarter.

    Of n scores, floor(n / 4) are left out at either end.
    """
    scores = _checked(scores)
    every = scores.reshape(*scores.shape[:-2], -1)
    count = every.shape[-1]
    return np.sort(every, axis=-1)[..., count // 4 : count - count // 4].mean(axis=-1)


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> np.ndarray:
    """How far scores fall short of a target on average: target - mean(min(score, target))."""
    return target - np.minimum(_checked(scores), target).mean(axis=(-2, -1))


AGGREGATES: Mapping[str, Statistic] = {"iqm": iqm, "mean": mean, "median": median, "optimality_gap": optimality_gap}
"""By name, for the command line."""


# ---- comparisons -------------------------------------------------------------------------------------------


def performance_profile(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Share of runs and tasks with a score above each level: the score distribution of section 4.2.

    :param scores: ``(..., runs, tasks)``
    :param levels: ``(levels,)``
    :return: ``(..., levels)``
    """
    scores = _checked(scores)
    every = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    return np.stack([(every > level).mean(axis=-1) for level in np.asarray(levels)], axis=-1)


def probability_of_improvement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Chance that a run of one method beats a run of another on a task, the mean over tasks.

    P(X > Y) + P(X = Y) / 2 for every task: the Mann-Whitney U statistic over its greatest value.

    :param scores: of the method, ``(..., runs, tasks)``
    :param others: of the other one, ``(..., other runs, tasks)``
    """
    x, y = _checked(scores)[..., :, None, :], _checked(others)[..., None, :, :]
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"{x.shape[-1]} tasks against {y.shape[-1]}; both methods need the same tasks")
    return ((x > y) + 0.5 * (x == y)).mean(axis=(-3, -2, -1))


def mean_ranks(*methods: np.ndarray) -> np.ndarray:
    """Rank of each method by its mean on a task, the mean over tasks; 1 is the best, equal methods share theirs.

    :param methods: scores of each method, ``(..., runs, tasks)``
    :return: ``(..., methods)``
    """
    return task_ranks(*methods).mean(axis=-1)


def task_ranks(*methods: np.ndarray) -> np.ndarray:
    """Rank of each method on each task, by its mean: ``(..., methods, tasks)``; see :func:`mean_ranks`."""
    means = np.stack([_checked(scores).mean(axis=-2) for scores in methods], axis=-2)
    mine, others = means[..., :, None, :], means[..., None, :, :]
    return 0.5 + (others > mine).sum(axis=-2) + 0.5 * (others == mine).sum(axis=-2)


# ---- time --------------------------------------------------------------------------------------------------


def steps_to_reach(values: np.ndarray, steps: np.ndarray, level: float) -> np.ndarray:
    """The first step at which a curve is at a level or above; infinite for a curve that never is.

    So a median over runs says that half of them reached the level by then, and is infinite if fewer did; a mean over
    runs has no meaning where one never does.

    :param values: ``(..., points)``
    :param steps: of the points, increasing, ``(points,)``
    :return: ``(...)``, steps
    """
    there = _checked(values) >= level
    return np.where(there.any(axis=-1), np.asarray(steps, float)[there.argmax(axis=-1)], np.inf)


def sample_efficiency(
    curves: np.ndarray, statistic: Statistic = iqm, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """A statistic at every point of learning curves, with intervals; see :func:`bootstrap`.

    Runs are drawn for each task by itself; one that is drawn for a task counts with all its points there.

    :param curves: ``(runs, tasks, points)``
    :return: arrays ``(points,)``
    """
    return bootstrap(statistic, curves, resamples=resamples, confidence=confidence, seed=seed, points=True)


# ---- uncertainty -------------------------------------------------------------------------------------------


def bootstrap(
    statistic: Statistic,
    *samples: np.ndarray,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
    points: bool = False,
) -> Interval:
    """A statistic and its stratified percentile bootstrap interval (section 4.1).

    Within each task as many runs are drawn as there are, with replacement; tasks stay. With a single run of a method
    nothing is known about the spread of its runs: the interval is NaN.

    :param statistic: of the samples, e.g. :func:`iqm` of one, :func:`probability_of_improvement` of two
    :param samples: ``(runs, tasks)`` each, runs of different number; with ``points`` ``(runs, tasks, points)``
    :param resamples: how often is drawn
    :param confidence: share of the resamples inside the interval
    :param seed: of the draws
    :param points: the statistic is computed at every point of curves, each run being drawn with all its points
    :return: value, low and high of the statistic's shape, ``(points, ...)`` with points
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    samples = tuple(_shaped(sample, 3 if points else 2) for sample in samples)
    value = np.asarray(statistic(*map(_points_first, samples) if points else samples))
    if any(len(sample) == 1 for sample in samples):
        return Interval(value, np.full(value.shape, np.nan), np.full(value.shape, np.nan))
    # A stream for each sample: how many resamples are made at once changes nothing.
    generators = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(samples))]
    at_once = max(1, CHUNK // sum(sample.size for sample in samples))
    drawn = []
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        chosen = [_resampled(*pair, count) for pair in zip(samples, generators, strict=True)]
        drawn.append(statistic(*map(_points_first, chosen) if points else chosen))
    low, high = _percentiles(np.concatenate(drawn), confidence)
    return Interval(value, low, high)


def normalized(scores: np.ndarray, low: float | Sequence[float], high: float | Sequence[float]) -> np.ndarray:
    """Scores on a scale on which ``low`` is 0 and ``high`` is 1.

    :param scores: ``(..., runs, tasks)``
    :param low: score of a random policy, say: one number or one per task
    :param high: score of an expert
    """
    span = np.subtract(high, low)
    if (span <= 0).any():
        raise ValueError(f"the scale goes from {low} to {high}; its end must be above its beginning on every task")
    return (scores - np.asarray(low)) / span


def _resampled(sample: np.ndarray, generator: np.random.Generator, count: int) -> np.ndarray:
    """``count`` samples like this one, ``(count, runs, tasks, ...)``."""
    runs, tasks = sample.shape[:2]
    return sample[generator.integers(runs, size=(count, runs, tasks)), np.arange(tasks)]


def _points_first(curves: np.ndarray) -> np.ndarray:
    """``(..., runs, tasks, points)`` -> ``(..., points, runs, tasks)``."""
    return np.moveaxis(curves, -1, -3)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the middle part of ``(resamples, ...)``."""
    outside = (1 - confidence) / 2
    if np.isfinite(values).all():
        low, high = np.quantile(values, [outside, 1 - outside], axis=0)
        return low, high
    # Between a number and infinity there is nothing to interpolate.
    return (
        np.quantile(values, outside, axis=0, method="lower"),
        np.quantile(values, 1 - outside, axis=0, method="higher"),
    )


def _shaped(sample: np.ndarray, dimensions: int) -> np.ndarray:
    sample = np.asarray(sample, float)
    if sample.ndim != dimensions or not sample.size:
        wanted = "(runs, tasks)" if dimensions == 2 else "(runs, tasks, points)"
        raise ValueError(f"scores have the shape {sample.shape}; expected {wanted}, none of them 0")
    return sample


def _checked(scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores, float)
    missing = int(np.isnan(scores).sum())
    if missing:
        raise ValueError(f"{missing} of {scores.size} scores are NaN; leave out runs or tasks that were not measured")
    return scores
