"""Timing of variants of the same work in one process, in rounds that alternate between them.

Whatever else the machine does hits all variants alike, so their ratio can be trusted where the seconds cannot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` leaves out the time in which other processes ran, for a busy machine; it does not see worker processes."""


@dataclass(frozen=True)
class Variant:
    """One way to do the work."""

    work: Callable[[], object]
    operations: float = 1
    """How many operations one call does; seconds are given per operation."""
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Case:
    """The same work, done in several ways."""

    group: str
    """Kind of work, e.g. ``"update"``."""
    name: str
    """Its size, e.g. ``"5 tasks, batch 32"``."""
    build: Callable[[], Mapping[str, Variant]]
    """Variants by name; the first one is ours, by default settings where there is a choice."""
    operation: str
    """What the seconds are for, e.g. ``"gradient step of all tasks"``."""
    peer: str | None = None
    """The variant that the others are compared with; None where there is only ours."""


@dataclass(frozen=True)
class Times:
    """Seconds per operation of one variant, ``(rounds,)``, and how many operations a round did."""

    seconds: np.ndarray
    operations: float
    clock: str = field(default="wall")


def interleaved(variants: Mapping[str, Variant], rounds: int, round_seconds: float, clock: str) -> dict[str, Times]:
    """Measure all variants; a round calls each for about ``round_seconds``, but at least once."""
    repeats = {}
    for name, variant in variants.items():
        _time(variant, 1, "wall")  # caches, lazily made optimizer states
        repeats[name] = max(1, round(round_seconds / _time(variant, 1, "wall")))
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            seconds[name].append(_time(variant, repeats[name], clock) / variant.operations)
    return {
        name: Times(np.array(seconds[name]), repeats[name] * variant.operations, clock)
        for name, variant in variants.items()
    }


def _time(variant: Variant, repeats: int, clock: str) -> float:
    """Seconds per call."""
    now, work = CLOCKS[clock], variant.work
    start = now()
    for _ in range(repeats):
        work()
    return (now() - start) / repeats


def measured(case: Case, rounds: int, round_seconds: float, clock: str = "wall") -> dict[str, Times]:
    """Build a case's variants, measure and close them."""
    variants = case.build()
    try:
        return interleaved(variants, rounds, round_seconds, clock)
    finally:
        close(variants.values())


def close(variants: Iterable[Variant]) -> None:
    """Give back what they hold."""
    for variant in variants:
        variant.close()
