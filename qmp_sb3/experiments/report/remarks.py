"""What keeps methods of a task set from being ranked with the others: other steps, another reward, other options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from qmp_sb3.experiments.report.sources import Run, TaskSetRuns
from qmp_sb3.experiments.report.words import listed

NEAR = 0.01
"""Share of the steps by which a single evaluation may lie beside the others: agents end at multiples of their slots."""


def remarks(runs: TaskSetRuns) -> dict[str, str]:
    """Method -> how its score differs from the others in more than the method; methods that compare are left out.

    The step is :attr:`TaskSetRuns.scored_at`, the reward and the options are those that most runs have there.
    """
    there = [run for run in runs.compared if _is_there(run, runs.scored_at)]
    known = Counter(parts for run in there if (parts := _reward(run)))
    usual = min(known, key=lambda parts: (-known[parts], len(parts)), default=())
    found = {}
    for method in runs.methods:
        several = [_remark(run, runs.scored_at, usual) for run in runs.compared if run.method == method]
        counts = Counter(filter(None, several))
        texts = [
            text if count == len(several) else f"{count} of {len(several)} {text}" for text, count in counts.items()
        ]
        if texts:
            found[method] = "; ".join(texts)
    return found


def in_a_sentence(found: dict[str, str]) -> str:
    """The remarks after a caption; nothing where there is none."""
    texts = [f"{method} ({remark})" for method, remark in found.items()]
    return f" Not to be compared with the others: {listed(texts, 20)}." if texts else ""


def _remark(run: Run, step: int, usual: Sequence[str]) -> str:
    parts = [] if _is_there(run, step) else [f"at {run.steps:,} steps"]
    own = _reward(run)
    if own and usual:
        parts += [f"reward: {own[0]}"] if own[0] != usual[0] else []
        parts += [option for option in own[1:] if option not in usual[1:]]
        parts += [f"without {option}" for option in usual[1:] if option not in own[1:]]
    return ", ".join(parts)


def _is_there(run: Run, step: int) -> bool:
    """Whether the score is of about this step; runs with several evaluations reached it."""
    return not run.single or abs(int(run.evaluated[-1]) - step) <= NEAR * step


def _reward(run: Run) -> tuple[str, ...]:
    """The reward and the options of the task set; empty where it was not recorded."""
    return tuple(filter(None, str(run.about.get("reward") or "").split("; ")))
