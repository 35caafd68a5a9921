"""Parts as text, for the command line and the preset files: ``"hold(10, argmax(q(samples=10)))"``, ``"uds(0.8)"``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from qmp_envs.suggestions import did_you_mean


def component(name: str, value: Any, words: Mapping[str, Callable[..., Any]]) -> Any:
    """A part of a model from its expression; a finished part (or None) is handed back, in a copy: parts remember."""
    return build(value, words, name) if isinstance(value, str) else deepcopy(value)


def build(expression: str, words: Mapping[str, Callable[..., Any]], part: str) -> Any:
    """What an expression describes; a word without brackets is a call without arguments.

    :param expression: calls of words, with numbers, texts, lists and other calls as arguments
    :param words: the vocabulary
    :param part: what is described, for messages
    :raises ValueError: if the expression has an unknown word or wrong arguments
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        example = next(iter(words))
        raise ValueError(f"{part} {expression!r} is not of the form word(arguments), e.g. {example}") from error
    try:
        return _value(tree, words, part)
    except TypeError as error:
        raise ValueError(f"{part} {expression!r}: {error}") from error


def _value(node: ast.expr, words: Mapping[str, Callable[..., Any]], part: str) -> Any:
    if isinstance(node, ast.Name):
        return _call(node.id, [], {}, words, part)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        keywords = {keyword.arg: _argument(keyword, words, part) for keyword in node.keywords if keyword.arg}
        return _call(node.func.id, [_value(one, words, part) for one in node.args], keywords, words, part)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(element, words, part) for element in node.elts]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise ValueError(f"{ast.unparse(node)!r} has no meaning in {part}") from error


def _argument(keyword: ast.keyword, words: Mapping[str, Callable[..., Any]], part: str) -> Any:
    if isinstance(keyword.value, ast.Name) and keyword.value.id not in words:
        text = keyword.value.id
        raise ValueError(f"{keyword.arg}={text} in {part}: a text needs quotes, {keyword.arg}={text!r}")
    return _value(keyword.value, words, part)


def _call(
    name: str, arguments: list[Any], keywords: dict[str, Any], words: Mapping[str, Callable[..., Any]], part: str
) -> Any:
    word = _word(name, words, part)
    signature = inspect.signature(word)
    try:
        bound = signature.bind(*arguments, **keywords)
    except TypeError as error:
        raise ValueError(f"{name} in {part}: {error}; it is {name}({', '.join(signature.parameters)})") from error
    for argument, value in bound.arguments.items():
        kinds = _plain_types(signature.parameters[argument].annotation)
        if kinds and not any(_is_a(kind, value) for kind in kinds):
            allowed = " or ".join(_NAMES[kind] for kind in kinds)
            raise ValueError(f"{name}({argument}={value!r}) in {part}: {argument} is {allowed}")
    return word(*arguments, **keywords)


_NAMES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    type(None): "None",
}
"""What an expression can write down, and how messages name it."""
_TYPES: dict[str, Any] = {"None" if kind is type(None) else kind.__name__: kind for kind in _NAMES}


def _is_a(kind: type, value: Any) -> bool:
    if kind is not bool and isinstance(value, bool):
        return False
    if kind is int:
        return isinstance(value, (int, float)) and float(value).is_integer()
    return isinstance(value, (int, float) if kind is float else kind)


def _plain_types(annotation: Any) -> list[Any]:
    """The types of a union that an expression can write down; none if it has others, which check themselves."""
    # Read as text: nothing is evaluated, as expressions stand in files, too.
    node = ast.parse(
        annotation if isinstance(annotation, str) else inspect.formatannotation(annotation), mode="eval"
    ).body
    kinds: list[ast.expr] = []
    while isinstance(node, ast.BinOp):
        kinds.insert(0, node.right)
        node = node.left
    names = [ast.unparse(one.value if isinstance(one, ast.Subscript) else one) for one in (node, *kinds)]
    return [_TYPES[name] for name in names] if _TYPES.keys() >= set(names) else []


def _word(name: str, words: Mapping[str, Callable[..., Any]], part: str) -> Callable[..., Any]:
    if name not in words:
        raise ValueError(f"unknown word {name!r} in {part}; {did_you_mean(name, words)}")
    return words[name]
