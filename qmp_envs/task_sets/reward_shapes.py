"""Shared reward shapes, as batched pure functions: how near is near enough, and how two such numbers combine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

VALUE_AT_MARGIN = 0.1  # of ``tolerance``, one margin away from the target interval

Shape = Callable[[np.ndarray, float], np.ndarray]
"""A falling curve: (distance in margins, value at distance 1) -> value; 1 at distance 0."""


def gaussian(distance: np.ndarray, value_at_margin: float = VALUE_AT_MARGIN) -> np.ndarray:
    """A bell curve: nearly no slope at the target and far away from it."""
    return np.exp(-0.5 * np.square(distance * _gaussian_scale(value_at_margin)))


def long_tail(distance: np.ndarray, value_at_margin: float = VALUE_AT_MARGIN) -> np.ndarray:
    """A curve that falls like 1 / distance^2, so that its slope still leads from far away."""
    return 1.0 / (np.square(distance * _long_tail_scale(value_at_margin)) + 1.0)


@cache
def _gaussian_scale(value_at_margin: float) -> float:
    return float(np.sqrt(-2.0 * np.log(value_at_margin)))


@cache
def _long_tail_scale(value_at_margin: float) -> float:
    return float(np.sqrt(1.0 / value_at_margin - 1.0))


def tolerance(
    x: ArrayLike,
    low: ArrayLike = 0.0,
    high: ArrayLike = 0.0,
    margin: ArrayLike = 0.0,
    shape: Shape = gaussian,
    value_at_margin: float = VALUE_AT_MARGIN,
) -> np.ndarray:
    """1 where ``low <= x <= high``, falling with the distance from that interval.

    All arguments broadcast; limits and margin may differ from slot to slot.

    :param x: any shape, any unit
    :param low, high: the target interval, in the unit of ``x``; infinite limits are allowed
    :param margin: the distance from the interval at which ``value_at_margin`` is left; where it is 0, nothing is
        left outside the interval
    :param shape: :func:`gaussian` or :func:`long_tail`, or any curve of that kind
    :param value_at_margin: between 0 and 1
    :return: float64 in [0, 1], of the common shape
    """
    x, low = np.asarray(x, np.float64), np.asarray(low, np.float64)
    high, margin = np.asarray(high, np.float64), np.asarray(margin, np.float64)
    if np.count_nonzero(low > high):
        raise ValueError(f"low must not be above high, got low {low.tolist()} and high {high.tolist()}.")
    if np.count_nonzero(margin < 0.0):
        raise ValueError(f"margin must be at least 0, got {margin.tolist()}.")
    if not 0.0 < value_at_margin < 1.0:
        raise ValueError(f"value_at_margin must be between 0 and 1, got {value_at_margin}.")
    outside_by = np.maximum(low - x, x - high)  # negative inside
    hard = margin == 0.0
    if np.count_nonzero(hard):
        value = np.where(hard, 0.0, shape(outside_by / np.where(hard, 1.0, margin), value_at_margin))
    else:
        value = shape(outside_by / margin, value_at_margin)
    return np.where(outside_by <= 0.0, 1.0, value)


def hamacher_product(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """a b / (a + b - a b), elementwise: a soft "and" of numbers in [0, 1]; 0 where both are 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    for name, array in (("a", a), ("b", b)):
        if np.count_nonzero((array >= 0.0) & (array <= 1.0)) != array.size:
            raise ValueError(f"{name} must be within [0, 1], got {array.tolist()}.")
    product = a * b
    denominator = a + b - product
    positive = denominator > 0.0
    if np.count_nonzero(positive) == positive.size:
        return product / denominator
    return np.where(positive, product / np.where(positive, denominator, 1.0), 0.0)
