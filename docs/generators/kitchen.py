"""The tables of the kitchen's documentation page, from the numbers that the task set uses."""

from __future__ import annotations

import numpy as np

from docs.generators.environment_tables import Table
from qmp_envs.task_set import TaskSet
from qmp_envs.task_sets.kitchen import task_set as kitchen
from qmp_envs.task_sets.kitchen.tasks import FIXTURES, POSITIONS, TASKS

READINGS = (  # first and last position, what it is, unit; each group has noise of one size
    (0, 6, "joints of the arm", "rad"),
    (7, 8, "fingers", "m"),
    (9, 10, "knob 1 and its burner", "rad, m"),
    (11, 12, 'knob 2 and its burner, the "bottom burner"', "rad, m"),
    (13, 14, "knob 3 and its burner", "rad, m"),
    (15, 16, 'knob 4 and its burner, the "top burner"', "rad, m"),
    (17, 18, "light switch and light", "rad, m"),
    (19, 19, "slide cabinet", "m"),
    (20, 21, "hinge cabinet, left and right door", "rad"),
    (22, 22, "microwave", "rad"),
    (23, 25, "kettle, position", "m"),
    (26, 28, "kettle, quaternion, w, x, y", ""),
    (29, 29, "kettle, quaternion, z", ""),
)
FINGERS = 2


def page_tables(task_set: TaskSet) -> dict[str, Table]:
    """What ``{NAME}`` in the docstring of :class:`~qmp_envs.task_sets.kitchen.task_set.Kitchen` stands for."""
    assert isinstance(task_set, kitchen.Kitchen)
    return {
        "ACTION_TABLE": actions(kitchen.LOWEST, kitchen.HIGHEST),
        "OBSERVATION_TABLE": observations(task_set.noise_sizes),
        "TASK_TABLE": tasks(task_set.starts, task_set.goals),
    }


def actions(lowest: np.ndarray, highest: np.ndarray) -> Table:
    """Limits ``(9,)`` of the targets."""
    arm = len(lowest) - FINGERS
    rows = []
    for i, (low, high) in enumerate(zip(lowest, highest, strict=True)):
        joint, unit = (f"arm, joint {i + 1}", "rad") if i < arm else (f"finger {i - arm + 1}", "m")
        rows.append((str(i), joint, f"{low:g}", f"{high:g}", unit))
    return ("Num", "Joint", "Lowest target", "Highest target", "Unit"), rows


def observations(noise: np.ndarray) -> Table:
    """What is seen, with the size ``(30,)`` of the noise."""
    rows = []
    for first, last, what, unit in READINGS:
        sizes = set(noise[first : last + 1].tolist())
        if len(sizes) != 1:
            raise ValueError(f"Positions {first} to {last} ({what}) have noise of several sizes: {sorted(sizes)}.")
        num = str(first) if first == last else f"{first}-{last}"
        rows.append((num, what, f"{sizes.pop():.3g}", unit))
    rows.append((f"{POSITIONS}-{2 * POSITIONS - 1}", "goal of each of the above, in the same order", "none", ""))
    return ("Num", "Observation", "Noise", "Unit"), rows


def tasks(starts: np.ndarray, goals: np.ndarray) -> Table:
    """Where tasks begin and what they want, from positions ``(tasks, 30)``."""
    rows = []
    for i, (fixture, verb, threshold) in enumerate(TASKS):
        places = list(FIXTURES[fixture].positions)
        begin, end = (", ".join(f"{round(x, 4) + 0.0:g}" for x in table[i, places]) for table in (starts, goals))
        rows.append((f"`{fixture}-{verb}`", ", ".join(map(str, places)), begin, end, f"{threshold:g}"))
    return ("task", "positions", "start", "goal", "success: d below"), rows
