"""How many times faster: all variants interleaved in one process. ``python -m benchmarks.speed.ratios``

Rounds alternate between the variants, so that whatever else the machine does hits all of them alike; what is compared
are medians, and minima for what the code could do on a quiet machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch as th

from benchmarks import machine
from benchmarks.speed.workloads import GROUPS, UPDATES, Group, Workload

ROUNDS = 31
ROUND_SECONDS = 0.1  # of one variant; short work is repeated that long


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""``cpu`` leaves out the time in which other processes ran; for a machine that is busy."""


def time_round(work: Workload, repeats: int, clock: Callable[[], float]) -> float:
    """Seconds per call."""
    start = clock()
    for _ in range(repeats):
        work()
    return (clock() - start) / repeats


def interleaved(group: Group, rounds: int, round_seconds: float, clock: str = "wall") -> dict[str, np.ndarray]:
    """Seconds per call of every variant, ``(rounds,)``."""
    repeats = {}
    for name, work in group.items():
        time_round(work, 3, CLOCKS["wall"])  # warm up: caches, lazily allocated optimizer states
        repeats[name] = max(1, int(round_seconds / time_round(work, 3, CLOCKS["wall"])))
    seconds: dict[str, list[float]] = {name: [] for name in group}
    for _ in range(rounds):
        for name, work in group.items():
            seconds[name].append(time_round(work, repeats[name], CLOCKS[clock]))
    return {name: np.array(values) for name, values in seconds.items()}


def table(
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    names: Iterable[str] = tuple(GROUPS),
    clock: str = "wall",
) -> str:
    """The measured table, in Markdown."""
    th.set_num_threads(1)
    rows = [
        "| work | variant | median | minimum | ours is faster by (medians) | (minima) |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        seconds = interleaved(GROUPS[name](), rounds, round_seconds, clock)
        calls = UPDATES if name.startswith("update") else 1
        ours = next(iter(seconds.values()))
        for variant, values in seconds.items():
            factors = [f"{f(values) / f(ours):.2f}" if values is not ours else "" for f in (np.median, np.min)]
            times = [f"{1e3 * f(values) / calls:.3g} ms" for f in (np.median, np.min)]
            rows.append(f"| {name} | {variant} | {' | '.join(times)} | {' | '.join(factors)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=tuple(GROUPS), action="append", help="measure only this; may be repeated")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: for a machine that is busy")
    arguments = parser.parse_args()
    before = machine.load()
    print(table(arguments.rounds, names=arguments.only or GROUPS, clock=arguments.clock))
    about = machine.description()
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())  # type: ignore[attr-defined]
    print(
        f"\n{about['processor']}, {about['cpus']} cores, {about['torch_threads']} torch thread; load {before:.1f} "
        f"before, {about['load']} after; {arguments.rounds} rounds, {arguments.clock} time; {versions}"
    )


if __name__ == "__main__":
    main()
