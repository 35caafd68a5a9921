"""The report: read the runs, make every figure and table, write one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qmp_envs.atomic_files import write_text
from qmp_sb3.experiments.report import bars, curves, episode, mixture, profiles, sources, tables
from qmp_sb3.experiments.report.facts import facts
from qmp_sb3.experiments.report.figure import Figure
from qmp_sb3.experiments.report.page import Block, Group, Page, html
from qmp_sb3.experiments.report.published import published
from qmp_sb3.experiments.report.rerun import recipe
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.words import listed, number_of

FILMS = 3
"""Tasks whose episode is shown."""
NOTES = (
    "Success is the published measure: any step of the episode met the success condition. Whole task is the strict "
    "one: the task was done when the episode ended.",
    "Evaluations run each task's own deterministic policy on the same episodes every time; steps are environment steps "
    "of all tasks together.",
    "Intervals are 95% percentile intervals of a stratified bootstrap: seeds are drawn anew within each task. They say "
    "how much the seeds differ, not how the numbers would change on another task set.",
    "Every line, bar and cell can be read as a number below its figure, and saved as CSV.",
)


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    benchmark: Any | None = None,
    title: str | None = None,
    films: int = FILMS,
    trust: bool = False,
) -> Path:
    """Write the report of some runs as one HTML file that needs nothing else.

    :param runs: run directories, folders of them, and results files, ours or others'
    :param out: the file to write
    :param benchmark: the definition whose published numbers stand beside ours
    :param title: of the page; None makes one of the task sets
    :param films: tasks of which one episode is played with the trained model; 0 plays none
    :param trust: play those of runs, too, that run code of their own; without it a note stands in the episode's place
    :return: ``out``
    :raises FileNotFoundError: for a path without results
    :raises ValueError: for a damaged file, or if a run is there twice
    """
    out = Path(out)
    if films < 0:
        raise ValueError(f"films is {films}; it must be 0 or more")
    groups = sources.read(map(Path, runs))
    page = Page(
        title=title or (benchmark.title if benchmark is not None else _title(groups)),
        lead=lead(groups),
        facts=[facts(one) for one in groups],
        groups=[_group(one, films, trust) for one in groups],
        costs=tables.costs(groups),
        recipes={one.id: [recipe(run) for run in one.runs] for one in groups},
        notes=NOTES,
        styles=groups[0].styles,
        published=None if benchmark is None else published(groups, benchmark),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, html(page))
    return out


def all_figures(groups: Sequence[TaskSetRuns]) -> list[Figure]:
    """Every figure that needs no model."""
    found: list[Figure] = []
    for runs in groups:
        for of_measure in _learning(runs).values():
            found += of_measure
        found += _mixture(runs)
    return found


def lead(groups: Sequence[TaskSetRuns]) -> str:
    """What is in the report, in a line."""
    runs = [run for group in groups for run in group.runs]
    methods = dict.fromkeys(run.method for run in runs)
    unfinished = [run for run in runs if not run.finished]
    parts = [number_of(len(runs), "run"), number_of(len(methods), "method"), number_of(len(groups), "task set")]
    rest = f"; {len(unfinished)} of them unfinished" if unfinished else ""
    return f"{', '.join(parts)}{rest}."


def _title(groups: Sequence[TaskSetRuns]) -> str:
    return f"Runs on {listed([group.id for group in groups], 3)}"


def _group(runs: TaskSetRuns, films: int, trust: bool) -> Group:
    blocks = [Block("scores", "What was reached", table=tables.scores(runs))]
    blocks.append(Block("curves", "Learning curves", _learning(runs)))
    figures = _mixture(runs)
    blocks.append(Block("mixture", "Who acted for whom", figures, notes=() if figures else [_no_mixture(runs)]))
    if films:
        figures, notes = _episodes(runs, films, trust)
        blocks.append(Block("episode", "One episode", figures, notes=notes))
    parts = [
        number_of(len(runs.runs), "run"),
        number_of(len(runs.methods), "method"),
        number_of(len(runs.tasks), "task"),
    ]
    text = f"{', '.join(parts)}: {listed(runs.tasks, 12)}."
    return Group(runs.id, runs.slug, text, runs.end, runs.methods, blocks)


def _learning(runs: TaskSetRuns) -> dict[str, list[Figure]]:
    found = {}
    for measure in runs.measures:
        figures = [curves.total(runs, measure)]
        if len(runs.tasks) > 1:
            figures.append(curves.by_task(runs, measure))
        figures.append(bars.bars(runs, measure))
        if measure != "length" and len({run.method for run in runs.compared}) > 1:
            figures += [profiles.profile(runs, measure), profiles.improvement(runs, measure)]
        found[measure] = figures
    return found


def _mixture(runs: TaskSetRuns) -> list[Figure]:
    several = mixture.mixtures(runs)
    if not several:
        return []
    shown = [mixture.average(runs, several), mixture.over_time(runs, several)]
    return [*shown, *(mixture.curves(runs, one) for one in several)]


def _no_mixture(runs: TaskSetRuns) -> str:
    if len(runs.tasks) == 1:
        return "There is one task: nobody else could act for it."
    return (
        "No run recorded that a policy acted for another task: either each task's own policy always acts, or the runs "
        "kept no record of it (mixture.parquet)."
    )


def _episodes(runs: TaskSetRuns, films: int, trust: bool) -> tuple[list[Figure], list[str]]:
    """An episode of the first run in which policies act for each other, else of the first that has a model."""
    mixing = {one.method for one in mixture.mixtures(runs)}
    candidates = [run for run in runs.runs if run.directory is not None]
    candidates.sort(key=lambda run: (not run.finished, run.method not in mixing, run.seed))
    if not candidates:
        return [], ["No episode is shown: results files hold no model."]
    chosen: Run = candidates[0]
    try:
        played = list(episode.play(chosen, films, trust=trust))
    # Models and environments may be anybody's and raise anything; the report does not depend on a film.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return [], [f"No episode of {chosen.method}, seed {chosen.seed} is shown: {reason}"]
    return [episode.timeline(runs, chosen, played)], []
