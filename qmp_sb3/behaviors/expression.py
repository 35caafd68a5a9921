"""Behaviors as text: ``"hold(10, argmax(q(samples=10)))"``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.fixed import FixedGaussian, FixedPolicies
from qmp_sb3.behaviors.guide import Guide
from qmp_sb3.behaviors.loaded import LoadedPolicies
from qmp_sb3.behaviors.rules import Argmax, Softmax, Table
from qmp_sb3.behaviors.scores import QScore
from qmp_sb3.behaviors.wrappers import Also, Hold, Own, Warmup
from qmp_sb3.common.expressions import build
from qmp_sb3.serialization.tags import vocabulary


def _self() -> Table:
    return Table("self")


def _uniform() -> Table:
    return Table("uniform")


def _domain() -> Table:
    return Table("domain")


def _load(path: str, task: int | str | Sequence[int | str] | None = None) -> LoadedPolicies:
    """Without ``trust``: an expression may come from a file."""
    return LoadedPolicies(path, task)


#: the vocabulary; a word without brackets is a call without arguments
WORDS: dict[str, Callable[..., Any]] = {
    **vocabulary("score", QScore, {"q": QScore}),
    **vocabulary(
        "behavior",
        Behavior,
        {
            "argmax": Argmax,
            "softmax": Softmax,
            "table": Table,
            "hold": Hold,
            "own": Own,
            "warmup": Warmup,
            "also": Also,
            "guide": Guide,
        },
    ),
    "self": _self,
    "uniform": _uniform,
    "domain": _domain,
    **vocabulary("policy", FixedPolicies, {"gaussian": FixedGaussian, "load": LoadedPolicies}),
    "load": _load,
}


def parse_behavior(expression: str | Behavior) -> Behavior:
    """Build the behavior that an expression describes.

    :raises ValueError: if the expression has an unknown word, wrong arguments, or is not a behavior
    """
    if isinstance(expression, Behavior):
        return expression
    if not isinstance(expression, str):
        raise ValueError(f"behavior={expression!r}: give a Behavior or an expression such as 'argmax(q)'")
    behavior = build(expression, WORDS, "behavior")
    if not isinstance(behavior, Behavior):
        raise ValueError(f"behavior {expression!r} does not choose a policy; did you mean argmax({expression})?")
    return behavior
