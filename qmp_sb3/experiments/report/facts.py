"""What the runs of a task set are, in a line: whether they can be compared is seen there first."""

from __future__ import annotations

from collections.abc import Callable

from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.words import listed


def facts(runs: TaskSetRuns) -> str:
    """Reward, steps, seeds and code version of the methods, and of which methods where they differ."""
    told = [
        _told(runs, lambda run: f"reward: {run.about.get('reward') or 'not recorded'}"),
        _told(runs, lambda run: f"{run.steps:,} steps"),
        _seeds(runs),
        _told(runs, lambda run: f"code: {code(run)}"),
    ]
    return f"{runs.id}. {'. '.join(text[0].upper() + text[1:] for text in told)}."


def code(run: Run) -> str:
    """Git revision of the code that made a run, else the version of the suite."""
    git = run.about.get("git") or {}
    if git.get("commit"):
        return f"git {str(git['commit'])[:12]}{' with changes' if git.get('edited') else ''}"
    version = (run.about.get("versions") or {}).get("qmp-suite")
    return f"qmp-suite {version}" if version else "not recorded"


def _seeds(runs: TaskSetRuns) -> str:
    return _by_methods({method: [_numbers(runs, method)] for method in runs.methods})


def _numbers(runs: TaskSetRuns, method: str) -> str:
    seeds = sorted(run.seed for run in runs.runs if run.method == method)
    return f"seed{'s' if len(seeds) > 1 else ''} {listed([str(seed) for seed in seeds], 12)}"


def _told(runs: TaskSetRuns, tell: Callable[[Run], str]) -> str:
    return _by_methods({method: [tell(run) for run in runs.runs if run.method == method] for method in runs.methods})


def _by_methods(of_methods: dict[str, list[str]]) -> str:
    """``A`` where all runs have the same, else ``A (qmp and data), B (data)``."""
    texts = dict.fromkeys(text for several in of_methods.values() for text in several)
    if len(texts) == 1:
        return next(iter(texts))
    having = {text: [method for method, several in of_methods.items() if text in several] for text in texts}
    return ", ".join(f"{text} ({listed(methods)})" for text, methods in having.items())
