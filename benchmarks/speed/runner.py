"""Measures cases one after the other, and prints and stores what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch as th

from benchmarks import machine
from benchmarks.speed import results
from benchmarks.speed.interleaved import Case, Times, measured

ROUNDS = 7
ROUND_SECONDS = 0.15  # of one variant; work that takes longer is done once a round


def rows(case: Case, times: dict[str, Times]) -> list[str]:
    """A case's part of the Markdown table."""
    lines = []
    for variant, one in times.items():
        numbers = [f"{1e3 * f(one.seconds):.4g} ms" for f in (np.median, np.min)]
        factors = ["", ""]
        if case.peer not in (None, variant):
            peer = times[case.peer].seconds  # type: ignore[index]
            factors = [f"{f(peer) / f(one.seconds):.2f}" for f in (np.median, np.min)]
        lines.append(f"| {case.group}: {case.name} | {variant} | {' | '.join(numbers + factors)} |")
    return lines


HEADING = ("| case | variant | median | minimum | faster than the peer by (medians) | (minima) |", "|---" * 6 + "|")


def run(cases: Iterable[Case], rounds: int, round_seconds: float, clock: str, out: Path | None) -> None:
    """Measure case after case; each is stored as soon as it is done."""
    th.set_num_threads(1)
    print("\n".join(HEADING), flush=True)
    for case in cases:
        load = machine.load()
        times = measured(case, rounds, round_seconds, clock)
        print("\n".join(rows(case, times)), flush=True)
        if out is not None:
            results.save(results.records(case, times, load), out)
