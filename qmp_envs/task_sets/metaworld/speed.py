"""Faster equivalents, to the last bit, of helpers on which Meta-World's tasks spend most of a step.

Nothing is changed in Meta-World's modules: ``quick_methods`` makes copies of a class's functions that find these
helpers where the originals find SciPy's and Meta-World's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

from qmp_envs.task_sets.metaworld.rotations import QuickRotation

FLOATS = frozenset((float, np.float64))
NUMBERS = FLOATS | {int}
VALUE_AT_MARGIN = 0.1  # of the reward shapes, as nearly all tasks use them
LONG_TAIL_SCALE = 3.0  # sqrt(1 / VALUE_AT_MARGIN - 1)
GAUSSIAN_SCALE = float(np.sqrt(-2 * np.log(VALUE_AT_MARGIN)))


# A square must be a power here: x * x differs from it in the last bit, now and then.


def _long_tail(distance: float) -> float:
    return 1.0 / ((distance * LONG_TAIL_SCALE) ** 2 + 1.0)


def _gaussian(distance: float) -> float:
    return float(np.exp(-0.5 * (distance * GAUSSIAN_SCALE) ** 2))  # math.exp differs in the last bit


_SHAPES: dict[str, Callable[[float], float]] = {"long_tail": _long_tail, "gaussian": _gaussian}


def quick_tolerance(tolerance: Callable[..., Any]) -> Callable[..., Any]:
    """Meta-World's ``tolerance`` for single float64 numbers; everything else is left to the original."""

    def quick(
        x: Any,
        bounds: tuple[Any, Any] = (0.0, 0.0),
        margin: Any = 0.0,
        sigmoid: str = "gaussian",
        value_at_margin: float = VALUE_AT_MARGIN,
    ) -> Any:
        lower, upper = bounds
        plain = type(x) in FLOATS and type(margin) in NUMBERS and type(lower) in NUMBERS and type(upper) in NUMBERS
        known = sigmoid in _SHAPES and value_at_margin == VALUE_AT_MARGIN
        if not (plain and known and lower <= upper and margin >= 0):
            return tolerance(x, bounds, margin, sigmoid, value_at_margin)
        value, low, high = float(x), float(lower), float(upper)
        if low <= value <= high:
            return 1.0
        if margin == 0:
            return 0.0
        return _SHAPES[sigmoid]((low - value if value < low else value - high) / float(margin))

    return quick


def quick_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """NumPy's ``linalg.norm`` for one float64 vector in one piece; everything else is left to the original."""
    one_vector = type(x) is np.ndarray and x.dtype == np.float64 and x.strides == (8,)
    if one_vector and ord in (None, 2) and axis is None and not keepdims:
        return np.sqrt(x.dot(x))
    return np.linalg.norm(x, ord, axis, keepdims)


class _QuickNumpy:
    """NumPy with that norm."""

    linalg = SimpleNamespace(**{**vars(np.linalg), "norm": quick_norm})

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        setattr(self, name, value)  # found at once the next time
        return value


_NUMPY = _QuickNumpy()


def quick_methods(upstream: type) -> dict[str, Any]:
    """Copies of the methods of a Meta-World class (and its bases) that use the quick helpers, by name."""
    methods: dict[str, Any] = {}
    for owner in reversed(upstream.__mro__):
        members = vars(owner)
        static = {name: member.__func__ for name, member in members.items() if isinstance(member, staticmethod)}
        own = SimpleNamespace(**{**members, **static})  # what a class's functions find under the name of the class
        for name in members:
            methods.pop(name, None)  # what a derived class writes anew needs a copy of its own, or none
        if not owner.__module__.startswith("metaworld."):
            continue
        for name, function in {**members, **static}.items():
            copy = _quick(function, owner, own) if isinstance(function, FunctionType) else None
            if copy is None:
                continue
            if name in static:
                setattr(own, name, copy)
            methods[name] = staticmethod(copy) if name in static else copy
    return methods


def _quick(function: FunctionType, owner: type, own: SimpleNamespace) -> FunctionType | None:
    """A copy of a function with the quick helpers; None if it uses none of them."""
    used = function.__code__.co_names
    helpers: dict[str, Any] = {}
    if "Rotation" in used:
        helpers["Rotation"] = QuickRotation
    if "reward_utils" in used:
        rewards = function.__globals__["reward_utils"]
        helpers["reward_utils"] = SimpleNamespace(**{**vars(rewards), "tolerance": quick_tolerance(rewards.tolerance)})
    if "norm" in used and function.__globals__.get("np") is np:
        helpers["np"] = _NUMPY
    if owner.__name__ in used:
        helpers[owner.__name__] = own
    if not helpers:
        return None
    names = {**function.__globals__, **helpers}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
