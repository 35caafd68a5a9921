"""The tables of the report: scores with ranks, ours beside published numbers, costs, runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from qmp_envs.measures import MEASURES
from qmp_sb3.experiments.analysis.results import progress
from qmp_sb3.experiments.analysis.statistics import bootstrap, iqm, mean_ranks
from qmp_sb3.experiments.report.remarks import in_a_sentence, remarks
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.words import hours, interval, listed, number_of, thousands, value

RESAMPLES = 10_000
"""Of an interval in a table."""


@dataclass(frozen=True)
class Cell:
    """``text`` and, smaller below it, ``detail``; ``best`` marks the highest of a column, ``bar`` is a share of it."""

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first column names the row.

    :param headings: the text and what it means, for a tip
    :param methods: of each row, for its color; empty where rows are no methods
    """

    name: str
    title: str
    caption: str
    headings: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    methods: tuple[str, ...] = ()


def scores(runs: TaskSetRuns) -> Table:
    """Every measure of every method, best first by the most important one, and the mean rank over tasks.

    Methods that differ in more than the method come last, with what it is, and neither have a rank nor are the best.
    """
    by_measure = {measure: runs.scores(measure) for measure in runs.measures if measure != "length"}
    main = next(iter(by_measure))
    iqms = {
        measure: {m: bootstrap(iqm, v, resamples=RESAMPLES) for m, v in found.items()}
        for measure, found in by_measure.items()
    }
    notes = remarks(runs)
    ranked = [method for method in by_measure[main] if method not in notes]
    ranks: dict[str, float] = {}
    if len(ranked) > 1 or not notes:
        ranks = dict(zip(ranked, mean_ranks(*(by_measure[main][m] for m in ranked)).tolist(), strict=True))
    order = sorted(by_measure[main], key=lambda m: (m in notes, -float(iqms[main][m].value), ranks.get(m, 0)))
    lines = []
    for method in order:
        count = len(by_measure[main][method])
        rank = ranks.get(method)
        cells = [
            Cell(method, notes.get(method, "")),
            Cell(f"{count}"),
            Cell("–" if rank is None else f"{rank:.2f}", best=rank is not None and rank == min(ranks.values())),
        ]
        for measure, found in by_measure.items():
            center, low, high = map(float, iqms[measure][method])
            compared = [float(iqms[measure][m].value) for m in ranked]
            every = {value(one, measure) for one in compared}
            best = method in ranked and len(every) > 1 and value(center, measure) == value(max(compared), measure)
            cells += [
                Cell(value(center, measure), interval(low, high, measure), best),
                Cell(value(float(found[method].mean()), measure)),
            ]
        lines.append(tuple(cells))
    headings = [
        ("method", ""),
        ("seeds", "runs with different seeds"),
        ("rank", "mean over tasks of the method's rank"),
    ]
    for measure in by_measure:
        headings += [
            (
                f"{MEASURES[measure].label}, IQM",
                f"{MEASURES[measure].meaning}; interquartile mean over seeds and tasks",
            ),
            (f"{MEASURES[measure].label}, mean", f"{MEASURES[measure].meaning}; mean over seeds and tasks"),
        ]
    return Table(
        f"{runs.slug}-scores-table",
        "What was reached",
        f"At {runs.scored_at:,} steps ({runs.about_scores()}), each task's own deterministic policy. IQM: mean of the "
        "middle half of all seeds and tasks, with its 95% stratified bootstrap interval; one seed has none. Rank: that "
        f"of the method on a task by {MEASURES[main].label}, 1 is best, mean over tasks. The best of a column is bold."
        f"{in_a_sentence(notes)}{_left_out(runs)}",
        tuple(headings),
        tuple(lines),
        tuple(order),
    )


def _left_out(runs: TaskSetRuns) -> str:
    text = ""
    if len(runs.unfinished) == len(runs.runs):
        text = " None of these runs reached its end."
    elif runs.unfinished:
        names = [progress(run.results) for run in runs.unfinished]
        text = f" Not counted, because unfinished: {listed(names)}."
    if runs.late:
        names = [f"{run.method} seed {run.seed} (first evaluated at {run.evaluated[0]:,} steps)" for run in runs.late]
        text += f" Not counted, because they have no evaluation up to there: {listed(names)}."
    return text


def costs(groups: Sequence[TaskSetRuns]) -> Table:
    """Steps per second, hours and machine of each method."""
    lines, methods = [], []
    for runs in groups:
        for method in runs.methods:
            several = [run for run in runs.runs if run.method == method]
            timed = [run for run in several if run.seconds]
            seconds = [run.seconds or 0.0 for run in timed]
            speed = [run.steps / (run.seconds or 1.0) for run in timed]
            machines = dict.fromkeys(machine(run) for run in several)
            methods.append(method)
            lines.append(
                (
                    Cell(method),
                    Cell(runs.id),
                    Cell(f"{len(several)}"),
                    Cell(f"{median(run.steps for run in several):,.0f}"),
                    Cell(thousands(median(speed)) if speed else "–", _spread(speed)),
                    Cell(hours(median(seconds)) if seconds else "–"),
                    Cell(hours(sum(seconds)) if seconds else "–"),
                    Cell(listed([name for name in machines if name]) or "not recorded"),
                )
            )
    headings = ("method", "task set", "runs", "steps", "steps/s", "time of a run", "time of all", "machine")
    tips = ("", "", "", "median", "median, with the slowest and the fastest run", "median", "sum", "")
    return Table(
        "costs-table",
        "Costs and times",
        "Wall time of training and evaluation, up to the last evaluation; environment steps of all tasks together. "
        "Runs that shared a machine with others are slower than they could be.",
        tuple(zip(headings, tips, strict=True)),
        tuple(lines),
        tuple(methods),
    )


def _spread(speed: Sequence[float]) -> str:
    return f"{thousands(min(speed))} to {thousands(max(speed))}" if len(speed) > 1 else ""


def machine(run: Run) -> str:
    """The kind of machine that a run was trained on."""
    about = run.about.get("machine") or {}
    parts = [str(about["processor"])] if about.get("processor") else []
    parts = parts or [str(about[key]) for key in ("system", "architecture") if about.get(key)]
    cpus = about.get("cpus")
    gpus = Counter(map(str, about.get("gpus") or ()))
    cards = [name if count == 1 else f"{count} x {name}" for name, count in gpus.items()]
    return ", ".join([*parts, *([number_of(int(cpus), "core")] if cpus else []), *cards])
