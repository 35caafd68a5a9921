"""Dividing a number in proportion to masses, within limits, into whole parts: pure functions."""

from __future__ import annotations

import numpy as np


def water_filling(masses: np.ndarray, total: float, low: float, high: float) -> np.ndarray:
    """x_i = clip(c m_i, low, high) with the one c for which sum_i x_i = total, ``(n,)``.

    That is the end of: divide in proportion, cut at the limits, divide what is over or missing among those that are
    not at a limit, until nothing is. Between the values of c at which some x_i meets a limit the sum is linear.

    :param masses: m, ``(n,)``, above 0
    :param total: from n * low to n * high
    """
    bends = np.sort(np.concatenate([low / masses, high / masses]))
    sums = np.clip(bends[:, None] * masses, low, high).sum(axis=1)  # (2 n,), never falls
    return np.clip(np.interp(total, sums, bends) * masses, low, high)


def whole(parts: np.ndarray) -> np.ndarray:
    """Whole numbers with the same sum, ``(n,)``, each less than 1 away from its part.

    The largest remainders are rounded up, of equal ones the first.

    :param parts: ``(n,)``, with a whole sum
    """
    parts = np.round(parts, 6)  # what is whole but for rounding has no remainder
    counts = np.floor(parts).astype(np.int64)
    missing = round(parts.sum()) - counts.sum()
    counts[np.argsort(counts - parts, kind="stable")[:missing]] += 1
    return counts
