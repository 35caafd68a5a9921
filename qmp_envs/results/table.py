"""Results of evaluations as a table, one row per episode: the same for every agent, ours or not.

``docs/results-schema.md`` says what the columns mean. A file is Parquet with :attr:`Results.about` in its metadata
under the key ``qmp``, or CSV beside a JSON file that holds it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from qmp_envs import atomic_files
from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import MEASURES
from qmp_envs.registry import ENTRIES
from qmp_envs.results import provenance

SCHEMA_VERSION = 1
FILE_NAME = "results.parquet"
"""The results of a run in its folder."""

COLUMNS = pa.schema(
    [
        pa.field("task_set", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("episode", pa.int32(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("return", pa.float64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("success_any", pa.float64()),
        pa.field("success_all", pa.float64()),
        pa.field("subgoals", pa.float64()),
        pa.field("seconds", pa.float64()),
    ]
)
RUN = ("task_set", "method", "seed")
"""The columns that tell runs apart."""
POLICIES = ("own", "mixture")
ABOUT = ("schema", "run", "command", "git", "versions", "machine", "seconds", "reward", "settings")
"""The keys of a run's description."""


@dataclass(frozen=True)
class Results:
    """Evaluation episodes of one run or several.

    :param table: rows with :data:`COLUMNS`; NaN is null
    :param about: of one run the keys :data:`ABOUT`; of several ``{"schema": 1, "runs": [...]}`` with such a
        dictionary for each, in which ``rows`` holds the task set, method and seed of its rows
    """

    table: pa.Table
    about: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        task_set: str,
        method: str,
        seed: int,
        step: int,
        policy: str = "own",
        seconds: float | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Results:
        """One evaluation of an agent, e.g. from :func:`qmp_envs.evaluate`.

        :param task_set: id of the task set
        :param method: name of the method or agent
        :param seed: of the training
        :param step: environment steps of all tasks together that the agent was trained for
        :param policy: ``"own"`` is the agent to be judged; ``"mixture"`` what collects its data
        :param seconds: wall time of the training so far
        :param about: keys of :data:`ABOUT` that are known better than what is found out here: the versions of
            Python and the environments, the machine, and the reward of the id
        """
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}; it must be {' or '.join(map(repr, POLICIES))}")
        tasks, episodes = evaluation["return"].shape
        constant = {"task_set": task_set, "method": method, "seed": seed, "step": step, "policy": policy}
        values: dict[str, Any] = {name: [value] * (tasks * episodes) for name, value in constant.items()}
        values["seconds"] = [seconds] * (tasks * episodes)
        values["task"] = np.repeat(np.array(evaluation.task_names, dtype=object), episodes)
        values["episode"] = np.tile(np.arange(episodes), tasks)
        values |= {name: evaluation[name].reshape(-1) for name in MEASURES}
        given = {
            "schema": SCHEMA_VERSION,
            "run": {"env": task_set, "method": method, "seed": seed},
            "command": None,
            "git": None,
            "versions": provenance.versions(),
            "machine": provenance.machine(),
            "seconds": seconds,
            "reward": ENTRIES[task_set].reward if task_set in ENTRIES else None,
            "settings": {},
        }
        return cls(table(values), {**given, **(about or {})})

    def evaluation(self) -> Evaluation:
        """The arrays of a single evaluation of one policy, as :meth:`of` got them."""
        shape = (len(self.tasks), -1)
        return Evaluation(self.tasks, {name: self.column(name).astype(float).reshape(shape) for name in MEASURES})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Results:
        """The results in a ``.parquet`` file, a ``.csv`` file with its ``.json``, or a run directory.

        :raises FileNotFoundError: where there is none
        :raises ValueError: if it is no file of this schema
        """
        path = Path(path)
        if path.is_dir():
            path = path / FILE_NAME
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no results there")
        rows, about = read_csv(path) if path.suffix == ".csv" else read_parquet(path)
        missing = [name for name in COLUMNS.names if name not in rows.column_names]
        if missing or not isinstance(about, Mapping):
            lack = f"no column {', '.join(missing)}" if missing else "no description of its runs"
            raise ValueError(f"{path} has {lack}; qmp results validate {path} tells all")
        if not all(isinstance(one, Mapping) for one in (about.get("run") or {}, *_described(about))):
            raise ValueError(f"{path}: its description is not of this form; qmp results validate {path} tells all")
        if about.get("schema") != SCHEMA_VERSION:
            raise ValueError(f"{path} has schema {about.get('schema')!r}; this version reads {SCHEMA_VERSION}")
        try:
            return cls(rows.select(COLUMNS.names).cast(COLUMNS), about)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path}: {error}; qmp results validate {path} tells all") from None

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a ``.parquet`` file, or a ``.csv`` file and its ``.json``; nobody ever reads half of one.

        :raises FileExistsError: if the ``.json`` is there without the ``.csv``: it is something else's
        """
        path = Path(path)
        about = json.dumps(self.about)
        if path.suffix == ".csv":
            sidecar = path.with_suffix(".json")
            if sidecar.exists() and not path.exists():
                raise FileExistsError(f"{sidecar} is there already, without {path.name}; choose another name")
            replace(sidecar, lambda part: part.write_text(f"{about}\n", encoding="utf-8"))
            replace(path, lambda part: pa.csv.write_csv(self.table, part))
        elif path.suffix == ".parquet":
            write_parquet(path, self.table, self.about)
        else:
            raise ValueError(f"cannot write {path.name!r}: results end in .parquet or .csv")

    def to_bytes(self) -> bytes:
        """As :meth:`from_bytes` reads it, to stand in another file."""
        sink = pa.BufferOutputStream()
        write_table(sink, self.table, self.about)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Results:
        """What :meth:`to_bytes` gave."""
        rows = pa.parquet.read_table(pa.BufferReader(data))
        return cls(rows.replace_schema_metadata(None), json.loads(rows.schema.metadata[b"qmp"]))

    @classmethod
    def concatenate(cls, several: Iterable[Results]) -> Results:
        """All runs of several results in one.

        :raises ValueError: if two of them have the same task set, method and seed
        """
        runs = [run for results in several for run in results.runs()]
        if not runs:
            raise ValueError("there are no results to put together")
        keys = [run.key for run in runs]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            task_set, method, seed = twice[0]
            raise ValueError(f"two runs of {method} on {task_set} have the seed {seed}; give one another method's name")
        if len(runs) == 1:
            return runs[0]
        about = [{**run.about, "rows": dict(zip(RUN, run.key, strict=True))} for run in runs]
        return cls(pa.concat_tables([run.table for run in runs]), {"schema": SCHEMA_VERSION, "runs": about})

    def runs(self) -> list[Results]:
        """Each run by itself, in the order of the rows."""
        if not len(self):
            return []
        named = {tuple(one["rows"][name] for name in RUN): one for one in self.about.get("runs", ())}
        keys = [
            tuple(key.values())
            for key in self.table.select(RUN).group_by(list(RUN), use_threads=False).aggregate([]).to_pylist()
        ]
        return [self._run(key, named.get(key), alone=len(keys) == 1) for key in keys]

    def _run(self, key: tuple[Any, ...], about: Mapping[str, Any] | None, alone: bool) -> Results:
        rows = self.where(**dict(zip(RUN, key, strict=True))).table
        if about is not None:
            return Results(rows, {name: value for name, value in about.items() if name != "rows"})
        if alone:
            return Results(rows, self.about)
        # One description for several runs, as a file that was filled by hand may have.
        shared = dict(zip(("env", "method", "seed"), key, strict=True))
        return Results(rows, {**self.about, "run": {**(self.about.get("run") or {}), **shared}})

    def renamed(self, method: str) -> Results:
        """The same run under another method's name; ``about`` keeps what it was."""
        names = pa.array([method] * len(self), pa.string())
        return Results(self.table.set_column(COLUMNS.names.index("method"), COLUMNS.field("method"), names), self.about)

    def where(self, **values: Any) -> Results:
        """The rows in which columns have these values, e.g. ``policy="own"``."""
        return Results(self.table.filter(_all(pc.field(name) == value for name, value in values.items())), self.about)

    def until(self, step: int) -> Results:
        """The rows of evaluations up to a step."""
        return Results(self.table.filter(pc.field("step") <= step), self.about)

    def with_rows(self, more: Results) -> Results:
        """These rows, then those of ``more``; ``about`` is this one's."""
        return Results(pa.concat_tables([self.table, more.table]), self.about)

    def column(self, name: str) -> np.ndarray:
        """A column as an array ``(rows,)``; null is NaN."""
        return self.table[name].to_numpy()

    def unique(self, name: str) -> list[Any]:
        """The different values of a column, in the order of the rows."""
        return pc.unique(self.table[name]).to_pylist()

    @property
    def key(self) -> tuple[str, str, int]:
        """Task set, method and seed of a single run; ValueError where there are several."""
        keys = [self.unique(name) for name in RUN]
        if any(len(values) != 1 for values in keys):
            raise ValueError(f"these results hold {len(self.runs())} runs; take them one by one with runs()")
        return keys[0][0], keys[1][0], keys[2][0]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of the rows."""
        return tuple(self.unique("task"))

    def __len__(self) -> int:
        return self.table.num_rows


def table(values: Mapping[str, Any]) -> pa.Table:
    """Columns of :data:`COLUMNS`, as sequences of equal length, as a table; NaN becomes null."""
    return pa.table([pa.array(values[field.name], field.type, from_pandas=True) for field in COLUMNS], schema=COLUMNS)


def read_parquet(path: Path) -> tuple[pa.Table, Any]:
    """Rows and description of a Parquet file as they stand there; no description is None."""
    try:
        rows = pa.parquet.read_table(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise ValueError(f"{path} is no Parquet file, or a damaged one") from None
    text = (rows.schema.metadata or {}).get(b"qmp")
    return rows.replace_schema_metadata(None), _parsed(path, text)


def read_csv(path: Path) -> tuple[pa.Table, Any]:
    """Rows of a CSV file and the description in its ``.json``, as they stand there; no description is None."""
    convert = pa.csv.ConvertOptions(column_types=COLUMNS, null_values=["", "nan", "NaN"], strings_can_be_null=True)
    try:
        return pa.csv.read_csv(path, convert_options=convert), description(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}; qmp results validate {path} tells all") from None


def description(path: Path) -> Any:
    """What the ``.json`` file beside a ``.csv`` file holds; None where there is none."""
    sidecar = path.with_suffix(".json")
    return _parsed(sidecar, sidecar.read_bytes() if sidecar.is_file() else None)


def write_parquet(path: Path, rows: pa.Table, about: Mapping[str, Any]) -> None:
    """Write rows with a description in the metadata, whole or not at all."""
    replace(path, lambda part: write_table(part, rows, about))


def write_table(out: Path | pa.NativeFile, rows: pa.Table, about: Mapping[str, Any]) -> None:
    """Write rows as Parquet, to a place or a stream."""
    described = rows.replace_schema_metadata({"qmp": json.dumps(about)})
    pa.parquet.write_table(described, out, compression="zstd")


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """As :func:`qmp_envs.atomic_files.replace`, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.replace(path, write)


def _parsed(path: Path, text: bytes | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: the description is no JSON: {error}") from None


def _described(about: Mapping[str, Any]) -> list[Any]:
    """The descriptions of single runs, None in place of one that does not say which rows it is of."""
    several = about.get("runs", [])
    if not isinstance(several, list):
        return [None]
    of_rows = (one.get("rows") if isinstance(one, Mapping) else None for one in several)
    return [rows if isinstance(rows, Mapping) and rows.keys() >= set(RUN) else None for rows in of_rows]


def _all(conditions: Iterable[pc.Expression]) -> pc.Expression:
    whole = pc.scalar(True)
    for condition in conditions:
        whole = whole & condition
    return whole
