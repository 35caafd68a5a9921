"""The ranges that a search of hyper-parameters draws from, read from a table, and how a draw changes a run."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import yaml

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.methods import presets


class Suggest(Protocol):
    """What draws: an Optuna trial."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...
    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


@dataclass(frozen=True)
class Range:
    """The values that one hyper-parameter may take.

    :param low: smallest value
    :param high: largest value, included
    :param log: whether to draw uniformly in the logarithm
    :param integer: whole numbers only
    :param choices: or one of these
    :param position: place of the argument in an expression's brackets, where it may stand without its name
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()
    position: int | None = None

    @classmethod
    def read(cls, name: str, values: Any) -> Range:
        """From a line of the table; ValueError that names it where it is not a range."""
        known = [one.name for one in fields(cls)]
        form = "{low: 0.1, high: 1} or {choices: [1, 2]}"
        if not isinstance(values, Mapping):
            raise ValueError(f"the range of {name} is {values!r}; it must be {form}")
        for key in values:
            if key not in known:
                raise ValueError(f"the range of {name} has {key!r}; {did_you_mean(key, known)}")
        made = cls(**{**values, "choices": tuple(values.get("choices", ()))})
        bounds = [one for one in (made.low, made.high) if isinstance(one, int | float)]
        if bool(made.choices) == bool(bounds) or (bounds and not len(bounds) == 2):
            raise ValueError(f"the range of {name} is {dict(values)}; it must be {form}")
        if bounds and (bounds[0] > bounds[1] or (made.log and bounds[0] <= 0)):
            raise ValueError(f"the range of {name} goes from {made.low} to {made.high}; log needs a low above 0")
        return made

    def draw(self, suggest: Suggest, name: str) -> Any:
        """A value, drawn under ``name``."""
        if self.choices:
            # A study keeps numbers and texts; a list goes in and out as its text.
            return json.loads(suggest.suggest_categorical(name, [json.dumps(one) for one in self.choices]))
        assert self.low is not None and self.high is not None
        if self.integer:
            return suggest.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return suggest.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchSpace:
    """Which hyper-parameters are searched, and where.

    :param arguments: keyword of the constructor: range
    :param parts: keyword of the constructor that is an expression: word in it: argument of the word: range
    """

    arguments: Mapping[str, Range]
    parts: Mapping[str, Mapping[str, Mapping[str, Range]]]

    @classmethod
    def read(cls, file: str | Path | None = None) -> SearchSpace:
        """From a YAML file; the suite's own without one.

        :raises ValueError: naming the line that is not a range or not an argument of the algorithm
        """
        own = resources.files("qmp_sb3.experiments.tuning").joinpath("search_space.yaml")
        place = own if file is None else Path(file)
        document = yaml.safe_load(place.read_text(encoding="utf-8")) or {}
        for key in document:
            if key not in ("arguments", "parts"):
                raise ValueError(f"{file} has {key!r}; {did_you_mean(key, ('arguments', 'parts'))}")
        arguments = {name: Range.read(name, values) for name, values in (document.get("arguments") or {}).items()}
        parts = {
            part: {
                word: {name: Range.read(f"{part}.{word}.{name}", values) for name, values in ranges.items()}
                for word, ranges in words.items()
            }
            for part, words in (document.get("parts") or {}).items()
        }
        presets.check_overrides({**arguments, **parts})
        return cls(arguments, parts)

    def draw(self, suggest: Suggest, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides of a run with one draw of everything.

        :param settings: of the method before the search: expressions to draw in
        :param fixed: overrides that the user gave: they stay
        """
        drawn = {name: one.draw(suggest, name) for name, one in self.arguments.items() if name not in fixed}
        for part in self.parts:
            if part not in fixed and part in settings:
                changed = _in_all(settings[part], partial(_drawn, part=part, words=self.parts[part], suggest=suggest))
                if changed != settings[part]:
                    drawn[part] = changed
        return {**fixed, **drawn}


def _in_all(value: Any, change: Callable[[str], str]) -> Any:
    """Every expression of a part: ``"a"``, ``{"actor": "a", "critic": "b"}`` or ``["a", "b"]``."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _in_all(one, change) for key, one in value.items()}
    return [_in_all(one, change) for one in value] if isinstance(value, list | tuple) else value


def _drawn(expression: str, part: str, words: Mapping[str, Mapping[str, Range]], suggest: Suggest) -> str:
    """The expression with arguments of its words drawn anew."""
    tree = ast.parse(expression, mode="eval")
    for call in _calls(tree):
        assert isinstance(call.func, ast.Name)
        for name, one in words.get(call.func.id, {}).items():
            value = ast.Constant(one.draw(suggest, f"{part}.{call.func.id}.{name}"))
            if one.position is not None and one.position < len(call.args):
                call.args[one.position] = value
            else:
                others = [keyword for keyword in call.keywords if keyword.arg != name]
                call.keywords = [*others, ast.keyword(name, value)]
    return ast.unparse(_Bare().visit(tree))


def _calls(tree: ast.Expression) -> Iterator[ast.Call]:
    """Every word of an expression, one without brackets made a call."""
    _Called().visit(tree)
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))


class _Called(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Call:
        return ast.Call(node, [], [])

    def visit_Call(self, node: ast.Call) -> ast.Call:
        node.args = [self.visit(one) for one in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        return node


class _Bare(ast.NodeTransformer):
    """A call without arguments is a word again."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        return node if node.args or node.keywords else node.func
