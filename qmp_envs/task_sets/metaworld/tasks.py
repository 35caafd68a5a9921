"""Meta-World's 50 tasks as a table: their classes, and where their objects and goals may be at a start."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GOALS = {"rand": None, "fixed-50": 50, "fixed-1": 1}  # how many random vectors a task has
RANDOM_VECTOR = 6  # numbers that say where object and goal are; tasks that need 3 leave the others 0


class Place(NamedTuple):
    """One row; lengths in m."""

    simulator: str
    """Meta-World's class is ``Sawyer<simulator>EnvV3``."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """Limits of the random vector: where the object is, and (6 numbers) where the goal is."""
    apart: float = 0.0
    """Object and goal are at least this far from each other, in x and y."""


# In the order of Meta-World 3's MT50. The packages of Meta-World 2 have another order.
PLACES = {
    "assembly": Place("NutAssembly", (0.0, 0.6, 0.02, -0.1, 0.75, 0.1), (0.0, 0.6, 0.02, 0.1, 0.85, 0.1), 0.1),
    "basketball": Place(
        "Basketball", (-0.1, 0.6, 0.0299, -0.1, 0.85, 0.0), (0.1, 0.7, 0.0301, 0.1, 0.9000001, 0.0), 0.15
    ),
    "bin-picking": Place(
        "BinPicking", (-0.21, 0.65, 0.02, 0.1199, 0.699, -0.001), (-0.03, 0.75, 0.02, 0.1201, 0.701, 0.001)
    ),
    "box-close": Place("BoxClose", (-0.05, 0.5, 0.02, -0.1, 0.7, 0.133), (0.05, 0.55, 0.02, 0.1, 0.8, 0.133), 0.25),
    "button-press-topdown": Place("ButtonPressTopdown", (-0.1, 0.8, 0.115), (0.1, 0.9, 0.115)),
    "button-press-topdown-wall": Place("ButtonPressTopdownWall", (-0.1, 0.8, 0.115), (0.1, 0.9, 0.115)),
    "button-press": Place("ButtonPress", (-0.1, 0.85, 0.115), (0.1, 0.9, 0.115)),
    "button-press-wall": Place("ButtonPressWall", (-0.05, 0.85, 0.1149), (0.05, 0.9, 0.1151)),
    "coffee-button": Place("CoffeeButton", (-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "coffee-pull": Place(
        "CoffeePull", (-0.05, 0.7, -0.001, -0.1, 0.55, -0.001), (0.05, 0.75, 0.001, 0.1, 0.65, 0.001), 0.15
    ),
    "coffee-push": Place(
        "CoffeePush", (-0.1, 0.55, -0.001, -0.05, 0.7, -0.001), (0.1, 0.65, 0.001, 0.05, 0.75, 0.001), 0.15
    ),
    "dial-turn": Place("DialTurn", (-0.1, 0.7, 0.0), (0.1, 0.8, 0.0)),
    "disassemble": Place(
        "NutDisassemble", (0.0, 0.6, 0.025, -0.1, 0.6, 0.1699), (0.1, 0.75, 0.02501, 0.1, 0.75, 0.1701), 0.1
    ),
    "door-close": Place("DoorClose", (0.0, 0.85, 0.15), (0.1, 0.95, 0.15)),
    "door-lock": Place("DoorLock", (-0.1, 0.8, 0.15), (0.1, 0.85, 0.15)),
    "door-open": Place("Door", (0.0, 0.85, 0.15), (0.1, 0.95, 0.15)),
    "door-unlock": Place("DoorUnlock", (-0.1, 0.8, 0.15), (0.1, 0.85, 0.15)),
    "hand-insert": Place(
        "HandInsert", (-0.1, 0.6, 0.05, -0.04, 0.8, -0.0201), (0.1, 0.7, 0.05, 0.04, 0.88, -0.0199), 0.15
    ),
    "drawer-close": Place("DrawerClose", (-0.1, 0.9, 0.0), (0.1, 0.9, 0.0)),
    "drawer-open": Place("DrawerOpen", (-0.1, 0.9, 0.0), (0.1, 0.9, 0.0)),
    "faucet-open": Place("FaucetOpen", (-0.05, 0.8, 0.0), (0.05, 0.85, 0.0)),
    "faucet-close": Place("FaucetClose", (-0.1, 0.8, 0.0), (0.1, 0.85, 0.0)),
    "hammer": Place("Hammer", (-0.1, 0.4, 0.0), (0.1, 0.5, 0.0)),
    "handle-press-side": Place("HandlePressSide", (-0.35, 0.65, -0.001), (-0.25, 0.75, 0.001)),
    "handle-press": Place("HandlePress", (-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "handle-pull-side": Place("HandlePullSide", (-0.35, 0.65, 0.0), (-0.25, 0.75, 0.0)),
    "handle-pull": Place("HandlePull", (-0.1, 0.8, -0.001), (0.1, 0.9, 0.001)),
    "lever-pull": Place("LeverPull", (-0.1, 0.7, 0.0), (0.1, 0.8, 0.0)),
    "pick-place-wall": Place(
        "PickPlaceWall", (-0.05, 0.6, 0.015, -0.05, 0.85, 0.05), (0.05, 0.65, 0.015, 0.05, 0.9, 0.3), 0.15
    ),
    "pick-out-of-hole": Place(
        "PickOutOfHole", (0.0, 0.75, 0.02, -0.1, 0.5, 0.15), (0.0, 0.75, 0.02, 0.1, 0.6, 0.3), 0.15
    ),
    "pick-place": Place("PickPlace", (-0.1, 0.6, 0.02, -0.1, 0.8, 0.05), (0.1, 0.7, 0.02, 0.1, 0.9, 0.3), 0.15),
    "plate-slide": Place("PlateSlide", (0.0, 0.6, 0.0, -0.1, 0.85, 0.0), (0.0, 0.6, 0.0, 0.1, 0.9, 0.0)),
    "plate-slide-side": Place("PlateSlideSide", (0.0, 0.6, 0.0, -0.3, 0.54, 0.0), (0.0, 0.6, 0.0, -0.25, 0.66, 0.0)),
    "plate-slide-back": Place("PlateSlideBack", (0.0, 0.85, 0.0, -0.1, 0.6, 0.015), (0.0, 0.85, 0.0, 0.1, 0.6, 0.015)),
    "plate-slide-back-side": Place(
        "PlateSlideBackSide", (-0.25, 0.6, 0.0, -0.05, 0.6, 0.015), (-0.25, 0.6, 0.0, 0.15, 0.6, 0.015)
    ),
    "peg-insert-side": Place(
        "PegInsertionSide", (0.0, 0.5, 0.02, -0.35, 0.4, -0.001), (0.2, 0.7, 0.02, -0.25, 0.7, 0.001), 0.1
    ),
    "peg-unplug-side": Place("PegUnplugSide", (-0.25, 0.6, -0.001), (-0.15, 0.8, 0.001)),
    "soccer": Place("Soccer", (-0.1, 0.6, 0.03, -0.1, 0.8, 0.0), (0.1, 0.7, 0.03, 0.1, 0.9, 0.0), 0.15),
    "stick-push": Place(
        "StickPush", (-0.08, 0.58, 0.0, 0.399, 0.55, 0.1319), (-0.03, 0.62, 0.001, 0.401, 0.6, 0.1321), 0.1
    ),
    "stick-pull": Place(
        "StickPull", (-0.1, 0.55, 0.0, 0.35, 0.45, 0.0199), (0.0, 0.65, 0.001, 0.45, 0.55, 0.0201), 0.1
    ),
    "push": Place("Push", (-0.1, 0.6, 0.02, -0.1, 0.8, 0.01), (0.1, 0.7, 0.02, 0.1, 0.9, 0.02), 0.15),
    "push-wall": Place("PushWall", (-0.05, 0.6, 0.015, -0.05, 0.85, 0.01), (0.05, 0.65, 0.015, 0.05, 0.9, 0.02), 0.15),
    "push-back": Place("PushBack", (-0.1, 0.8, 0.02, -0.1, 0.6, 0.0199), (0.1, 0.85, 0.02, 0.1, 0.7, 0.0201), 0.15),
    "reach": Place("Reach", (-0.1, 0.6, 0.02, -0.1, 0.8, 0.05), (0.1, 0.7, 0.02, 0.1, 0.9, 0.3), 0.15),
    "reach-wall": Place("ReachWall", (-0.05, 0.6, 0.015, -0.05, 0.85, 0.05), (0.05, 0.65, 0.015, 0.05, 0.9, 0.3), 0.15),
    "shelf-place": Place("ShelfPlace", (-0.1, 0.5, 0.019, -0.1, 0.8, 0.299), (0.1, 0.6, 0.021, 0.1, 0.9, 0.301), 0.1),
    "sweep-into": Place(
        "SweepIntoGoal", (-0.1, 0.6, 0.02, -0.001, 0.8399, 0.0199), (0.1, 0.7, 0.02, 0.001, 0.8401, 0.0201), 0.15
    ),
    "sweep": Place("Sweep", (-0.1, 0.6, 0.02), (0.1, 0.7, 0.02)),
    "window-open": Place("WindowOpen", (-0.1, 0.7, 0.16), (0.1, 0.9, 0.16)),
    "window-close": Place("WindowClose", (0.0, 0.75, 0.2), (0.0, 0.9, 0.2)),
}
MT50 = tuple(PLACES)
MT10 = (
    "reach",
    "push",
    "pick-place",
    "door-open",
    "drawer-open",
    "drawer-close",
    "button-press-topdown",
    "peg-insert-side",
    "window-open",
    "window-close",
)
MT25 = (
    *MT10,
    "coffee-pull",
    "pick-out-of-hole",
    "disassemble",
    "pick-place-wall",
    "basketball",
    "stick-pull",
    "button-press-wall",
    "faucet-open",
    "door-lock",
    "lever-pull",
    "sweep-into",
    "faucet-close",
    "coffee-button",
    "button-press-topdown-wall",
    "dial-turn",
)
BENCHMARKS = {"MT10": MT10, "MT25": MT25, "MT50": MT50}
GOAL_LOW, GOAL_HIGH = (-0.5, 0.4, -0.15), (0.51, 1.0, 0.5)  # m; the goals of all 50 tasks are between these


def padded(limits: tuple[float, ...]) -> np.ndarray:
    """``(6,)``: limits with zeros behind."""
    return np.array([*limits, *[0.0] * (RANDOM_VECTOR - len(limits))])


def far_enough(vectors: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """Which random vectors ``(..., 6)`` Meta-World accepts, given the least distance ``(...)`` (m) of each."""
    way = vectors[..., 3:5] - vectors[..., :2]
    return np.sqrt(np.vecdot(way, way)) >= apart
