"""The parts of a documentation page that come from the code itself: spaces, motors, arguments, constants, info."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from io import StringIO
from types import ModuleType
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.drivers.env import TaskSetEnv
from qmp_envs.suggestions import closest
from qmp_envs.task_set import TaskSet

Table = tuple[Sequence[str], Iterable[Sequence[str]]]
"""Heading and rows."""
PARAMETER = re.compile(r"^:param ([\w, ]+): (.*?)(?=^:param |^\s*$|\Z)", re.M | re.S)
PLACEHOLDER = re.compile(r"\{([A-Z][A-Z0-9_]*)((?:\[\d+\])*)(?::([^}]+))?\}")
MOST_NUMBERS = 16  # of a constant that is shown
INFO = {
    "task_id": "number of the task",
    "task_name": "name of the task",
    "success": "this step meets the published success condition",
    "is_success": "the whole task is done by now",
    "stages_completed": "stages reached so far",
}


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def number(value: Any) -> str:
    """A number, text or array as a reader wants it: ``0.1``, ``(1, 2)``, ``((0, 1), (2, 3))``."""
    if isinstance(value, (np.ndarray, tuple, list)):
        return "(" + ", ".join(number(item) for item in value) + ")"
    if isinstance(value, (bool, np.bool_)) or value is None:
        return str(value)
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.10g}"
    return str(value) if isinstance(value, (int, np.integer)) else repr(value).replace("'", '"')


def filled(text: str, modules: Sequence[ModuleType], tables: Mapping[str, str] | None = None) -> str:
    """The text with every ``{NAME}``, ``{NAME[0]}``, ``{NAME:.3g}`` replaced by that constant, or table.

    :param modules: where constants are looked for, in this order
    """
    tables = tables or {}

    def value(match: re.Match[str]) -> str:
        if match[1] in tables:
            return tables[match[1]].strip()
        # The last module first, so that the first one has the last word.
        known = {name: found for module in reversed(modules) for name, found in vars(module).items() if name.isupper()}
        if match[1] not in known:
            meant = closest(match[1], [*known, *tables])
            names = ", ".join(module.__name__ for module in modules)
            raise ValueError(f"{names} has no constant {match[1]!r}; did you mean {meant!r}?")
        found = known[match[1]]
        for index in re.findall(r"\d+", match[2]):
            found = found[int(index)]
        return format(float(found), match[3]) if match[3] else number(found)

    return PLACEHOLDER.sub(value, text)


# ---- spaces ------------------------------------------------------------------------------------------------


def space_in_short(space: spaces.Box) -> str:
    """``Box(-1, 1, (6,), float32)``; the bounds only where all elements share them."""
    limits = (space.low, space.high)
    equal = all((array == array.flat[0]).all() for array in limits)
    bounds = [f"{array.flat[0]:g}" for array in limits] if equal else []
    return f"`Box({', '.join([*bounds, str(space.shape), str(space.dtype)])})`"


def with_bounds(text: str, space: spaces.Box, where: str) -> str:
    """The text; a table in it whose first column is ``Num`` gets the columns Min and Max of these elements.

    Such a table has to list every element of the space once, in order: ``0``, ``1-3`` or ``4, 5`` in its first column.
    """
    lines, covered = text.splitlines(), []
    for i, line in enumerate(lines):
        if not line.startswith("| Num "):
            continue
        lines[i] = _insert(line, "Min", "Max")
        lines[i + 1] = _insert(lines[i + 1], "---", "---")
        for row in range(i + 2, len(lines)):
            if not lines[row].startswith("|"):
                break
            elements = _elements(lines[row].split("|")[1])
            covered += elements
            lines[row] = _insert(lines[row], _bound(space.low, elements), _bound(space.high, elements))
        if covered != list(range(space.shape[0])):
            last = space.shape[0] - 1
            raise ValueError(f"{where}: the table lists the elements {covered}, the space has 0 to {last}.")
    return "\n".join(lines)


def _insert(line: str, *cells: str) -> str:
    """A line of a table with more cells after the second."""
    first, second, *rest = line.strip("|").split("|")
    return "|" + "|".join([first, second, *(f" {cell} " if cell != "---" else cell for cell in cells), *rest]) + "|"


def _elements(cell: str) -> list[int]:
    """The elements that ``"3"``, ``"3-5"`` or ``"3, 4"`` names."""
    found = []
    for part in cell.split(","):
        first, _, last = part.strip().partition("-")
        found += list(range(int(first), int(last or first) + 1))
    return found


def _bound(limits: np.ndarray, elements: Sequence[int]) -> str:
    values = [f"{float(limits[element]):.4g}" for element in elements if element < len(limits)]
    if len(set(values)) == 1:
        return values[0]
    return ", ".join(values) if len(values) <= 3 else f"{values[0]} ... {values[-1]}"


def motors(task_set: TaskSet) -> str:
    """One row per motor, where every action is the input of one motor of the model; else an empty text."""
    model = task_set.models[0] if task_set.models else None
    if model is None or model.nu != task_set.action_space.shape[0] or any(model.actuator_biastype):
        return ""
    rows = []
    for i in range(model.nu):
        joint = model.joint(int(model.actuator_trnid[i, 0]))
        hinge = joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE
        rows.append(
            (
                str(i),
                f"motor `{model.actuator(i).name or joint.name}`",
                f"{task_set.action_space.low[i]:g}",
                f"{task_set.action_space.high[i]:g}",
                f"`{joint.name}`",
                "hinge" if hinge else "slide",
                f"{model.actuator_gear[i, 0]:g} {'N m' if hinge else 'N'}",
            )
        )
    return table(("Num", "Action", "Min", "Max", "Joint", "Type", "At 1"), rows)


# ---- arguments ---------------------------------------------------------------------------------------------


def meanings(text: str) -> dict[str, str]:
    """Argument -> meaning, from lines ``:param name: meaning``; a meaning may go on in further lines."""
    found = {}
    for match in PARAMETER.finditer(inspect.cleandoc(text)):
        for name in match[1].split(","):
            found[name.strip()] = " ".join(match[2].split())
    return found


def arguments(text: str, constructor: Any, given: Mapping[str, Any], skip: Sequence[str] = ()) -> str:
    """The table of a constructor's arguments: defaults of its signature, meanings of the text.

    :param given: arguments that the id itself sets
    :param skip: arguments that are not the user's
    """
    explained = meanings(text)
    parameters = inspect.signature(constructor).parameters.values()
    wanted = {one.name: one for one in parameters if one.kind != one.VAR_KEYWORD and one.name not in skip}
    wrong = sorted(set(wanted) ^ (set(explained) - set(skip) - {"options"}))
    if wrong:
        raise ValueError(f"{constructor.__name__}: :param lines and the signature differ in {', '.join(wrong)}.")
    rows = []
    for name, parameter in wanted.items():
        value = "required" if parameter.default is parameter.empty else f"`{number(parameter.default)}`"
        if name in given:
            value = f"`{number(given[name])}`, set by the id"
        rows.append((f"`{name}`", value, explained[name]))
    return table(("Argument", "Default", "Meaning"), rows) if rows else "None of its own.\n"


def without_parameters(text: str) -> str:
    """The text without its ``:param`` lines."""
    return PARAMETER.sub("", text).strip()


# ---- constants ---------------------------------------------------------------------------------------------


def constants(modules: Sequence[ModuleType]) -> str:
    """The numbers that modules define and explain by a comment, with these comments."""
    rows = [row for module in modules for row in _constants(module)]
    return table(("Constant", "Value", "Unit and meaning"), rows) if rows else ""


def _constants(module: ModuleType) -> list[tuple[str, str, str]]:
    source = inspect.getsource(module)
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    rows = []
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.Assign):
            continue
        comment = comments.get(statement.lineno) or comments.get(statement.end_lineno or 0)
        for target in ast.walk(statement.targets[0]):
            if isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("_") and comment:
                value = vars(module)[target.id]
                if _is_numbers(value):
                    rows.append((f"`{target.id}`", number(value), comment.replace("|", "\\|")))
    return rows


def _is_numbers(value: Any) -> bool:
    if isinstance(value, (dict, str)) or callable(value):
        return False
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return False
    return 0 < array.size <= MOST_NUMBERS


# ---- what an environment says ------------------------------------------------------------------------------


def info(task_set: TaskSet) -> str:
    """The keys of info after a step, from a step."""
    env = TaskSetEnv(task_set, task=0)
    env.reset(seed=0)
    keys = env.step(np.zeros(task_set.action_space.shape, np.float32))[4]
    env.close()
    rows = []
    for key in keys:
        if key.startswith("reward_"):
            rows.append((f"`{key}`", "a term of the reward"))
            continue
        known = {**INFO, **task_set.measure_meanings}
        if key not in known:
            raise ValueError(f"{type(task_set).__name__}.measure_meanings does not say what {key!r} is.")
        rows.append((f"`{key}`", known[key]))
    return table(("Key", "Meaning"), rows)


def reset_options(task_set: TaskSet) -> str:
    """One sentence about the options of reset, with their shapes."""
    draws = task_set.draw_reset(np.random.default_rng(0))[None]
    start = task_set.initial_state(np.array([0]), draws)
    shapes = [f"`{name}` {array.shape[1:]}" for name, array in zip(task_set.start_names, start, strict=True)]
    return f"`reset(options=...)` takes `task` (number or name) and, instead of a drawn start, {', '.join(shapes)}."


def modules_of(task_set: TaskSet) -> list[ModuleType]:
    """The module that defines a task set, and those that it names."""
    return [sys.modules[type(task_set).__module__], *map(import_module, task_set.constant_modules)]
