"""Behaviors as text, for the command line and the preset files: ``"hold(10, argmax(q(samples=10)))"``."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable
from typing import Any

from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.fixed import FixedGaussian
from qmp_sb3.behaviors.rules import Argmax, Softmax, Table
from qmp_sb3.behaviors.scores import QScore
from qmp_sb3.behaviors.wrappers import Also, Hold, Own, Warmup


def _self() -> Table:
    return Table("self")


def _uniform() -> Table:
    return Table("uniform")


def _domain() -> Table:
    return Table("domain")


#: the vocabulary; a word without brackets is a call without arguments
WORDS: dict[str, Callable[..., Any]] = {
    "q": QScore,
    "argmax": Argmax,
    "softmax": Softmax,
    "table": Table,
    "self": _self,
    "uniform": _uniform,
    "domain": _domain,
    "hold": Hold,
    "own": Own,
    "warmup": Warmup,
    "also": Also,
    "gaussian": FixedGaussian,
}


def parse_behavior(sentence: str | Behavior) -> Behavior:
    """Build the behavior that a sentence describes.

    :raises ValueError: if the sentence has an unknown word, wrong arguments, or is not a behavior
    """
    if isinstance(sentence, Behavior):
        return sentence
    if not isinstance(sentence, str):
        raise ValueError(f"behavior={sentence!r}: give a Behavior or a sentence such as 'argmax(q)'")
    try:
        tree = ast.parse(sentence, mode="eval").body
    except SyntaxError as error:
        raise ValueError(
            f"behavior {sentence!r} is not of the form wrapper(rule(score)), e.g. hold(10, argmax(q))"
        ) from error
    try:
        behavior = _build(tree)
    except TypeError as error:
        raise ValueError(f"behavior {sentence!r}: {error}") from error
    if not isinstance(behavior, Behavior):
        raise ValueError(f"behavior {sentence!r} does not choose a policy; did you mean argmax({sentence})?")
    return behavior


def _build(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _word(node.id)()
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        keywords = {keyword.arg: _build(keyword.value) for keyword in node.keywords if keyword.arg}
        return _word(node.func.id)(*map(_build, node.args), **keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_build(element) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)!r} has no meaning in a behavior") from error


def _word(name: str) -> Callable[..., Any]:
    if name not in WORDS:
        close = difflib.get_close_matches(name, WORDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(WORDS)}"
        raise ValueError(f"unknown word {name!r} in a behavior; {hint}")
    return WORDS[name]
