"""Statistics of runs and tasks against matrices done by hand and against rliable's values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qmp_sb3.experiments.analysis import statistics
from qmp_sb3.experiments.analysis.statistics import (
    bootstrap,
    iqm,
    mean,
    mean_ranks,
    median,
    normalized,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    sample_efficiency,
    steps_to_reach,
    task_ranks,
)

TWO_BY_THREE = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 7.0]])
"""2 runs of 3 tasks; means over runs 1, 2 and 6."""

# What rliable 1.2.0 (NumPy 2.4, SciPy 1.17, pandas 2.3) gives for FIVE and FOUR, by
#   metrics.aggregate_iqm(FIVE), ..., metrics.probability_of_improvement(FIVE, FOUR),
#   np.random.seed(0); library.get_interval_estimates({"x": FIVE}, lambda s: np.array([metrics.aggregate_iqm(s)]))
FIVE = np.round(np.random.default_rng(7).random((5, 10)), 2)
FOUR = np.round(np.random.default_rng(8).random((4, 10)) + 0.1, 2)
RLIABLE_INTERVALS = {"iqm": (0.39769, 0.59923), "mean": (0.41980, 0.56960)}  # of 50,000 resamples
RLIABLE_IMPROVEMENT_INTERVAL = (0.33, 0.585)  # of 2,000 resamples


# ---- aggregates ------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    assert mean(TWO_BY_THREE) == 3.0
    assert median(TWO_BY_THREE) == 2.0
    assert iqm(TWO_BY_THREE) == (1 + 2 + 3 + 5) / 4, "0 and 7 are left out, one of six at either end"
    assert optimality_gap(TWO_BY_THREE, 4.0) == 4 - (0 + 1 + 4 + 2 + 3 + 4) / 6
    assert optimality_gap(np.full((2, 2), 3.0)) == 0.0, "what is above the target does not make up for what is below"


def test_iqm_of_few_scores_leaves_none_out() -> None:
    assert iqm([[1.0, 2.0, 6.0]]) == 3.0


def test_against_rliable() -> None:
    assert iqm(FIVE) == pytest.approx(0.49538461538461537, abs=1e-12)
    assert iqm(FOUR) == pytest.approx(0.487, abs=1e-12)
    assert mean(FIVE) == pytest.approx(0.4948, abs=1e-12)
    assert median(FIVE) == pytest.approx(0.464, abs=1e-12)
    assert optimality_gap(FOUR) == pytest.approx(0.47975, abs=1e-12)
    assert optimality_gap(FIVE, 0.5) == pytest.approx(0.125, abs=1e-12)
    assert probability_of_improvement(FIVE, FOUR) == pytest.approx(0.4575, abs=1e-12)
    np.testing.assert_allclose(performance_profile(FIVE, [0, 0.25, 0.5, 0.75, 1]), [0.98, 0.72, 0.52, 0.26, 0])


@pytest.mark.parametrize("statistic", list(statistics.AGGREGATES.values()))
def test_axes_in_front_are_further_samples(statistic: statistics.Statistic) -> None:
    many = np.random.default_rng(0).random((3, 4, 5, 6))
    result = statistic(many)
    assert result.shape == (3, 4)
    assert result[2, 1] == pytest.approx(float(statistic(many[2, 1])))


# ---- comparisons -----------------------------------------------------------------------------------------


def test_improvement_counts_ties_half() -> None:
    ours, theirs = np.array([[1.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 6.0], [0.0, 4.0], [2.0, 5.0]])
    first = (0.5 + 1 + 0 + 1 + 1 + 0.5) / 6  # 1 against 1, 0, 2; then 2
    second = (0 + 1 + 0.5) / 3
    assert probability_of_improvement(ours, theirs) == pytest.approx((first + second) / 2)
    assert probability_of_improvement(theirs, ours) == pytest.approx(1 - (first + second) / 2)


def test_improvement_needs_the_same_tasks() -> None:
    with pytest.raises(ValueError, match="3 tasks against 10"):
        probability_of_improvement(TWO_BY_THREE, FIVE)


def test_profile_is_above_not_at() -> None:
    np.testing.assert_array_equal(performance_profile(TWO_BY_THREE, [0.0, 2.0, 7.0]), [5 / 6, 3 / 6, 0])


def test_ranks_by_hand() -> None:
    first, second, third = np.array([[3.0, 1.0]]), np.array([[2.0, 1.0], [2.0, 3.0]]), np.array([[1.0, 1.0]])
    np.testing.assert_array_equal(task_ranks(first, second, third), [[1, 2.5], [2, 1], [3, 2.5]])
    np.testing.assert_array_equal(mean_ranks(first, second, third), [1.75, 1.5, 2.75])


def test_normalized_by_task() -> None:
    np.testing.assert_allclose(normalized(TWO_BY_THREE, [0, 1, 3], [2, 3, 7]), [[0, 0, 0.5], [1, 1, 1]])
    with pytest.raises(ValueError, match="its end must be above its beginning"):
        normalized(TWO_BY_THREE, 1.0, 1.0)


# ---- time ------------------------------------------------------------------------------------------------


def test_steps_to_reach() -> None:
    curves = np.array([[0.0, 0.5, 0.2, 0.9], [0.0, 0.1, 0.2, 0.3], [0.7, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(steps_to_reach(curves, [10, 20, 30, 40], 0.5), [20, np.inf, 10])


def test_an_interval_of_times_may_end_at_infinity() -> None:
    curves = np.repeat(np.array([[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 0.0]]]), 2, axis=1)
    times = steps_to_reach(curves, [10, 20], 1.0)
    interval = bootstrap(lambda one: np.median(one.mean(axis=-1), axis=-1), times, resamples=500)
    assert interval.value == 20 == interval.low and interval.high == math.inf


def test_sample_efficiency_is_the_statistic_at_each_point() -> None:
    curves = np.random.default_rng(1).random((6, 4, 3))
    interval = sample_efficiency(curves, resamples=400)
    assert interval.low.shape == (3,)
    for point in range(3):
        assert interval.value[point] == pytest.approx(float(iqm(curves[:, :, point])))
        assert interval.low[point] < interval.value[point] < interval.high[point]


def test_runs_are_drawn_with_all_their_points() -> None:
    """Curves that only differ by a constant per run keep their shape in every resample."""
    curves = np.random.default_rng(2).random((5, 3, 1)) + np.array([0.0, 1.0, 5.0])
    steps_between = bootstrap(lambda one: np.diff(mean(one), axis=-1), curves, resamples=50, points=True)
    np.testing.assert_allclose(steps_between.low, [1, 4])
    np.testing.assert_allclose(steps_between.high, [1, 4])


# ---- intervals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RLIABLE_INTERVALS)
def test_intervals_against_rliable(name: str) -> None:
    interval = bootstrap(statistics.AGGREGATES[name], FIVE)
    assert (interval.low, interval.high) == pytest.approx(RLIABLE_INTERVALS[name], abs=0.004)


def test_improvement_interval_against_rliable() -> None:
    interval = bootstrap(probability_of_improvement, FIVE, FOUR, resamples=20_000)
    assert (interval.low, interval.high) == pytest.approx(RLIABLE_IMPROVEMENT_INTERVAL, abs=0.012)


def test_all_resamples_of_two_runs() -> None:
    """With 2 runs of a task the resamples' means are 0, 1/2, 1/2, 1: quantiles are known."""
    interval = bootstrap(mean, [[0.0], [1.0]], resamples=4000, confidence=0.4)
    assert (interval.low, interval.high) == (0.5, 0.5)
    interval = bootstrap(mean, [[0.0], [1.0]], resamples=4000, confidence=0.9)
    assert (interval.low, interval.high) == (0.0, 1.0)


