"""Results in pytest-benchmark's JSON format: ``pytest-benchmark compare`` reads them.

One record per variant; ``group`` is the case, ``name`` the variant. A file is complete after several commands: a new
measurement of a case replaces the old one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.speed.interleaved import Case, Times

RESULTS = Path(__file__).parent / "results" / "speed.json"
Record = dict[str, Any]


def records(case: Case, times: Mapping[str, Times], load: float) -> list[Record]:
    """What was measured of one case, without the single rounds.

    :param load: of the machine, in the minute before
    """
    return [
        {
            "group": f"{case.group}: {case.name}",
            "name": variant,
            "fullname": f"{case.group}/{case.name}/{variant}",
            "params": {"kind": case.group, "case": case.name, "variant": variant, "operation": case.operation},
            "param": None,
            "extra_info": {"load": round(load, 1)},
            "options": {"timer": one.clock, "min_rounds": len(one.seconds), "warmup": True},
            "stats": statistics(one),
        }
        for variant, one in times.items()
    ]


def statistics(times: Times) -> dict[str, float | int]:
    """The numbers that pytest-benchmark stores, in seconds per operation."""
    seconds = times.seconds
    low, middle, high = np.percentile(seconds, (25, 50, 75))
    outside = (seconds < low - 1.5 * (high - low)) | (seconds > high + 1.5 * (high - low))
    spread = float(seconds.std(ddof=1)) if len(seconds) > 1 else 0.0
    far = int((np.abs(seconds - seconds.mean()) > spread).sum())
    numbers = {
        "min": seconds.min(),
        "max": seconds.max(),
        "mean": seconds.mean(),
        "median": middle,
        "stddev": spread,
        "q1": low,
        "q3": high,
        "iqr": high - low,
        "ops": 1.0 / seconds.mean(),
        "total": seconds.sum() * times.operations,
    }
    counts = {"rounds": len(seconds), "iterations": max(1, round(times.operations))}
    return {**{name: float(f"{value:.6g}") for name, value in numbers.items()}, **counts} | {
        "outliers": f"{far};{int(outside.sum())}",  # type: ignore[dict-item]
        "iqr_outliers": int(outside.sum()),
        "stddev_outliers": far,
    }


def load(path: Path = RESULTS) -> dict[str, Any]:
    """A stored file; an empty one where there is none yet."""
    if not path.exists():
        return {"machine_info": {}, "commit_info": {}, "benchmarks": [], "datetime": "", "version": "5.1.0"}
    return json.loads(path.read_text(encoding="utf-8"))


def save(new: Sequence[Record], path: Path = RESULTS, **sections: Any) -> None:
    """Put records into a file, in place of those of the same cases; further ``sections`` as they are.

    :raises ValueError: if the file is of another machine: numbers of two machines do not belong together
    """
    document = load(path)
    about = machine.description()
    about.pop("load")
    before = document["machine_info"]
    for key in ("processor", "cpus") if before else ():
        if before[key] != about[key]:
            raise ValueError(f"{path.name} was measured on {before[key]!r} ({key}), this is {about[key]!r}: use --out")
    by_group: dict[str, list[Record]] = {}
    for old in document["benchmarks"]:
        by_group.setdefault(old["group"], []).append(old)
    for group in dict.fromkeys(record["group"] for record in new):
        by_group[group] = [record for record in new if record["group"] == group]
    document |= {
        "machine_info": before | about | {"versions": before.get("versions", {}) | about["versions"]},  # type: ignore[operator]
        "benchmarks": [record for group in by_group.values() for record in group],
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        **sections,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(document), encoding="utf-8")


def _text(document: Mapping[str, Any]) -> str:
    """JSON with a line for every record."""
    rest = json.dumps({name: value for name, value in document.items() if name != "benchmarks"}, indent=1)
    lines = ",\n".join(f"  {json.dumps(record)}" for record in document["benchmarks"])
    return f'{rest[:-2]},\n "benchmarks": [\n{lines}\n ]\n}}\n'


def by_case(document: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Record]]:
    """(kind, case) -> variant -> record, in the order in which they were measured."""
    table: dict[tuple[str, str], dict[str, Record]] = {}
    for record in document["benchmarks"]:
        params = record["params"]
        table.setdefault((params["kind"], params["case"]), {})[params["variant"]] = record
    return table
