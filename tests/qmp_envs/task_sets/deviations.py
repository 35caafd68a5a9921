"""How far are our trajectories from the recorded ones? ``python -m tests.qmp_envs.task_sets.deviations [FOLDER ...]``

Replays every recording of ``tests/data`` and prints a Markdown table with the largest deviation of state, observation
and reward. Further folders may hold the recordings that those were taken from, whole and with their own names.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from docs.generators.tables import markdown
from tests.qmp_envs.task_sets.test_kitchen import ID as KITCHEN
from tests.qmp_envs.task_sets.test_kitchen import Recorded
from tests.qmp_envs.task_sets.test_reference import DATA, ID, OPTIONS

MT10 = "QMP/MT10-v0"
RANDOM_VECTOR = 6
NOISE_SIZE = 60  # numbers of the kitchen's noise per observation


@dataclass(frozen=True)
class Recording:
    """One trajectory: what was done, and what came of it."""

    name: str
    id: str
    task: int | str
    actions: np.ndarray
    reward: np.ndarray
    """After each step."""
    state: Mapping[str, np.ndarray]
    """qpos and qvel, where recorded. As many rows as steps: after each; else evenly spread from the first state on."""
    observation: np.ndarray | None
    """In the same way. It may have fewer columns than ours, or more, which are left out."""
    start: dict[str, np.ndarray] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    noise_seed: int | None = None


def row_at(array: np.ndarray, steps_done: int, steps: int) -> np.ndarray | None:
    """What was recorded after so many of ``steps`` steps, None if nothing was."""
    if len(array) == steps:
        return array[steps_done - 1] if steps_done else None
    every, rest = divmod(steps_done, steps // (len(array) - 1))
    return None if rest else array[every]


def deviations(recording: Recording) -> tuple[float, float, float]:
    """The largest deviation of state, observation (both in float32) and reward; NaN where nothing was recorded."""
    made = gym.make(recording.id, task=recording.task, disable_env_checker=True, **recording.options)
    env, steps = made.unwrapped, len(recording.actions)
    observation, _ = env.reset(seed=0, options=recording.start)
    if recording.noise_seed is not None:
        draws = np.random.default_rng(recording.noise_seed).uniform(-1.0, 1.0, (1 + steps, NOISE_SIZE))
        env._episodes.generators[0] = Recorded(draws)
        observation, _ = env.reset()
    largest = [np.nan] * 3

    def compare(measure: int, ours: np.ndarray, recorded: np.ndarray | None) -> None:
        if recorded is not None:
            width = min(len(ours), len(recorded))
            difference = np.abs(ours[:width].astype(np.float64) - recorded[:width].astype(ours.dtype))
            assert np.isfinite(difference).all(), recording.name
            largest[measure] = float(np.nanmax([largest[measure], difference.max()]))

    for done in range(steps + 1):
        for name, array in recording.state.items():
            compare(0, getattr(env._episodes.physics.state, name)[0], row_at(array, done, steps))
        if recording.observation is not None:
            compare(1, observation, row_at(recording.observation, done, steps))
        if done < steps:
            observation, reward, *_ = env.step(recording.actions[done])
            compare(2, np.array([reward]), recording.reward[done : done + 1])
    made.close()
    return largest[0], largest[1], largest[2]


def states(file: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The recorded ones of ``<prefix>qpos`` and ``<prefix>qvel``."""
    return {name: file[prefix + name] for name in ("qpos", "qvel") if prefix + name in file}


def observations(file: Mapping[str, np.ndarray], prefix: str) -> np.ndarray | None:
    return next((file[prefix + name] for name in ("observation", "obs") if prefix + name in file), None)


def published(name: str, file: Mapping[str, np.ndarray]) -> Iterator[Recording]:
    """Reacher, Walker2D, Maze, and of ``tests/data`` HalfCheetah and Meta-World CDS: one trajectory per file."""
    family, _, kind = name.split("_", 2)
    task = int(file["task"] if "task" in file else file["meta_task"])
    start = {key.removeprefix("start_"): array for key, array in file.items() if key.startswith("start_")}
    options = OPTIONS.get(f"{family}_t{task}_{kind}", {})
    seen = observations(file, "")
    yield Recording(name, ID[family], task, file["actions"], file["reward"], states(file, ""), seen, start, options)


def parts(name: str, file: Mapping[str, np.ndarray]) -> Iterator[Recording]:
    """Several trajectories per file: Kitchen and Meta-World, and HalfCheetah's one per task."""
    family = name.split("_")[0]
    id = KITCHEN if family == "kitchen" else ID.get(family, MT10)
    for prefix in (key.removesuffix("actions") for key in file if key.endswith("_actions")):
        first = prefix.split("_")[0]
        start: dict[str, np.ndarray] = {}
        options: dict[str, Any] = {}
        task, seed = str(file["task"]).removesuffix("-v3") if "task" in file else int(first[1:]), None
        if family == "kitchen":
            if first == "succ":
                continue  # things are moved by hand in it: test_kitchen.py
            seed = int(file["noise_seed"]) if first == "noisy" else None
            options = {} if first == "noisy" else {"noise": 0.0}
        elif family == "cheetah":
            start = {key: array[0] for key, array in states(file, prefix).items()}
        elif f"{prefix}random_vector" in file:
            start = {"random_vector": file[f"{prefix}random_vector"]}
        else:
            vector = file["all_rand_vecs"][int(first[1:])] if "all_rand_vecs" in file else file[f"{first}_rand_vec"]
            padding = RANDOM_VECTOR - len(vector) if id == MT10 else 0  # tasks without an object leave the rest unused
            start = {"random_vector": np.pad(vector, (0, padding))}
        whole = (file[f"{prefix}actions"], file[f"{prefix}reward"], states(file, prefix), observations(file, prefix))
        yield Recording(f"{name}, {prefix[:-1]}", id, task, *whole, start, options, seed)


def recordings(folder: Path) -> Iterator[Recording]:
    """Of one environment at a time; ``mt10_vector.npz`` is a batch: test_metaworld.py."""
    for path in sorted(folder.glob("*.npz")):
        if path.stem != "mt10_vector":
            file = dict(np.load(path))
            yield from published(path.stem, file) if "actions" in file else parts(path.stem, file)


def shown(value: float) -> str:
    return "not recorded" if np.isnan(value) else f"{value:.1e}" if value else "0"


def table(folder: Path) -> str:
    """One row per trajectory."""
    rows = [
        (f"`{one.id}`", f"`{one.name}`", str(len(one.actions)), *map(shown, found))
        for one in recordings(folder)
        for found in [deviations(one)]
    ]
    return markdown(("task set", "recording", "steps", "state", "observation", "reward"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[DATA], help="default: tests/data")
    for folder in parser.parse_args(arguments).folders:
        print(table(folder), flush=True)


if __name__ == "__main__":
    main()
