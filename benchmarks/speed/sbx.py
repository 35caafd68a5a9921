"""Separate SBX SACs (Stable-Baselines3 in JAX) doing the work of the cases "update" and "q-switch".

They need packages of their own (the extra ``peers``), so they run in a process, and best in a virtual environment, of
their own: ``python -m benchmarks.speed.sbx --out``. Compilation is not counted. JAX uses as many cores as it may;
``taskset --cpu-list 0`` gives it one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sbx import SAC

from benchmarks.speed import results
from benchmarks.speed.interleaved import Case, Variant
from benchmarks.speed.learners import HIDDEN, OBSERVATIONS, STORED, NoDynamics, fill
from benchmarks.speed.runner import ROUND_SECONDS, ROUNDS, run

UPDATES = ((5, 32), (10, 32), (5, 256))  # tasks, batch
STEPS_PER_CALL = (1, 100)


def models(tasks: int, batch_size: int) -> list[SAC]:
    """One model per task, each with a full replay buffer."""
    made = []
    for seed in range(tasks):
        model = SAC(
            "MlpPolicy",
            NoDynamics(),
            seed=seed,
            buffer_size=STORED,
            batch_size=batch_size,
            policy_kwargs={"net_arch": HIDDEN},
        )
        fill(model)
        made.append(model)
    return made


def update(tasks: int, batch_size: int) -> dict[str, Variant]:
    """Gradient steps of all tasks, drawing the batches included."""
    separate = models(tasks, batch_size)

    def train(steps: int) -> None:
        for model in separate:
            model.train(steps, batch_size)

    return {f"{steps} steps per call": Variant(partial(train, steps), steps) for steps in STEPS_PER_CALL}


def predict(tasks: int) -> dict[str, Variant]:
    """One action of every model for its own observation, without a Q-switch."""
    separate = models(tasks, 32)
    observations = np.random.default_rng(1).normal(size=(tasks, OBSERVATIONS)).astype(np.float32)

    def act() -> None:
        for model, observation in zip(separate, observations, strict=True):
            model.predict(observation)

    return {"predict of every model": Variant(act)}


def cases(cores: int) -> Iterator[Case]:
    """All that is measured; ``cores`` is what JAX may use."""
    kind = f"SBX, {cores} core{'s' if cores > 1 else ''}"
    for tasks, batch in UPDATES:
        name = f"update of {tasks} SACs, batch {batch}"
        yield Case(kind, name, partial(update, tasks, batch), "gradient step of all tasks")
    for tasks in (5, 10):
        yield Case(kind, f"predict of {tasks} SACs", partial(predict, tasks), "action of every task")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, nargs="?", const=results.RESULTS, help="store (by default %(const)s)")
    options = parser.parse_args(arguments)
    run(cases(len(os.sched_getaffinity(0))), options.rounds, ROUND_SECONDS, "wall", options.out)


if __name__ == "__main__":
    main()
