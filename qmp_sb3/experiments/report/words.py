"""Names and numbers as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qmp_envs.measures import SHARES


def axis_labels(measure: str) -> str:
    """How numbers on an axis of a measure read, as Vega writes it: 40%, or 1.5k."""
    return f"format(datum.value, '{'.0%' if measure in SHARES else '~s'}')"


def value(number: float | None, measure: str) -> str:
    """A value of a measure with its unit; a dash where there is none."""
    if number is None or math.isnan(number):
        return "–"
    return f"{number:.0%}" if measure in SHARES else thousands(number)


def thousands(number: float) -> str:
    """With separators of thousands, and decimals only where they tell something."""
    text = f"{number:,.0f}" if abs(number) >= 100 else f"{number:,.1f}" if abs(number) >= 1 else f"{number:.2g}"
    return text.replace("-", "−")


def interval(low: float, high: float, measure: str) -> str:
    """``[40%, 60%]``; nothing where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"[{value(low, measure)}, {value(high, measure)}]"


def number_of(count: int, noun: str) -> str:
    """``1 run``, ``1,200 runs``"""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """``a, b and c``; the rest counted."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def hours(seconds: float | None) -> str:
    """``2.5 h`` or ``12 min``"""
    if seconds is None or math.isnan(seconds):
        return "–"
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.1f} min"
