"""Everything that is wrong with a file of results, each problem as one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from qmp_envs import registry
from qmp_envs.measures import SHARES
from qmp_envs.results.table import ABOUT, COLUMNS, POLICIES, RUN, SCHEMA_VERSION, description, read_parquet
from qmp_envs.suggestions import closest

Columns = Mapping[str, np.ndarray]
"""The columns that could be read, ``(rows,)`` each; null is None, or NaN in a column of numbers."""

NAMED_ROWS = 3
"""So many rows are named for a problem; the rest is counted."""


def problems(path: Path) -> list[str]:
    """What keeps a file from being results of this schema; empty where nothing does.

    :param path: a ``.parquet`` file, or a ``.csv`` file beside its ``.json``
    :raises FileNotFoundError: if there is no such file
    """
    if not path.is_file():
        words = "a folder; a run directory has results.parquet" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{path}: {words}")
    try:
        rows, about = _read_text(path) if path.suffix == ".csv" else read_parquet(path)
    except ValueError as error:
        return [str(error)]
    found = list(_column_problems(rows))
    columns: dict[str, np.ndarray] = {}
    for field in COLUMNS:
        if field.name in rows.column_names:
            values, wrong = _converted(rows[field.name], field)
            found += wrong
            if values is not None:
                columns[field.name] = values
    if not rows.num_rows:
        found.append("there are no rows: an evaluation has one for each episode")
    for rule in (_ranges, _names, _wholeness):
        found += rule(columns)
    return found + list(_description_problems(about, columns))


def _read_text(path: Path) -> tuple[pa.Table, Any]:
    """A CSV file with every column as text, and its description."""
    names = pa.csv.open_csv(path).schema.names
    convert = pa.csv.ConvertOptions(
        column_types={name: pa.string() for name in names}, null_values=["", "nan", "NaN"], strings_can_be_null=True
    )
    return pa.csv.read_csv(path, convert_options=convert), description(path)


# ---- columns -----------------------------------------------------------------------------------------------


def _column_problems(rows: pa.Table) -> Iterator[str]:
    for name in rows.column_names:
        if name not in COLUMNS.names:
            yield f"column {name!r} is unknown; did you mean {closest(name, COLUMNS.names)!r}?"
        elif rows.column_names.count(name) > 1:
            yield f"column {name!r} is there {rows.column_names.count(name)} times"
    for field in COLUMNS:
        if field.name not in rows.column_names:
            yield f"column {field.name!r} is missing; it holds {field.type}{', or null' if field.nullable else ''}"


def _converted(column: pa.ChunkedArray, field: pa.Field) -> tuple[np.ndarray | None, list[str]]:
    """A column with its type, None where it has another one; and what is wrong with it."""
    name, kind = field.name, field.type
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if pa.types.is_string(kind) != text and not (text or pa.types.is_dictionary(column.type)):
        return None, [f"column {name!r} holds {column.type}; it must hold {kind}"]
    try:
        values = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if not text:
            return None, [f"column {name!r} holds {column.type} that are no {kind}"]
        wrong = [row for row, one in enumerate(column.to_pylist()) if one is not None and not _readable(one, kind)]
        shown = column[wrong[0]].as_py() if wrong else column[0].as_py()
        return None, [f"column {name!r}, {_rows(wrong)}: {shown!r} is no {kind}"]
    nulls = np.flatnonzero(values.is_null().to_numpy())
    if len(nulls) and not field.nullable:
        return None, [f"column {name!r}, {_rows(nulls)}: null is not allowed"]
    return values.to_numpy(), []


def _readable(text: str, kind: pa.DataType) -> bool:
    try:
        pa.array([text]).cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


# ---- values ------------------------------------------------------------------------------------------------


def _ranges(columns: Columns) -> Iterator[str]:
    share = "0 or 1"
    allowed: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "seed": (lambda values: values >= 0, "0 or more"),
        "step": (lambda values: values >= 0, "0 or more"),
        "episode": (lambda values: values >= 0, "0 or more"),
        "length": (lambda values: values >= 1, "1 or more"),
        "return": (np.isfinite, "a finite number"),
        "success_any": (lambda values: np.isin(values, (0, 1)) | np.isnan(values), f"{share}, or null"),
        "success_all": (lambda values: np.isin(values, (0, 1)) | np.isnan(values), f"{share}, or null"),
        "subgoals": (lambda values: (values >= 0) & (values <= 1) | np.isnan(values), "between 0 and 1, or null"),
        "seconds": (lambda values: (values >= 0) & np.isfinite(values) | np.isnan(values), "0 or more, or null"),
    }
    for name, (fits, words) in allowed.items():
        if name in columns:
            wrong = np.flatnonzero(~fits(columns[name]))
            if len(wrong):
                yield f"column {name!r}, {_rows(wrong)}: {columns[name][wrong[0]]} is not allowed; it must be {words}"


def _names(columns: Columns) -> Iterator[str]:
    """Words that stand for something: policies, ids and their tasks."""
    yield from _unknown(columns, "policy", POLICIES)
    for name in ("task_set", "method", "task"):
        yield from (
            f"column {name!r}, {_rows(rows)}: an empty name" for value, rows in _places(columns, name) if not value
        )
    ours = [id for id, _ in _places(columns, "task_set") if id.startswith("QMP/")]
    yield from _unknown(columns, "task_set", registry.ids(), only=ours)
    for id in ours:
        if id in registry.ids() and "task" in columns:
            try:
                known = registry.task_names(id)
            except ImportError:  # its extra is not installed
                continue
            yield from _unknown(columns, "task", known, where=columns["task_set"] == id)


def _unknown(
    columns: Columns,
    name: str,
    known: tuple[str, ...],
    only: list[str] | None = None,
    where: np.ndarray | None = None,
) -> Iterator[str]:
    for value, rows in _places(columns, name, where):
        if value and value not in known and (only is None or value in only):
            yield f"column {name!r}, {_rows(rows)}: unknown {value!r}; did you mean {closest(value, known)!r}?"


def _places(columns: Columns, name: str, where: np.ndarray | None = None) -> list[tuple[str, np.ndarray]]:
    """Every value of a column with the rows in which it stands."""
    if name not in columns:
        return []
    values, considered = columns[name], np.ones(len(columns[name]), bool) if where is None else where
    return [(value, np.flatnonzero((values == value) & considered)) for value in dict.fromkeys(values[considered])]


# ---- rows together -----------------------------------------------------------------------------------------


def _wholeness(columns: Columns) -> Iterator[str]:
    """Every evaluation of a run has the same episodes of every task, each once."""
    if not {*RUN, "policy", "step", "task", "episode"} <= set(columns):
        return
    order: dict[tuple[Any, ...], int] = {}
    runs: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, list[int]]]] = {}
    names = (*RUN, "policy", "step", "task", "episode")
    for row, one in enumerate(zip(*(columns[name].tolist() for name in names), strict=True)):
        if one in order:
            yield f"row {row + 1} is the same episode as row {order[one] + 1}: {_words(names, one)}"
        order.setdefault(one, row)
        run, evaluation, task, episode = one[:3], one[3:5], one[5], one[6]
        runs.setdefault(run, {}).setdefault(evaluation, {}).setdefault(task, []).append(episode)
    for run, evaluations in runs.items():
        tasks = dict.fromkeys(task for by_task in evaluations.values() for task in by_task)
        for (policy, step), by_task in evaluations.items():
            where = f"{_words(RUN, run)}, policy {policy!r}, step {step}"
            missing = [task for task in tasks if task not in by_task]
            if missing:
                yield f"{where}: no episode of {', '.join(missing)}"
            counts = {task: len(set(episodes)) for task, episodes in by_task.items()}
            if len(set(counts.values())) > 1:
                yield f"{where}: every task needs as many episodes, there are {counts}"
    yield from _half_defined(columns)


def _half_defined(columns: Columns) -> Iterator[str]:
    for name in SHARES:
        for id, rows in _places(columns, "task_set"):
            missing = np.isnan(columns[name][rows]) if name in columns else np.zeros(0, bool)
            if missing.any() and not missing.all():
                yield (
                    f"column {name!r}, {_rows(rows[missing])}: null, while other rows of {id} have a value; "
                    "a task set defines a measure or does not"
                )


# ---- description -------------------------------------------------------------------------------------------


def _description_problems(about: Any, columns: Columns) -> Iterator[str]:
    if about is None:
        yield "there is no description: Parquet metadata under the key 'qmp', or a .json file beside the .csv"
        return
    if not isinstance(about, Mapping):
        yield f"description: a JSON object is needed, not {about!r:.40}"
        return
    if about.get("schema") != SCHEMA_VERSION:
        yield f"description: 'schema' is {about.get('schema')!r}; it must be {SCHEMA_VERSION}"
    if "runs" not in about:
        yield from _run_problems("description", about, columns)
        return
    entries = about["runs"]
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        yield "description: 'runs' must be a list with an object for each run"
        return
    described = []
    for number, one in enumerate(entries):
        rows = one.get("rows")
        if not isinstance(rows, Mapping) or set(rows) != set(RUN):
            yield f"description, run {number + 1}: 'rows' must hold {', '.join(RUN)} of its rows"
        else:
            described.append(tuple(rows[name] for name in RUN))
        yield from _run_problems(f"description, run {number + 1}", one, columns)
    if set(RUN) <= set(columns):
        present = dict.fromkeys(zip(*(columns[name].tolist() for name in RUN), strict=True))
        yield from (
            f"description: no run for the rows of {_words(RUN, one)}" for one in present if one not in described
        )
        yield from (f"description: no rows for the run {_words(RUN, one)}" for one in described if one not in present)


def _run_problems(where: str, about: Mapping[str, Any], columns: Columns) -> Iterator[str]:
    for key in ABOUT:
        if key not in about:
            others = [other for other in about if other not in ABOUT]
            near = f"; there is {closest(key, others)!r}" if others else ""
            yield f"{where}: no key {key!r}{near}"
    kinds: dict[str, tuple[Callable[[Any], bool], str]] = {
        "run": (lambda value: isinstance(value, Mapping), "an object with env, method and seed"),
        "command": (lambda value: value is None or _all_text(value), "a list of words, or null"),
        "git": (
            lambda value: value is None or isinstance(value, Mapping) and "commit" in value,
            "{'commit': ...}, or null",
        ),
        "versions": (
            lambda value: isinstance(value, Mapping) and "python" in value,
            "an object with python and packages",
        ),
        "machine": (lambda value: isinstance(value, Mapping), "an object"),
        "seconds": (lambda value: value is None or _number(value) and value >= 0, "a number of at least 0, or null"),
        "reward": (lambda value: isinstance(value, str) and value != "", "the words that name the reward"),
        "settings": (lambda value: isinstance(value, Mapping), "an object"),
    }
    for key, (fits, words) in kinds.items():
        if key in about and not fits(about[key]):
            yield f"{where}: {key!r} is {about[key]!r:.60}; it must be {words}"
    ids = (
        {about["rows"].get("task_set")} if isinstance(about.get("rows"), Mapping) else set(columns.get("task_set", ()))
    )
    reward = about.get("reward")
    for id in sorted(ids & set(registry.ids())):
        expected = registry.entry(id).reward
        if isinstance(reward, str) and reward and not f"{reward};".startswith(f"{expected};"):
            yield (
                f"{where}: 'reward' is {reward!r}; {id} has {expected!r}, "
                "to which options of the environment are added after a ';'"
            )


def _all_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(names: tuple[str, ...], values: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in zip(names, values, strict=True))


def _rows(rows: Any) -> str:
    """Rows in words, the first one being 1."""
    numbers = [str(row + 1) for row in rows[:NAMED_ROWS]]
    more = f" and {len(rows) - NAMED_ROWS} more" if len(rows) > NAMED_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(numbers)}{more}"
