"""What a method costs beside separate learners: ``python -m benchmarks.speed.methods --tasks 5 10 50``

One update of all tasks (drawing the batch and the sharing part included) and one action of every task (the Q-switch
included), as multiples of ``no-sharing``. Every method has the same hidden widths and as many rows in a batch, so that
the parts are compared and not the presets' sizes. Rounds alternate between the method and ``no-sharing``; a number is
the quotient of the medians. Tasks are routes of the Maze, which can reward any stored transition; it has no subgoals,
so ``qmp-domain`` has a table given by hand. Distillation, once in 100,000 steps, is no part of an update here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from benchmarks import machine
from benchmarks.speed.ratios import CLOCKS, interleaved
from benchmarks.speed.workloads import Group
from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.vec_env import MultiTaskVecEnv

ID, BASE = "QMP/Maze-v0", "no-sharing"
TASKS, HIDDEN, BATCH = (5, 10, 50), [256, 256], 64
STORED = 1000  # transitions of each task
UPDATES = 2  # per call of train(), which does its logging once
ROUNDS, ROUND_SECONDS = 11, 0.05
EXTRA = ("parameters+qmp", "data+qmp", "pcgrad+qmp", "mcal-mn+qmp", "decaf+qmp")
"""Compositions that are measured after all methods of the table."""


def names() -> tuple[str, ...]:
    """What is measured unless told otherwise."""
    return (*(name for name in presets.methods() if name != BASE), *EXTRA)


def model(name: str, env: MultiTaskVecEnv) -> MultiTaskSAC:
    """A method with a filled replay buffer, which has not learned anything yet."""
    row = presets.method(name)
    changes: dict[str, Any] = dict(row.parts)
    tasks = len(env.task_names)
    if changes.get("behavior") == "domain":
        changes["behavior"] = f"table({np.full((tasks, tasks), 1 / tasks).tolist()})"
    changes.pop("hooks", None)
    steps = STORED * tasks
    built = row.algorithm(
        "MlpPolicy",
        env,
        seed=0,
        device="cpu",
        policy_kwargs={"net_arch": HIDDEN},
        batch_size=BATCH,
        buffer_size=STORED,
        learning_starts=steps + 1,
        **changes,
    )
    built.learn(steps)
    built.set_logger(Logger(None, []))
    return built


def updating(one: MultiTaskSAC) -> None:
    """``UPDATES`` joint updates."""
    one.train(UPDATES, BATCH)


def acting(one: MultiTaskSAC) -> None:
    """One action for every task, as in training."""
    assert isinstance(one._last_obs, np.ndarray)
    one._act(one._last_obs)


KINDS = {"update": updating, "action": acting}


def behaves_only(name: str) -> bool:
    """Whether a method changes nothing of the update."""
    return set(presets.method(name).parts) == {"behavior"}


def pairs(name: str, base: MultiTaskSAC, other: MultiTaskSAC) -> dict[str, Group]:
    """Kind of work -> the method and the base."""
    kinds = {kind: work for kind, work in KINDS.items() if not (kind == "update" and behaves_only(name))}
    return {
        kind: {name: lambda work=work: work(other), BASE: lambda work=work: work(base)}  # type: ignore[misc]
        for kind, work in kinds.items()
    }


def costs(
    tasks: int, methods: Iterable[str], rounds: int, round_seconds: float, clock: str
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Seconds of the base per kind of work, and of each method the cost as a multiple of it."""
    env = make_multitask_vec_env(ID, num_tasks=tasks)
    base = model(BASE, env)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    multiples: dict[str, dict[str, float]] = {}
    for name in methods:
        multiples[name] = {}
        for kind, group in pairs(name, base, model(name, env)).items():
            rounds_of = interleaved(group, rounds, round_seconds, clock)
            medians = {one: float(np.median(values)) for one, values in rounds_of.items()}
            seconds[kind].append(medians[BASE])
            multiples[name][kind] = medians[name] / medians[BASE]
    for kind in (kind for kind, values in seconds.items() if not values):  # no method changes it
        alone = interleaved({BASE: lambda work=KINDS[kind]: work(base)}, rounds, round_seconds, clock)  # type: ignore[misc]
        seconds[kind].append(float(np.median(alone[BASE])))
    calls = {"update": UPDATES, "action": 1}
    return {kind: float(np.median(values)) / calls[kind] for kind, values in seconds.items()}, multiples


def table(
    tasks: Sequence[int] = TASKS,
    methods: Sequence[str] | None = None,
    rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    clock: str = "wall",
) -> str:
    """The measured table, in Markdown: the base in milliseconds, all others as multiples."""
    th.set_num_threads(1)
    methods = names() if methods is None else methods
    measured = {count: costs(count, methods, rounds, round_seconds, clock) for count in tasks}
    columns = [(kind, count) for kind in KINDS for count in tasks]
    lines = [
        "| method | " + " | ".join(f"{kind}, {count} tasks" for kind, count in columns) + " |",
        "|---" * (1 + len(columns)) + "|",
        f"| `{BASE}` | " + " | ".join(f"{1e3 * measured[count][0][kind]:.3g} ms" for kind, count in columns) + " |",
    ]
    for name in methods:
        cells = [measured[count][1][name].get(kind) for kind, count in columns]
        lines.append(f"| `{name}` | " + " | ".join("same" if cell is None else f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", type=int, default=TASKS, help="numbers of tasks (default %(default)s)")
    parser.add_argument("--methods", nargs="+", help="instead of all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="cpu: for a machine that is busy")
    options = parser.parse_args()
    try:
        for name in options.methods or ():
            presets.method(name)
    except ValueError as error:
        parser.error(str(error))
    before = machine.load()
    print(table(options.tasks, options.methods, options.rounds, clock=options.clock))
    about = machine.description()
    print(
        f"\n{about['processor']}, {about['torch_threads']} torch thread; load {before:.1f} before, {about['load']} "
        f"after; {options.rounds} rounds, {options.clock} time; hidden {HIDDEN}, {BATCH} rows per task"
    )


if __name__ == "__main__":
    main()
