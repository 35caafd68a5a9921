"""QMP for a first 20,000 steps on every task set: does it run, are its losses finite, has it learned anything yet?

``python -m benchmarks.every_set`` trains each id with its preset ``fast``, then compares the return of the tasks' own
deterministic policies with that of uniformly random actions in the same episodes, and prints two Markdown tables: one
row per set, and one row per task. Nothing is expected of the numbers: 20,000 steps are a first look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

import qmp_envs
from docs.generators.tables import markdown
from qmp_envs.results.provenance import processor
from qmp_sb3 import make_multitask_vec_env, presets
from qmp_sb3.evaluation import OwnPolicy, evaluate_tasks

STEPS, EPISODES, EVALUATION_SEED = 20_000, 5, 1000


class RandomPolicy:
    """Uniform actions in [-1, 1] from a generator of its own.

    :param act_dim: elements of an action
    :param seed: of the generator
    """

    def __init__(self, act_dim: int, seed: int) -> None:
        self.act_dim, self.generator = act_dim, np.random.default_rng(seed)

    def __call__(self, observations: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        """``(slots, act)``"""
        return self.generator.uniform(-1.0, 1.0, (len(task_ids), self.act_dim)).astype(np.float32)


@dataclass(frozen=True)
class Result:
    """One set: returns ``(tasks, episodes)`` of both policies, and how the training went."""

    id: str
    tasks: tuple[str, ...]
    own: np.ndarray
    random: np.ndarray
    updates: int
    finite: bool
    """Every loss that was logged, every parameter."""
    seconds: float
    """Wall time of ``learn``."""

    @property
    def better(self) -> np.ndarray:
        """``(tasks,)`` bool: the own policy's mean is above all that random episodes vary: mean + 2 deviations."""
        return self.own.mean(axis=1) > self.random.mean(axis=1) + 2.0 * self.random.std(axis=1)


class Finite(Logger):
    """A logger that writes nothing and remembers whether all numbers under ``train/`` were finite."""

    def __init__(self) -> None:
        super().__init__(None, [])
        self.finite = True

    def record(self, key: str, value: object, exclude: str | tuple[str, ...] | None = None) -> None:
        if key.startswith("train/"):
            self.finite &= bool(np.isfinite(np.asarray(value, np.float64)).all())


def first_look(id: str, steps: int, episodes: int, seed: int) -> Result:
    """Train one set and evaluate it."""
    model = presets.make("qmp", id, seed=seed)
    logger = Finite()
    model.set_logger(logger)
    started = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - started
    assert model.env is not None
    model.env.close()
    parameters = all(bool(th.isfinite(parameter).all()) for parameter in model.policy.parameters())
    env = make_multitask_vec_env(id)
    own = evaluate_tasks(OwnPolicy(model), env, episodes, EVALUATION_SEED)
    chance = RandomPolicy(env.action_space.shape[0], seed)  # type: ignore[index]
    random = evaluate_tasks(chance, env, episodes, EVALUATION_SEED)
    env.close()
    finite = logger.finite and parameters
    return Result(id, own.task_names, own["return"], random["return"], model._n_updates, finite, seconds)


def sets(results: Sequence[Result], steps: int) -> str:
    """One row per set."""
    rows = [
        (
            f"`{r.id}`",
            str(len(r.tasks)),
            str(r.updates),
            "yes" if r.finite else "NO",
            f"{r.own.mean():.4g}",
            f"{r.random.mean():.4g}",
            f"{int(r.better.sum())} of {len(r.tasks)}",
            f"{steps / r.seconds:.0f}",
        )
        for r in results
    ]
    heading = ("task set", "tasks", "updates", "all finite", "own", "random", "tasks above chance", "steps/s")
    return markdown(heading, rows)


def tasks(results: Sequence[Result]) -> str:
    """One row per task: mean and standard deviation over episodes."""
    rows = [
        (f"`{r.id}`", f"`{task}`", _spread(r.own[i]), _spread(r.random[i]), "yes" if r.better[i] else "")
        for r in results
        for i, task in enumerate(r.tasks)
    ]
    return markdown(("task set", "task", "own policy", "random", "above chance"), rows)


def _spread(returns: np.ndarray) -> str:
    return f"{returns.mean():.4g} ± {returns.std():.2g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ids", nargs="+", default=list(qmp_envs.ids()), help="default: every id")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of all tasks together (default {STEPS})")
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"per task (default {EPISODES})")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    results = []
    for id in given.ids:
        results.append(first_look(id, given.steps, given.episodes, given.seed))
        print(sets(results[-1:], given.steps), flush=True)
    print(f"{given.steps} steps, seed {given.seed}, {given.episodes} episodes per task, {processor()}\n")
    print(sets(results, given.steps))
    print(tasks(results))


if __name__ == "__main__":
    main()
