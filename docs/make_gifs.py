"""The films of the pages in docs/envs: ``python docs/make_gifs.py [--run DIRECTORY] [ID ...]``, or ``make gifs``.

One film per id shows an episode of every task side by side. The policies are those of scripted_policies.py, or those of
a finished run: ``--run`` takes a run directory of `qmp train`, may be given several times, and replaces the film of the
run's id.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scripted_policies
from make_pictures import grid
from PIL import Image

import qmp_envs
from docs.generators.environments import stem
from qmp_envs.registry import ENTRIES

FOLDER = Path(__file__).parent / "envs" / "gifs"
LARGEST = 300_000  # bytes
WIDTH, LARGEST_TILE, SMALLEST_TILE = 600, 240, 60  # pixels
FRAMES = 40
SECONDS_PER_FRAME = 0.08
STEPS_AFTER_SUCCESS = 10
LONGEST_STEPS, LONGEST_SECONDS = 500, 10  # of simulated time
TRIES = ((64, 1), (32, 1), (32, 2), (16, 2), (16, 4))  # colors, every which frame
METHOD = Image.Quantize.MAXCOVERAGE  # keeps colors of small things
MOST_COLUMNS = 10


def policy_of(env: qmp_envs.TaskSetEnv, run: object | None) -> scripted_policies.Policy:
    """The trained policy of a task, or the scripted one."""
    if run is None:
        return scripted_policies.make(env)
    return lambda observation: run.model.predict(observation, task=env.task_id, deterministic=True)[0]


def steps_of(id: str, task: int, run: object | None) -> int:
    """How many steps of a task are shown."""
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set(id), task)
    return sum(1 for _ in episode(id, env, run))


def episode(id: str, env: qmp_envs.TaskSetEnv, run: object | None) -> Iterator[int]:
    """Steps of the episode that is worth showing, counted from 1: to its end, or a little beyond success."""
    limit = min(ENTRIES[id].horizon, LONGEST_STEPS, round(LONGEST_SECONDS / env.task_set.dt))
    observation, _ = env.reset(seed=0, options=scripted_policies.start(env))
    policy = policy_of(env, run)
    for step in range(1, limit + 1):
        observation, _, terminated, _, info = env.step(policy(observation))
        yield step
        if info.get("is_success"):
            limit = min(limit, step + STEPS_AFTER_SUCCESS)
        if terminated or step >= limit:
            return


def film(id: str, task: int, size: int, every: int, run: object | None) -> list[np.ndarray]:
    """Frames ``(size, size, 3)`` of one task's episode."""
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set(id), task, "rgb_array", width=2 * size, height=2 * size)
    frames = []
    for step in episode(id, env, run):
        if step % every == 1 or every == 1:
            frames.append(np.asarray(Image.fromarray(env.render()).resize((size, size), Image.Resampling.LANCZOS)))
    env.close()
    return frames


def columns_of(tasks: int) -> int:
    """A number of columns that leaves no place empty and makes the film wider than high, where there is one."""
    wanted = min(round(np.sqrt(2.5 * tasks)), MOST_COLUMNS)
    candidates = [*range(wanted, MOST_COLUMNS + 1), *range(wanted, 0, -1)]
    return next(columns for columns in candidates if tasks % columns == 0)


def side_by_side(id: str, run: object | None) -> np.ndarray:
    """Frames ``(frames, height, width, 3)`` of all tasks; one that ends early keeps its last frame."""
    tasks = range(len(qmp_envs.task_names(id)))
    columns = columns_of(len(tasks))
    size = int(np.clip(WIDTH // columns, SMALLEST_TILE, LARGEST_TILE))
    every = -(-max(steps_of(id, task, run) for task in tasks) // FRAMES)
    films = [film(id, task, size, every, run) for task in tasks]
    length = max(map(len, films))
    return np.stack([grid([frames[min(i, len(frames) - 1)] for frames in films], columns) for i in range(length)])


def write(path: Path, frames: np.ndarray) -> int:
    """Write a film with as many colors and frames as fit into the largest size; returns its size in bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for colors, every in TRIES:
        shown = [Image.fromarray(frame) for frame in frames[::every]]
        # One palette for all frames, so that what does not move is not stored again.
        palette = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 4)])).quantize(colors, METHOD)
        small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in shown]
        pause = round(1000 * SECONDS_PER_FRAME * every)
        small[0].save(path, save_all=True, append_images=small[1:], duration=pause, loop=0, optimize=True)
        if path.stat().st_size <= LARGEST:
            return path.stat().st_size
    raise RuntimeError(f"{path} does not fit into {LARGEST} bytes: make its pictures smaller.")


def main() -> None:
    """Film the ids of the command line, all of them if none is given."""
    parser = argparse.ArgumentParser(description="Write the films of docs/envs.")
    parser.add_argument("ids", nargs="*", choices=[*qmp_envs.ids(), []], metavar="ID")
    parser.add_argument("--run", action="append", default=[], help="directory of a finished run")
    options = parser.parse_args()
    runs = {}
    if options.run:
        from qmp_sb3.experiments import TrainedRun

        runs = {run.spec.env: run for run in map(TrainedRun.open, options.run)}
    warnings.filterwarnings("ignore", "Constant.s. may be too high")  # Meta-World's policies say so
    for id in options.ids or qmp_envs.ids():
        path = FOLDER / f"{stem(id)}.gif"
        print(f"{path}: {write(path, side_by_side(id, runs.get(id))) // 1000} kB", flush=True)


if __name__ == "__main__":
    main()
