"""What a method costs beside separate learners: updates and actions of each, interleaved with ``no-sharing``.

Every method has the same hidden widths and as many rows in a batch, so that the parts are compared and not the presets'
sizes. Tasks are routes of the Maze, which can reward any stored transition; it has no subgoals, so ``qmp-domain`` has
a table given by hand. Distillation, once in 100,000 steps, is no part of an update here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from benchmarks.speed.interleaved import Variant
from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.behaviors import Behavior, parse_behavior
from qmp_sb3.vec_env import MultiTaskVecEnv

ID, BASE = "QMP/Maze-v0", "no-sharing"
HIDDEN, BATCH = [256, 256], 64
STORED = 250  # transitions of each task
UPDATES = 2  # per call of train(), which does its logging once
GUIDED_UPDATES = 10  # the same where the behavior learns too: the steps for each update of a guide
EXTRA = ("parameters+qmp", "data+qmp", "pcgrad+qmp", "mcal-mn+qmp", "decaf+qmp")
"""Compositions that are measured after all methods of the table."""


def names() -> tuple[str, ...]:
    """All methods but the base."""
    return (*(name for name in presets.methods() if name != BASE), *EXTRA)


def model(name: str, env: MultiTaskVecEnv) -> MultiTaskSAC:
    """A method with a filled replay buffer, which has not learned anything yet."""
    row = presets.method(name)
    changes: dict[str, Any] = dict(row.parts)
    tasks = len(env.task_names)
    if changes.get("behavior") == "domain":
        changes["behavior"] = f"table({np.full((tasks, tasks), 1 / tasks).tolist()})"
    changes.pop("hooks", None)
    if _learns(parse_behavior(changes.get("behavior", "self"))):
        changes["warmup_actions"] = "policy"  # segments begin where a guide decides
    steps = STORED * tasks
    built = row.algorithm(
        "MlpPolicy",
        env,
        seed=0,
        device="cpu",
        backend="torch",
        policy_kwargs={"net_arch": HIDDEN},
        batch_size=BATCH,
        buffer_size=STORED,
        learning_starts=steps + 1,
        **changes,
    )
    built.learn(steps)
    built.set_logger(Logger(None, []))
    return built


def behaves_only(name: str) -> bool:
    """Whether a method changes nothing of the update."""
    return set(presets.method(name).parts) == {"behavior"} and not _learns(
        parse_behavior(presets.method(name).parts["behavior"])
    )


def _learns(behavior: Behavior) -> bool:
    return bool(behavior.columns())


def _both(name: str, tasks: int) -> Mapping[str, MultiTaskSAC]:
    th.set_num_threads(1)
    env = make_multitask_vec_env(ID, num_tasks=tasks)
    return {one: model(one, env) for one in (name, BASE)}


def update(name: str, tasks: int) -> dict[str, Variant]:
    """Joint updates, one after each vector step, drawing the batch and the sharing part included."""
    both = _both(name, tasks)
    updates = GUIDED_UPDATES if any(_learns(one.behavior) for one in both.values()) else UPDATES

    def updating(one: MultiTaskSAC) -> Variant:
        def learn() -> None:
            for _ in range(updates):
                one.behavior.staged()  # a guide counts its steps here
            one.train(updates, BATCH)

        return Variant(learn, updates)

    return {method: updating(one) for method, one in both.items()}


def action(name: str, tasks: int) -> dict[str, Variant]:
    """One action for every task, as in training, the Q-switch included."""

    def acting(one: MultiTaskSAC) -> Variant:
        observations = one._last_obs
        assert isinstance(observations, np.ndarray)
        return Variant(lambda: one._act(observations))

    return {method: acting(one) for method, one in _both(name, tasks).items()}
