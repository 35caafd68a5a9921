"""Mazes as rows of text, and the routes through them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from qmp_envs.suggestions import closest

LAYOUTS: dict[str, tuple[str, ...]] = {  # "#" is a wall; the row is the first coordinate
    "large": (
        "############",
        "#....#.....#",
        "#.##.#.#.#.#",
        "#......#...#",
        "#.####.###.#",
        "#..#.#.....#",
        "##.#.#.#.###",
        "#..#...#...#",
        "############",
    ),
    "medium": (
        "########",
        "#..##..#",
        "#..#...#",
        "##...###",
        "#..#...#",
        "#.#..#.#",
        "#...#..#",
        "########",
    ),
    "umaze": ("#####", "#...#", "###.#", "#...#", "#####"),
}
LARGE_ROUTES = (  # (start, goal), the published ten tasks of the large maze
    ((1, 3), (5, 8)),
    ((1, 10), (2, 4)),
    ((4, 1), (1, 7)),
    ((7, 4), (4, 10)),
    ((1, 3), (7, 4)),
    ((1, 7), (7, 10)),
    ((5, 4), (7, 9)),
    ((7, 1), (2, 6)),
    ((1, 2), (3, 10)),
    ((7, 2), (6, 8)),
)
Route = tuple[tuple[int, int], tuple[int, int]]


def long_routes(rows: Sequence[str], count: int) -> tuple[Route, ...]:
    """``count`` routes, spread over those that are at least half as long as the longest of the maze."""
    free = [(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if cell == "."]
    lengths = {(start, goal): steps for start in free for goal, steps in steps_from(rows, start).items()}
    longest = max(lengths.values(), default=0)
    candidates = sorted(pair for pair, steps in lengths.items() if steps >= max(1, longest / 2))
    if count > len(candidates):
        raise ValueError(f"This maze has only {len(candidates)} long routes, num_tasks is {count}.")
    return tuple(candidates[i * len(candidates) // count] for i in range(count))


def steps_from(rows: Sequence[str], start: tuple[int, int]) -> dict[tuple[int, int], int]:
    """The least number of moves from a free cell to every free cell that can be reached."""
    steps, queue = {start: 0}, deque([start])
    while queue:
        i, j = queue.popleft()
        for cell in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if rows[cell[0]][cell[1]] == "." and cell not in steps:
                steps[cell] = steps[i, j] + 1
                queue.append(cell)
    return steps


def rows_of(layout: str | Sequence[str]) -> tuple[str, ...]:
    """The rows of a layout given by name or as rows."""
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise ValueError(
                f"Unknown layout {layout!r}; did you mean {closest(layout, list(LAYOUTS))!r}? "
                f"Layouts: {', '.join(LAYOUTS)}, or rows of '#' and '.'."
            )
        return LAYOUTS[layout]
    rows = tuple(layout)
    border = "".join([rows[0], rows[-1], *(row[0] + row[-1] for row in rows)]) if rows and all(rows) else "."
    if len({len(row) for row in rows}) != 1 or set("".join(rows)) - set("#.") or set(border) != {"#"}:
        raise ValueError(f"A layout is rows of equal length of '#' and '.', with a border of '#'; got {layout!r}.")
    return rows


def check_routes(rows: Sequence[str], routes: Sequence[Route]) -> None:
    """Refuse routes that cannot be traveled."""
    for start, goal in routes:
        for i, j in (start, goal):
            if not (0 <= i < len(rows) and 0 <= j < len(rows[0]) and rows[i][j] == "."):
                raise ValueError(f"A route must lead from a free cell to a free cell, got {start} to {goal}.")
        if (goal[0], goal[1]) not in steps_from(rows, (start[0], start[1])):
            raise ValueError(f"No way leads from {start} to {goal} in this maze.")
    if not routes:
        raise ValueError("A maze needs at least one route.")
