"""Checks of a task set's options: one clear error, at construction, where a value is not allowed."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from numbers import Integral, Real

from qmp_envs.suggestions import closest


def choice(name: str, given: object, allowed: Iterable[str]) -> str:
    """One of the allowed texts."""
    texts = tuple(allowed)
    if isinstance(given, str) and given in texts:
        return given
    raise ValueError(
        f"Unknown {name} {given!r}; did you mean {closest(str(given), texts)!r}? "
        f"Allowed: {', '.join(map(repr, texts))}."
    )


def number(name: str, given: object, low: float = -inf, above: bool = False) -> float:
    """A finite number that is at least ``low``, or above it."""
    limit = "" if low == -inf else f" {'above' if above else 'of at least'} {low:g}"
    if isinstance(given, bool) or not isinstance(given, Real) or not isfinite(given):
        raise ValueError(f"{name} must be a finite number{limit}, got {given!r}.")
    if given < low or (above and given == low):
        nearest = f"say 1, or a small number above {low:g}" if above else f"the nearest is {low:g}"
        raise ValueError(f"{name} must be a finite number{limit}, got {given!r}; {nearest}.")
    return float(given)


def seed(name: str, given: object) -> int:
    """A whole number that is at least 0."""
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise ValueError(f"{name} must be a whole number of at least 0, got {given!r}.")
    if given < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {given!r}; the nearest is 0.")
    return int(given)
