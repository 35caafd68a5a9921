"""The machine that numbers were measured on, without anything that names it."""

from __future__ import annotations

import os

import torch as th

from qmp_sb3.experiments.runs import provenance


def load() -> float:
    """Processes that wanted to run during the last minute; NaN where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def description() -> dict[str, object]:
    """Machine, versions and threads, as results are stored with."""
    return {
        **provenance.machine(),
        "torch_threads": th.get_num_threads(),
        "load": round(load(), 1),
        "versions": provenance.versions(),
    }


def line(load_before: float) -> str:
    """The same in one line, for below a table."""
    about = description()
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())  # type: ignore[attr-defined]
    load_line = f"load {load_before:.1f} before, {about['load']} after"
    return f"{about['processor']}, {about['cpus']} cores; {load_line}; {versions}"
