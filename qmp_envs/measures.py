"""What is measured of an evaluation episode: the one list of measures, with every name that one has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One number of an episode.

    :param name: column of the results table, and key of an :class:`~qmp_envs.evaluation.Evaluation`
    :param label: as a reader sees it
    :param heading: the same above a column of a terminal's table
    :param unit: ``"share"`` is between 0 and 1, shown in percent
    :param meaning: of its mean
    :param larger_is_better: None where neither more nor less is better
    :param logged: name in SB3's log under ``eval/``
    :param rollout: name in SB3's log under ``rollout/``
    :param saved: array in ``evaluations.npz``; the first two and ``successes`` as SB3's ``EvalCallback`` names them
    """

    name: str
    label: str
    heading: str
    unit: str
    meaning: str
    larger_is_better: bool | None
    logged: str
    rollout: str
    saved: str


_ALL = (
    Measure(
        name="return",
        label="return",
        heading="return",
        unit="reward",
        meaning="undiscounted sum of an episode's rewards",
        larger_is_better=True,
        logged="mean_reward",
        rollout="ep_rew_mean",
        saved="results",
    ),
    Measure(
        name="length",
        label="episode length",
        heading="length",
        unit="steps",
        meaning="steps of an episode",
        larger_is_better=None,
        logged="mean_ep_length",
        rollout="ep_len_mean",
        saved="ep_lengths",
    ),
    Measure(
        name="success_any",
        label="success",
        heading="success",
        unit="share",
        meaning="share of episodes in which any step met the success condition: the published measure",
        larger_is_better=True,
        logged="success_any",
        rollout="success_any",
        saved="successes_any",
    ),
    Measure(
        name="success_all",
        label="whole task",
        heading="whole task",
        unit="share",
        meaning="share of episodes at whose end the whole task was done: the strict measure",
        larger_is_better=True,
        logged="success_all",
        rollout="success_all",
        saved="successes",
    ),
    Measure(
        name="subgoals",
        label="subgoals",
        heading="subgoals",
        unit="share",
        meaning="share of the subgoals that were reached by the end of an episode",
        larger_is_better=True,
        logged="subgoals",
        rollout="subgoals",
        saved="stages",
    ),
)
MEASURES = {measure.name: measure for measure in _ALL}
"""Name: measure, in the order of the results table's columns."""
SHARES = tuple(name for name, measure in MEASURES.items() if measure.unit == "share")
"""Measures between 0 and 1; a task set may define any of them, or none."""
BY_IMPORTANCE = (*SHARES, "return", "length")
"""In the order in which a report shows them."""
RANKING = ("success_all", "success_any", "subgoals", "return")
"""What makes one agent better than another, the first difference deciding."""
