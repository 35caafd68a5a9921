"""Checks of plain arguments: each hands the value back, or says what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from qmp_envs.suggestions import did_you_mean


def one_of(argument: str, value: str, known: Iterable[str]) -> str:
    """``value`` if it is known.

    :raises ValueError: naming the closest known value
    """
    if value not in known:
        raise ValueError(f"{argument}={value!r} is unknown; {did_you_mean(value, known)}")
    return value


def each_of(
    argument: str, value: str | dict[str, str], known: Iterable[str], roles: tuple[str, ...] = ("actor", "critic")
) -> str | dict[str, str]:
    """``value``, one name or ``{"actor": name, "critic": name}``, if the names are known.

    :raises ValueError: naming the closest known name, or the missing role
    """
    if isinstance(value, dict) and set(value) != set(roles):
        raise ValueError(f"{argument} is given for {', '.join(value)}; it needs {' and '.join(roles)}, or one name")
    for name in value.values() if isinstance(value, dict) else [value]:
        one_of(argument, name, known)
    return value


def at_least(argument: str, value: int, minimum: int) -> int:
    """``value`` if it is not below ``minimum``."""
    if not _is_number(value) or value < minimum:
        raise ValueError(f"{argument} is {value!r}; it must be at least {minimum}")
    return value


def whole_number(argument: str, value: float, minimum: int) -> int:
    """``value`` as an int if it is whole, ``3e5`` for example, and not below ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < minimum:
        raise ValueError(f"{argument} is {value!r}; it must be a whole number of at least {minimum}")
    return int(value)


def positive(argument: str, value: float) -> float:
    """``value`` if it is greater than 0."""
    if not _is_number(value) or not value > 0.0:
        raise ValueError(f"{argument} is {value!r}; it must be a number greater than 0")
    return value


def positive_or_none(argument: str, value: float | None) -> float | None:
    """``value`` if it is greater than 0, or None."""
    return None if value is None else positive(argument, value)


def share(argument: str, value: float) -> float:
    """``value`` if it is from 0 to 1."""
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{argument} is {value!r}; it must be a number from 0 to 1")
    return value


def precision(matmul_precision: str | None) -> str | None:
    """A name that PyTorch knows, or None."""
    if matmul_precision is None:
        return None
    return one_of("matmul_precision", matmul_precision, ("highest", "high", "medium"))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
