"""Ours beside the numbers of a paper, and what of its protocol was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qmp_sb3.experiments.report.page import Published
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.tables import Cell, Table
from qmp_sb3.experiments.report.words import number_of
from qmp_sb3.experiments.run_spec import RunSpec

if TYPE_CHECKING:
    from qmp_sb3.experiments.benchmark import Benchmark, Part
    from qmp_sb3.experiments.published import Row

DIGITS = {"percent": 1, "share": 2, "return": 0, "thousands": 2, "hours": 2}
"""Decimals that a number of this unit is shown with."""


def published(groups: Sequence[TaskSetRuns], benchmark: Benchmark) -> Published:
    """The section of the report, from the run directories among the runs."""
    from qmp_sb3.experiments.benchmark import MEASURES, MOMENTS
    from qmp_sb3.experiments.published import compare

    runs = [run for group in groups for run in group.runs if run.directory is not None]
    placed = [(RunSpec.from_dict(run.spec), run.directory) for run in runs if run.directory is not None]
    rows = compare(benchmark, placed)
    tables = []
    for number, part in enumerate(benchmark.parts):
        of_part = [row for row in rows if row.part is part]
        if any(len(row.scores) for row in of_part):
            caption = f"{MEASURES[part.measure].capitalize()}, in {part.unit}; {MOMENTS[benchmark.moment]}. "
            caption += "Ours: mean ± standard deviation of the seeds' means, and the IQM with its 95% interval."
            tables.append(_table(f"published-{number}", part, of_part, caption))
    about = [f"{benchmark.source}. {benchmark.about}", *scale(benchmark, runs)]
    about.append(f"Published numbers: {benchmark.published}.")
    about += [f"The paper says: {claim}" for claim in benchmark.claims]
    about += [f"Missing: {lack}" for lack in benchmark.missing]
    without = [part.label for part in benchmark.parts if not any(len(row.scores) for row in rows if row.part is part)]
    if without:
        about.append(f"Not run: {', '.join(without)}.")
    return Published("Beside the published numbers", about, tables)


def scale(benchmark: Benchmark, runs: Sequence[Run]) -> Iterator[str]:
    """What of the authors' protocol was run, as the runs themselves say it."""
    for part in benchmark.parts:
        of_part = [run for run in runs if run.spec.get("env") == part.id]
        if of_part:
            steps = _range([int(run.spec["steps"]) for run in of_part])
            seeds = number_of(len({run.seed for run in of_part}), "seed")
            presets = ", ".join(dict.fromkeys(str(run.spec.get("preset", "fast")) for run in of_part))
            episodes = _range([int(run.spec.get("eval_episodes", 0)) for run in of_part])
            yield (
                f"{part.label}: {steps} steps (the authors' {part.steps:,}), {seeds} (the authors' {benchmark.seeds}), "
                f"{episodes} episodes of each task in an evaluation (the authors' {benchmark.episodes}), "
                f"hyper-parameters {presets}."
            )


def _table(name: str, part: Part, rows: Sequence[Row], caption: str) -> Table:
    headings = (("method", ""), ("runs", ""), ("ours, mean", ""), ("ours, IQM", ""), ("published", "as printed"))
    lines = tuple(_line(part, row) for row in rows)
    return Table(name, f"{part.label} ({part.id})", caption, headings, lines)


def _line(part: Part, row: Row) -> tuple[Cell, ...]:
    label = row.arm.label if row.arm.label == row.arm.name else f"{row.arm.label} ({row.arm.name})"
    first = Cell(f"– {row.task}" if row.task else label)
    theirs = Cell(str(row.published) if row.published else "–")
    if row.iqm is None:
        return first, Cell("0"), Cell("not run"), Cell("–"), theirs
    digits = DIGITS[part.unit]
    spread = "one seed" if np.isnan(row.spread) else f"± {row.spread:,.{digits}f}"
    center, low, high = map(float, row.iqm)
    interval = "" if np.isnan(low) else f"[{low:,.{digits}f}, {high:,.{digits}f}]"
    means = Cell(f"{row.mean:,.{digits}f}", spread), Cell(f"{center:,.{digits}f}", interval)
    return first, Cell(f"{len(row.scores)}"), *means, theirs


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
