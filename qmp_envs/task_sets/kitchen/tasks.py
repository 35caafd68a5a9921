"""The kitchen's tasks as numbers: what can be moved, where everything starts, and what counts as done."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Fixture(NamedTuple):
    """Something in the kitchen that can be moved."""

    positions: tuple[int, ...]  # places in qpos
    opened: tuple[float, ...]  # their values when it is open or on, rad or m; otherwise they are as in START
    site: str  # where the hand should go


FIXTURES = {
    "slide cabinet": Fixture((19,), (0.37,), "slide_site"),
    "hinge cabinet": Fixture((20, 21), (0.0, 1.45), "hinge_site2"),  # left door, right door
    "bottom burner": Fixture((11, 12), (-0.88, -0.01), "knob2_site"),  # knob, burner
    "top burner": Fixture((15, 16), (-0.92, -0.01), "knob4_site"),
    "light switch": Fixture((17, 18), (-0.69, -0.05), "light_site"),  # switch, light
}
TASKS = (  # fixture, what to do with it, success below this distance of its positions from the goal
    ("slide cabinet", "open", 0.1),
    ("slide cabinet", "close", 0.1),
    ("hinge cabinet", "open", 0.1),
    ("hinge cabinet", "close", 0.3),
    ("bottom burner", "on", 0.3),
    ("bottom burner", "off", 0.3),
    ("top burner", "on", 0.3),
    ("top burner", "off", 0.3),
    ("light switch", "on", 0.3),
    ("light switch", "off", 0.3),
)
OPENING = ("open", "on")

POSITIONS, VELOCITIES = 30, 29  # of the robot (9 and 9) and the objects (21 and 20; the kettle has a quaternion)
START = np.array(  # rad, m; everything closed and off
    [0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394]  # arm
    + [0.0479267505, 0.0371350919]  # fingers
    + [-0.00026627985, -5.18043486e-05, 3.1287722e-05, -4.51199853e-05]  # knobs 1 and 2, each with its burner
    + [-3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05]  # knobs 3 and 4
    + [0.000462730939, -0.000226906415, -0.000465501369]  # light switch, light, slide cabinet
    + [-0.00644129196, -0.00177048263, 0.00108009684]  # hinge doors left and right, microwave
    + [-0.26939744, 0.350383255, 1.61944683, 1.00618764, 0.0040639512, -0.00662095997, -0.000268278933]  # kettle
)
SHOWN_GOALS = {  # the released code writes these over every task's goal in the observation
    (11, 12): FIXTURES["bottom burner"].opened,
    (17, 18): FIXTURES["light switch"].opened,
    (22,): (-0.75,),  # microwave, open
    (23, 24, 25, 26, 27, 28, 29): (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06),  # kettle, on the burner
}

NAMES = tuple(f"{fixture}-{verb}" for fixture, verb, _ in TASKS)
THRESHOLDS = np.array([threshold for _, _, threshold in TASKS])  # (tasks,)
SITES = tuple(FIXTURES[fixture].site for fixture, _, _ in TASKS)


class Table(NamedTuple):
    """The positions ``(tasks, 30)`` that tasks are about, rad and m."""

    starts: np.ndarray
    goals: np.ndarray
    moved: np.ndarray  # 1 at the positions of the task's fixture, else 0
    shown_goals: np.ndarray  # as the observation has them


def table() -> Table:
    """Positions per task, new arrays."""
    starts, goals = np.tile(START, (len(TASKS), 1)), np.tile(START, (len(TASKS), 1))
    moved, shown_goals = np.zeros((2, len(TASKS), POSITIONS))
    for task, (name, verb, _) in enumerate(TASKS):
        places = list(FIXTURES[name].positions)
        (goals if verb in OPENING else starts)[task, places] = FIXTURES[name].opened
        moved[task, places] = 1.0
        shown_goals[task, places] = goals[task, places]
    for shown, values in SHOWN_GOALS.items():
        shown_goals[:, list(shown)] = values
    return Table(starts, goals, moved, shown_goals)
