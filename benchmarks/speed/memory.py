"""Memory of a whole run, and what it is made of; time and memory until a vector environment is ready.

``python -m benchmarks.speed.memory --out`` measures both, each case in a fresh process that loads nothing it does not
need. Memory is PSS, the process and all that it started: what they share counts once (Linux only).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.speed import results
from docs.generators.tables import markdown

RUNS = {"QMP/MultistageReacher-v0": 5, "QMP/MT10-v0": 10, "QMP/MT50-v0": 50}
"""id -> number of tasks"""
CAPACITY = 50_000  # transitions per task of the replay that is filled

SHARED = """
import json, os, resource, sys, time
import psutil

def memory():
    process = psutil.Process()
    return sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True))) / 1e6

stages = {}
"""
RUN = """
stages["interpreter"] = memory()
import torch, qmp_sb3
import numpy as np
from qmp_sb3 import presets
from stable_baselines3.common.logger import Logger
stages["imports"] = memory()
env = qmp_sb3.make_multitask_vec_env(sys.argv[1])
observations = env.reset()
stages["environments"] = memory()
capacity = int(sys.argv[2])
model = presets.make("qmp", env, seed=0, device="cpu", buffer_size=capacity)
model.set_logger(Logger(None, []))
action = np.zeros((env.num_envs, *env.action_space.shape), np.float32)
row = (observations, observations, action, np.zeros(env.num_envs), np.zeros(env.num_envs), [{}] * env.num_envs)
columns = model.replay_buffer.columns
def add():
    if columns:
        model.replay_buffer.stage({name: np.zeros((env.num_envs, *shape)) for name, shape in columns.items()})
    model.replay_buffer.add(*row)
add()
model.train(2, model.batch_size)
model._act(observations)
stages["networks, optimizer, one batch"] = memory()
for _ in range(capacity):
    add()
stages["full replay"] = memory()
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"stages": stages, "peak_rss_mb": own, "preset_capacity": presets.settings("qmp", sys.argv[1], "fast")
    .get("buffer_size", 1_000_000)}))
env.close()
"""
CONSTRUCTION = """
start = time.perf_counter()
import gymnasium as gym
package, call = sys.argv[1:]
__import__(package)
imported = time.perf_counter()
envs = eval(call)
made = time.perf_counter()
envs.reset(seed=0)
reset = time.perf_counter()
processes = 1 + len(psutil.Process().children(recursive=True))
print(json.dumps({"import_s": imported - start, "make_s": made - imported, "reset_s": reset - made,
    "processes": processes, "pss_mb": memory()}))
envs.close()
"""
CONSTRUCTIONS = {
    f"{name}: {variant}": (package, call.replace("NAME", name))
    for name in ("MT10", "MT50")
    for variant, package, call in (
        ("gym.make_vec", "qmp_envs", "gym.make_vec('QMP/NAME-v0')"),
        ("gym.make_vec(workers=1)", "qmp_envs", "gym.make_vec('QMP/NAME-v0', workers=1)"),
        ("Meta-World's own, sync", "metaworld", "gym.make_vec('Meta-World/NAME', vector_strategy='sync', seed=0)"),
    )
}
"""Variant -> package to import, what makes the environments."""


def fresh(script: str, *arguments: str) -> dict:
    """What a script prints as JSON, in a process of its own.

    :raises RuntimeError: with its error output, if it fails
    """
    command = [sys.executable, "-W", "ignore", "-c", SHARED + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"measuring {' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def of_run(id: str, capacity: int = CAPACITY) -> dict:
    """MB that each stage of a run adds, its peak, and bytes of a stored transition."""
    told = fresh(RUN, id, str(capacity))
    totals = told["stages"]
    added = {name: totals[name] - before for name, before in zip(totals, (0.0, *totals.values()), strict=False)}
    tasks = RUNS[id]
    return {
        "id": id,
        "tasks": tasks,
        "capacity": capacity,
        "added_mb": {name: round(value, 1) for name, value in added.items()},
        "total_mb": round(totals["full replay"], 1),
        "peak_rss_mb": round(told["peak_rss_mb"], 1),
        "bytes_per_transition": round(1e6 * added["full replay"] / capacity / tasks, 1),
        "preset_capacity": told["preset_capacity"],
    }


def of_construction(variant: str) -> dict:
    """Seconds and MB until the first reset is done."""
    told = fresh(CONSTRUCTION, *CONSTRUCTIONS[variant])
    return {"variant": variant} | {name: round(value, 2) for name, value in told.items()}


def run_table(runs: Sequence[dict]) -> str:
    """One row per run."""
    stages = list(runs[0]["added_mb"])
    rows = [
        (
            f"`{one['id']}`",
            str(one["tasks"]),
            *(f"{one['added_mb'][stage]:,.0f}" for stage in stages),
            f"{one['total_mb']:,.0f}",
            f"{one['bytes_per_transition']:.0f}",
        )
        for one in runs
    ]
    replay = f"replay of {runs[0]['capacity']:,} per task"
    named = [replay if stage == "full replay" else stage for stage in stages]
    return markdown(("run", "tasks", *named, "together, MB", "bytes per transition"), rows)


def construction_table(variants: Sequence[dict]) -> str:
    """One row per variant."""
    heading = ("environments", "import, s", "make, s", "first reset, s", "processes", "PSS, MB")
    rows = [
        (one["variant"], f"{one['import_s']:.1f}", f"{one['make_s']:.1f}", f"{one['reset_s']:.1f}")
        + (f"{one['processes']:.0f}", f"{one['pss_mb']:.0f}")
        for one in variants
    ]
    return markdown(heading, rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--capacity", type=int, default=CAPACITY, help="transitions per task (default %(default)s)")
    parser.add_argument("--no-construction", action="store_true", help="runs only")
    parser.add_argument("--out", type=Path, nargs="?", const=results.RESULTS, help="store (by default %(const)s)")
    options = parser.parse_args(arguments)
    before = machine.load()
    sections = {"memory": [of_run(id, options.capacity) for id in options.ids]}
    print(run_table(sections["memory"]), flush=True)
    if not options.no_construction:
        sections["fresh"] = [of_construction(variant) for variant in CONSTRUCTIONS]
        print(construction_table(sections["fresh"]))
    print(f"\n{machine.line(before)}")
    if options.out is not None:
        results.save([], options.out, **sections)


if __name__ == "__main__":
    main()
