"""The pictures of the pages in docs/envs: ``python docs/make_pictures.py [ID ...]``, or ``make pictures``.

One of each task at its start, or one sheet with all tasks of a large set.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import qmp_envs
from docs.generators.environments import SHEET, picture_names, stem

FOLDER = Path(__file__).parent / "envs" / "pictures"
SIZE, SHEET_SIZE = 240, 120  # pixels, of a task's picture
SHEET_COLUMNS = 10
SUPERSAMPLING = 2  # drawn larger and shrunk, for smooth edges
COLORS = 128


def picture(id: str, task: int, size: int) -> np.ndarray:
    """The start of an episode ``(size, size, 3)``."""
    large = size * SUPERSAMPLING
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set(id), task, "rgb_array", width=large, height=large)
    env.reset(seed=0)
    frame = Image.fromarray(env.render()).resize((size, size), Image.Resampling.LANCZOS)
    env.close()
    return np.asarray(frame)


def grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures ``(height, width, 3)`` of one size, row by row."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * height, i % columns * width
        sheet[top : top + height, left : left + width] = tile
    return sheet


def main(ids: list[str]) -> None:
    """Draw and write the pictures of some ids, all of them if none is given."""
    for id in ids or qmp_envs.ids():
        names = qmp_envs.task_names(id)
        pictures = picture_names(id, names)
        if pictures == [SHEET]:
            drawn = [grid([picture(id, task, SHEET_SIZE) for task in range(len(names))], SHEET_COLUMNS)]
        else:
            drawn = [picture(id, task, SIZE) for task in range(len(names))]
        folder = FOLDER / stem(id)
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in zip(pictures, drawn, strict=True):
            small = Image.fromarray(frame).quantize(COLORS, dither=Image.Dither.NONE)
            small.save(folder / f"{name}.png", optimize=True)
        print(f"{folder}: {len(pictures)} pictures")


if __name__ == "__main__":
    main(sys.argv[1:])
