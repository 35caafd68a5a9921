"""Ours beside the numbers of a paper, and what of its protocol was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmp_sb3.experiments.benchmarks.benchmark import MEASURES, MOMENTS, Benchmark
from qmp_sb3.experiments.benchmarks.published import Row, cells, compare
from qmp_sb3.experiments.report.page import Published
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.tables import Cell, Table
from qmp_sb3.experiments.report.words import number_of
from qmp_sb3.experiments.runs.run_spec import RunSpec

COLUMNS = (("method", ""), ("runs", ""), ("ours, mean", ""), ("ours, IQM", ""), ("published", "as printed"))


def published(groups: Sequence[TaskSetRuns], benchmark: Benchmark) -> Published:
    """The section of the report, from the run directories among the runs."""
    runs = [run for group in groups for run in group.runs if run.directory is not None]
    placed = [(RunSpec.from_dict(run.spec), run.directory) for run in runs if run.directory is not None]
    rows = compare(benchmark, placed)
    tables, columns = [], COLUMNS[: None if benchmark.published else -1]
    for number, part in enumerate(benchmark.parts):
        of_part = [row for row in rows if row.part is part]
        if any(len(row.scores) for row in of_part):
            caption = f"{MEASURES[part.measure].capitalize()}, in {part.unit}; {MOMENTS[benchmark.moment]}. "
            caption += "Ours: mean ± standard deviation of the seeds' means, and the IQM with its 95% interval."
            lines = [(Cell(_name(row)), *map(Cell, cells(row)[2 : len(columns) + 1])) for row in of_part]
            title = f"{part.label} ({part.id})"
            tables.append(Table(f"published-{number}", title, caption, columns, tuple(lines)))
    about = [f"{benchmark.source}. {benchmark.about}", *scale(benchmark, runs)]
    about += [f"Published numbers: {benchmark.published}."] if benchmark.published else []
    about += [f"The paper says: {claim}" for claim in benchmark.claims]
    about += [f"Missing: {lack}" for lack in benchmark.missing]
    without = [part.label for part in benchmark.parts if not any(len(row.scores) for row in rows if row.part is part)]
    if without:
        about.append(f"Not run: {', '.join(without)}.")
    return Published("Beside the published numbers" if benchmark.published else benchmark.title, about, tables)


def scale(benchmark: Benchmark, runs: Sequence[Run]) -> Iterator[str]:
    """What of the whole protocol was run, as the runs themselves say it."""
    whose = benchmark.whose
    for part in benchmark.parts:
        of_part = [run for run in runs if run.spec.get("env") == part.id]
        if of_part:
            steps = _range([int(run.spec["steps"]) for run in of_part])
            seeds = number_of(len({run.seed for run in of_part}), "seed")
            presets = ", ".join(dict.fromkeys(str(run.spec.get("preset", "fast")) for run in of_part))
            episodes = _range([int(run.spec.get("eval_episodes", 0)) for run in of_part])
            yield (
                f"{part.label}: {steps} steps ({whose} {part.steps:,}), {seeds} ({whose} {benchmark.seeds}), "
                f"{episodes} episodes of each task in an evaluation ({whose} {benchmark.episodes}), "
                f"hyper-parameters {presets}."
            )


def _name(row: Row) -> str:
    """What the row is of: the task set is the table's title."""
    label = row.arm.label if row.arm.label == row.arm.name else f"{row.arm.label} ({row.arm.name})"
    return f"– {row.task}" if row.task else label


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
