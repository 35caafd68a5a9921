"""Time and memory until a vector environment is ready. ``python -m benchmarks.speed.construction``

Every variant runs in a fresh process, which imports its packages, makes the environment and resets it once. Memory is
that of the process and all that it started: RSS counts pages that processes share once for each of them, PSS once in
all (Linux only).
"""

from __future__ import annotations

import argparse
import json
import select
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import psutil

from benchmarks import machine

ROUNDS = 3
SAMPLE_SECONDS = 0.05  # between two looks at the memory

SCRIPT = """
import json, time
start = time.perf_counter()
import {package}
import gymnasium as gym
imported = time.perf_counter()
envs = gym.make_vec({arguments})
made = time.perf_counter()
envs.reset(seed=0)
print(json.dumps([imported - start, made - imported, time.perf_counter() - made]), flush=True)
input()
envs.close()
"""

VARIANTS: dict[str, dict[str, str]] = {
    name: {
        "gym.make_vec": f"'QMP/{name}-v0'",
        "gym.make_vec(workers=1)": f"'QMP/{name}-v0', workers=1",
        "Meta-World, sync": f"'Meta-World/{name}', vector_strategy='sync', seed=0",
        "Meta-World, async": f"'Meta-World/{name}', vector_strategy='async', seed=0",
    }
    for name in ("MT10", "MT50")
}
"""Set -> variant -> the arguments of ``gym.make_vec``."""


def memory(process: psutil.Process) -> tuple[int, float, float]:
    """Processes, RSS and PSS in MB of a process and its descendants."""
    resident = proportional = 0.0
    count = 0
    for one in (process, *process.children(recursive=True)):
        try:
            full = one.memory_full_info()
        except psutil.Error:  # it has just ended
            continue
        count += 1
        resident += full.rss
        proportional += getattr(full, "pss", np.nan)
    return count, resident / 1e6, proportional / 1e6


def measure(arguments: str) -> dict[str, float]:
    """Seconds of import, construction and reset; the largest memory on the way, and the memory after it."""
    package = "qmp_envs" if "QMP/" in arguments else "metaworld"
    code = SCRIPT.format(package=package, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    watched = psutil.Process(process.pid)
    peak_resident = peak_proportional = 0.0
    while not select.select([process.stdout], [], [], SAMPLE_SECONDS)[0]:  # until it has written its line, or ended
        _, resident, proportional = memory(watched)
        peak_resident, peak_proportional = max(peak_resident, resident), max(peak_proportional, proportional)
    imported, made, reset = json.loads(process.stdout.readline())
    count, resident, proportional = memory(watched)
    process.communicate("\n", timeout=60)
    return {
        "import, s": imported,
        "make, s": made,
        "first reset, s": reset,
        "processes": count,
        "peak RSS, MB": max(peak_resident, resident),
        "peak PSS, MB": max(peak_proportional, proportional),
        "RSS after, MB": resident,
        "PSS after, MB": proportional,
    }


def table(sets: Iterable[str], rounds: int = ROUNDS, upstream: bool = True) -> str:
    """The medians, in Markdown."""
    rows: list[str] = []
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in sets:
            for variant, arguments in VARIANTS[name].items():
                if upstream or "QMP/" in arguments:
                    measured.setdefault((name, variant), []).append(measure(arguments))
    for (name, variant), results in measured.items():
        medians = {key: float(np.median([result[key] for result in results])) for key in results[0]}
        if not rows:
            rows = [f"| set | variant | {' | '.join(medians)} |", "|---" * (2 + len(medians)) + "|"]
        cells = [f"{value:.1f}" if key.endswith(", s") else f"{value:.0f}" for key, value in medians.items()]
        rows.append(f"| {name} | {variant} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(VARIANTS), action="append", help="measure only this; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--no-upstream", action="store_true", help="leave out Meta-World's own environments")
    arguments = parser.parse_args()
    before = machine.load()
    print(table(arguments.only or VARIANTS, arguments.rounds, not arguments.no_upstream))
    print(f"\n{machine.line(before)}; {arguments.rounds} rounds, medians")


if __name__ == "__main__":
    main()
