"""Films of trained policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v3 as imageio
import numpy as np

from qmp_envs.atomic_files import replace

FORMATS = (".mp4", ".gif")
MAX_FRAMES_PER_SECOND = 30
GAP_PIXELS = 4


def film(
    env_id: str,
    tasks: Sequence[int],
    act: Callable[[np.ndarray, int], np.ndarray],
    out: Path,
    seed: int = 0,
    size: int = 320,
    **env_options: Any,
) -> int:
    """Film one episode of each task, side by side; a task that ends early shows its last frame.

    :param env_id: id of the task set
    :param tasks: indices of the tasks to film
    :param act: action for an observation ``(obs,)`` and a task index
    :param out: the file to write, ``.mp4`` or ``.gif``
    :param seed: seed of every task's episode
    :param size: height and width of a task's picture, pixels
    :param env_options: options of the family
    :return: number of frames written
    """
    episodes, rate = [], MAX_FRAMES_PER_SECOND
    for task in tasks:
        env = gym.make(env_id, task=task, render_mode="rgb_array", width=size, height=size, **env_options)
        try:
            every = max(1, round(env.metadata["render_fps"] / MAX_FRAMES_PER_SECOND))
            rate = round(env.metadata["render_fps"] / every)
            episodes.append(_episode(env, task, act, seed, every))
        finally:
            env.close()
    frames = tile(episodes)
    write(out, frames, rate)
    return len(frames)


def tile(episodes: Sequence[np.ndarray]) -> np.ndarray:
    """Films ``(frames, height, width, 3)`` of one size and any length as one, in a nearly square grid."""
    length = max(len(episode) for episode in episodes)
    columns = int(np.ceil(np.sqrt(len(episodes))))
    rows = -(-len(episodes) // columns)
    height, width = episodes[0].shape[1:3]
    # The encoder wants even sizes.
    shape = [-(-(count * (size + GAP_PIXELS)) // 2) * 2 for count, size in ((rows, height), (columns, width))]
    grid = np.zeros((length, *shape, 3), np.uint8)
    for place, episode in enumerate(episodes):
        top, left = (place // columns) * (height + GAP_PIXELS), (place % columns) * (width + GAP_PIXELS)
        grid[: len(episode), top : top + height, left : left + width] = episode
        grid[len(episode) :, top : top + height, left : left + width] = episode[-1]
    return grid


def write(out: Path, frames: np.ndarray, rate: int) -> None:
    """Write frames ``(frames, height, width, 3)`` at ``rate`` per second to an ``.mp4`` or ``.gif`` file."""
    check_format(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gif":
        replace(out, lambda part: imageio.imwrite(part, frames, duration=1000 / rate, loop=0))
    else:
        replace(out, lambda part: imageio.imwrite(part, frames, fps=rate, codec="libx264", macro_block_size=2))


def check_format(out: Path) -> None:
    """Raise for a file name whose ending is not one of :data:`FORMATS`."""
    if out.suffix not in FORMATS:
        raise ValueError(f"cannot write {out.name!r}: films end in {' or '.join(FORMATS)}")


def _episode(
    env: gym.Env, task: int, act: Callable[[np.ndarray, int], np.ndarray], seed: int, every: int
) -> np.ndarray:
    observation, _ = env.reset(seed=seed)
    frames, steps, done = [np.asarray(env.render())], 0, False
    while not done:
        observation, _, terminated, truncated, _ = env.step(act(observation, task))
        steps, done = steps + 1, terminated or truncated
        if done or steps % every == 0:
            frames.append(np.asarray(env.render()))
    return np.stack(frames)
