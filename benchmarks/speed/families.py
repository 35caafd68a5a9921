"""Steps per second of every task set, beside the package that it comes from. ``python -m benchmarks.speed.families``

All variants of a task set run interleaved in one process, with random actions. A step counts once per slot: a batch of
ten that takes 2 ms makes 5,000 steps per second.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import qmp_envs
from benchmarks import machine

ROUNDS = 15
ROUND_SECONDS = 0.5  # of one variant
SINGLE_TASKS = 10  # tasks whose single environments are timed, at most
DRAWN_ACTIONS = 200

BATCH, SINGLE, PHYSICS = "gym.make_vec", "gym.make, one at a time", "only mj_step"


class Steps:
    """A call makes one step of ``slots`` slots."""

    def __init__(self, slots: int, call: Callable[[], object], close: Callable[[], None] = lambda: None) -> None:
        self.slots, self.call, self.close = slots, call, close

    @classmethod
    def of_batch(cls, envs: VectorEnv) -> Steps:
        envs.reset(seed=0)
        actions = _actions(envs.action_space)
        return cls(envs.num_envs, lambda: envs.step(next(actions)), envs.close)

    @classmethod
    def of_single(cls, envs: list[gym.Env]) -> Steps:
        """One step of each environment, one after the other, as if it were alone; started anew where it ends."""
        for env in envs:
            env.reset(seed=0)
        actions = _actions(envs[0].action_space)

        def call() -> None:
            for env in envs:
                _, _, terminated, truncated, _ = env.step(next(actions))
                if terminated or truncated:
                    env.reset()

        def close() -> None:
            for env in envs:
                env.close()

        return cls(len(envs), call, close)

    @classmethod
    def of_physics(cls, envs: VectorEnv) -> Steps:
        """Only ``mj_step``, from where some random steps have led, with the last actuator inputs."""
        envs.reset(seed=0)
        actions = _actions(envs.action_space)
        for _ in range(20):
            envs.step(next(actions))
        physics = _physics(envs)
        simulators = [(model, copy.copy(data)) for model, data in physics.simulators]
        substeps = physics.frame_skip

        def call() -> None:
            for model, data in simulators:
                mujoco.mj_step(model, data, substeps)

        return cls(len(simulators), call)


def _actions(space: gym.Space) -> cycle[np.ndarray]:
    space.seed(0)
    return cycle([space.sample() for _ in range(DRAWN_ACTIONS)])


def single(id: str) -> Steps:
    count = len(qmp_envs.task_names(id))
    tasks = np.unique(np.linspace(0, count - 1, min(count, SINGLE_TASKS)).astype(int))
    return Steps.of_single([gym.make(id, task=int(task), disable_env_checker=True) for task in tasks])


def loop(ids: Iterable[str], **kwargs: object) -> Steps:
    """Gymnasium's ``SyncVectorEnv`` of other packages' environments."""
    makers = [lambda id=id: gym.make(id, disable_env_checker=True, **kwargs) for id in ids]  # type: ignore[misc]
    return Steps.of_batch(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP))


def meta_world(benchmark: str, strategy: str) -> Steps:
    import metaworld  # noqa: F401

    return Steps.of_batch(gym.make_vec(f"Meta-World/{benchmark}", vector_strategy=strategy, seed=0))


def meta_world_tasks(names: Iterable[str]) -> Steps:
    import metaworld  # noqa: F401

    makers = [lambda name=name: gym.make("Meta-World/MT1", env_name=name, seed=0) for name in names]  # type: ignore[misc]
    return Steps.of_batch(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP))


def kitchen() -> Steps:
    import gymnasium_robotics

    gym.register_envs(gymnasium_robotics)
    return loop(["FrankaKitchen-v1"] * 10)


CDS_TASKS = ("door-open-v3", "door-close-v3", "drawer-open-v3", "drawer-close-v3")

UPSTREAM: dict[str, dict[str, Callable[[], Steps]]] = {
    "QMP/Walker2D-v0": {"SyncVectorEnv of 4 Walker2d-v5": lambda: loop(["Walker2d-v5"] * 4)},
    "QMP/Kitchen-v0": {"SyncVectorEnv of 10 FrankaKitchen-v1": kitchen},
    "QMP/MetaWorldCDS-v0": {"SyncVectorEnv of Meta-World's 4 tasks": lambda: meta_world_tasks(CDS_TASKS)},
    "QMP/MT10-v0": {
        "Meta-World/MT10, sync": lambda: meta_world("MT10", "sync"),
        "Meta-World/MT10, async": lambda: meta_world("MT10", "async"),
    },
    "QMP/MT50-v0": {"Meta-World/MT50, sync": lambda: meta_world("MT50", "sync")},
    "QMP/HalfCheetahGravity-v0": {"SyncVectorEnv of 5 HalfCheetah-v5": lambda: loop(["HalfCheetah-v5"] * 5)},
    "QMP/HalfCheetahBody-v0": {"SyncVectorEnv of 8 HalfCheetah-v5": lambda: loop(["HalfCheetah-v5"] * 8)},
}
"""What a task set replaces: id -> variant -> its maker. The environments closest to ours, if not the same."""


def variants(id: str, upstream: bool = True) -> dict[str, Steps]:
    """All that is timed for an id; the first one is what the others are compared with."""
    envs, alone = gym.make_vec(id), gym.make_vec(id, workers=1)
    built = {BATCH: Steps.of_batch(envs), SINGLE: single(id)}
    if type(_physics(envs)) is not type(_physics(alone)) or envs.unwrapped.task_set.step_in_threads:  # type: ignore[attr-defined]
        built["gym.make_vec(workers=1)"] = Steps.of_batch(alone)
    if hasattr(_physics(alone), "simulators"):
        built[PHYSICS] = Steps.of_physics(alone)
    if upstream:
        built |= {name: make() for name, make in UPSTREAM.get(id, {}).items()}
    return built


def _physics(envs: VectorEnv) -> Any:
    return envs.unwrapped._slots.physics  # type: ignore[attr-defined]


def seconds_per_call(built: dict[str, Steps], rounds: int, round_seconds: float) -> dict[str, np.ndarray]:
    """``(rounds,)`` of every variant, interleaved."""

    def time_round(steps: Steps, repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            steps.call()
        return (time.perf_counter() - start) / repeats

    repeats = {}
    for name, steps in built.items():
        time_round(steps, 3)
        repeats[name] = max(1, round(round_seconds / time_round(steps, 5)))
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(rounds):
        for name, steps in built.items():
            seconds[name].append(time_round(steps, repeats[name]))
    return {name: np.array(values) for name, values in seconds.items()}


def table(ids: Iterable[str], rounds: int = ROUNDS, round_seconds: float = ROUND_SECONDS, upstream: bool = True) -> str:
    """The measured table, in Markdown."""
    rows = [
        "| task set | variant | slots | steps per second | best round | gym.make_vec is faster by | best rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for id in ids:
        built = variants(id, upstream)
        seconds = seconds_per_call(built, rounds, round_seconds)
        per_step = {  # seconds: median, minimum
            name: np.array([np.median(values), np.min(values)]) / built[name].slots for name, values in seconds.items()
        }
        for name, value in per_step.items():
            speeds = [f"{speed:,.0f}" for speed in 1.0 / value]
            factors = ["" if name == BATCH else f"{factor:.2f}" for factor in value / per_step[BATCH]]
            rows.append(f"| {id} | {name} | {built[name].slots} | {' | '.join(speeds + factors)} |")
        for steps in built.values():
            steps.close()
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=qmp_envs.ids(), action="append", help="measure only this; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=ROUND_SECONDS, help="of one variant in one round")
    parser.add_argument("--no-upstream", action="store_true", help="leave out the other packages")
    arguments = parser.parse_args()
    before = machine.load()
    print(table(arguments.only or qmp_envs.ids(), arguments.rounds, arguments.seconds, not arguments.no_upstream))
    print(f"\n{machine.line(before)}; {arguments.rounds} rounds of {arguments.seconds} s, medians")


if __name__ == "__main__":
    main()
