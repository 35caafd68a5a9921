"""How much of a definition is run: the same tables in a minute, on a laptop, or as long as the authors trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qmp_sb3.common.validation import one_of


@dataclass(frozen=True)
class Scale:
    """What a definition's runs are cut to; None: as the authors had it.

    :param name: as the command line takes it
    :param summary: one line
    :param evaluations: evenly over a run
    :param preset: hyper-parameters
    :param seeds: at most so many
    :param episodes: of each task and evaluation, at most so many
    :param steps_per_task: environment steps of each task
    :param our_steps: where no number of steps per task is given, ours (``qmp train``'s) instead of the authors'
    :param settings: overrides of every run
    """

    name: str
    summary: str
    evaluations: int
    preset: str | None = None
    seeds: int | None = None
    episodes: int | None = None
    steps_per_task: int | None = None
    our_steps: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "smoke",
            "a few updates in episodes of 20 steps: says that everything runs, and nothing about results",
            evaluations=1,
            preset="fast",
            seeds=1,
            episodes=1,
            steps_per_task=40,
            settings={
                "learning_starts": 10,
                "train_freq": 10,
                "gradient_steps": 2,
                "buffer_size": 1000,
                "env_kwargs.max_episode_steps": 20,
            },
        ),
        Scale(
            "laptop",
            "our hyper-parameters and step numbers, which reach most of a result on an ordinary processor",
            evaluations=12,
            preset="fast",
            seeds=3,
            episodes=10,
            our_steps=True,
        ),
        Scale("full", "the definition's own hyper-parameters, steps, seeds and episodes", evaluations=40),
    )
}


def scale(name: str) -> Scale:
    """A scale by its name.

    :raises ValueError: naming the closest one
    """
    return SCALES[one_of("scale", name, SCALES)]