def test_runs_are_drawn_within_their_task() -> None:
    """Tasks that all runs solve alike have no spread, however different the tasks are."""
    scores = np.tile([0.0, 10.0, 100.0], (5, 1))
    interval = bootstrap(mean, scores, resamples=200)
    assert interval.low == interval.high == pytest.approx(110 / 3)


def test_the_seed_decides_and_the_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(probability_of_improvement, FIVE, FOUR, resamples=300, seed=0)
    assert bootstrap(probability_of_improvement, FIVE, FOUR, resamples=300, seed=0) == whole
    monkeypatch.setattr(statistics, "CHUNK", 7 * (FIVE.size + FOUR.size))
    assert bootstrap(probability_of_improvement, FIVE, FOUR, resamples=300, seed=0) == whole
    assert bootstrap(probability_of_improvement, FIVE, FOUR, resamples=300, seed=1) != whole


def test_intervals_cover() -> None:
    """Of 300 experiments with 20 runs, about 95 % of the intervals hold the true mean (a little less: percentiles)."""
    draws = np.random.default_rng(3).normal(size=(300, 20, 4))
    intervals = [bootstrap(mean, one, resamples=400) for one in draws]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.9 < covered < 0.98


def test_one_run_says_nothing_about_spread() -> None:
    interval = bootstrap(iqm, FIVE[:1], resamples=10)
    assert interval.value == iqm(FIVE[:1]) and np.isnan(interval.low) and np.isnan(interval.high)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ([[1.0, np.nan]], {}, "1 of 2 scores are NaN"),
        ([1.0, 2.0], {}, r"shape \(2,\); expected \(runs, tasks\)"),
        (np.zeros((0, 3)), {}, r"shape \(0, 3\)"),
        ([[1.0], [2.0]], {"confidence": 95}, "confidence is 95"),
        ([[1.0], [2.0]], {"resamples": 0}, "resamples is 0"),
    ],
)
def test_bad_input_is_refused(scores: object, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(iqm, scores, **options)  # type: ignore[arg-type]
