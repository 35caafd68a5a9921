"""A table or figure, a paper's or ours, as a definition: what to run, how it is measured, what was published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import qmp_envs
from qmp_envs import measures
from qmp_sb3.experiments.benchmarks.scales import Scale
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.methods import presets

MEASURES = {
    **{name: measures.MEASURES[name].meaning for name in measures.BY_IMPORTANCE if name != "length"},
    "borrowed": "share of the training steps in which another task's policy acted",
    "hours": "wall time of a run",
}
"""What a definition may compare; the first four are those of an evaluation episode."""
UNITS = {"percent": 100.0, "share": 1.0, "return": 1.0, "thousands": 0.001, "hours": 1.0}
"""Unit of the published numbers: how many of it our 1 is."""
MOMENTS = {
    "end": "the mean of a run's last three evaluations",
    "best": "the best evaluation of the mean over seeds and tasks, as the authors report it",
}


@dataclass(frozen=True)
class Arm:
    """One row of the table: a method with settings.

    :param name: by which the definition knows it
    :param label: what the paper calls it
    :param method: a method, or several joined by ``+``
    :param settings: overrides, as after ``qmp train``
    """

    name: str
    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A number of the paper, in the unit of its table; ``spread`` is what stands behind the +-, None without one."""

    value: float
    spread: float | None = None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.spread is None else f"{self.value:g} ± {self.spread:g}"


@dataclass(frozen=True)
class Part:
    """One column of the table: a task set, with the numbers that were published for it.

    :param label: what the paper calls it
    :param id: the task set
    :param steps: environment steps of all tasks together, as the authors trained
    :param laptop_steps: the same at the scale ``laptop``; None: what ``qmp train`` runs
    :param options: of the task set
    :param arms: the names of the rows that it has
    :param settings: by arm, overrides that hold in this task set
    :param measure: key of :data:`MEASURES`
    :param unit: key of :data:`UNITS`
    :param published: by arm
    """

    label: str
    id: str
    steps: int
    laptop_steps: int | None
    options: Mapping[str, Any]
    arms: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]
    measure: str
    unit: str
    published: Mapping[str, Published]


@dataclass(frozen=True)
class Planned:
    """A run of a definition, and where in the table it belongs."""

    spec: RunSpec
    part: Part
    arm: Arm


@dataclass(frozen=True)
class Benchmark:
    """A definition, read and checked.

    :param name: of its file
    :param title: what it shows
    :param source: paper, section and number
    :param about: how the authors did it, and where this differs
    :param published: where the authors' numbers stand, or that there are none; None for a measurement of ours
    :param claims: what the text says in numbers without a table
    :param missing: what the table shows and this suite, or the paper's text, lacks
    :param preset: hyper-parameters at full scale
    :param seeds: of the authors
    :param episodes: evaluation episodes of each task, of the authors
    :param evaluations: of a run at full scale; None: the scale's
    :param moment: key of :data:`MOMENTS`
    :param per_task: whether the table has a row for each task
    :param arms: the rows
    :param parts: the columns
    :param limits: scale: what differs in it from the usual (``seeds``, ``episodes``, ``evaluations``)
    """

    name: str
    title: str
    source: str
    about: str
    published: str | None
    claims: tuple[str, ...]
    missing: tuple[str, ...]
    preset: str
    seeds: int
    episodes: int
    evaluations: int | None
    moment: str
    per_task: bool
    arms: Mapping[str, Arm]
    parts: tuple[Part, ...]
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def whose(self) -> str:
        """Whom the protocol at full scale belongs to."""
        return "ours in full" if self.published is None else "the authors'"

    def at(self, scale: Scale) -> Scale:
        """The scale as this definition has it: what it does not say itself is the definition's."""
        limits = self.limits.get(scale.name, {})
        usual = self.evaluations if scale.preset is None else None
        return replace(
            scale,
            preset=scale.preset or self.preset,
            seeds=min(limits.get("seeds", scale.seeds or self.seeds), self.seeds),
            episodes=min(limits.get("episodes", scale.episodes or self.episodes), self.episodes),
            evaluations=limits.get("evaluations", usual or scale.evaluations),
        )

    def steps(self, part: Part, scale: Scale) -> int:
        """Environment steps of a run, all tasks together."""
        if scale.steps_per_task is not None:
            return scale.steps_per_task * len(qmp_envs.task_names(part.id, **part.options))
        if scale.our_steps:
            return min(part.steps, part.laptop_steps or presets.default_steps(part.id))
        return part.steps

    def runs(
        self,
        scale: Scale,
        seeds: Sequence[int] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Planned]:
        """Every run at a scale: seed by seed, so that whoever stops early has whole tables of fewer seeds.

        :param seeds: these, instead of as many as the scale has
        :param overrides: further settings of every run
        """
        scale = self.at(scale)
        return [
            Planned(self._spec(part, self.arms[name], seed, scale, overrides or {}), part, self.arms[name])
            for seed in (range(scale.seeds or self.seeds) if seeds is None else dict.fromkeys(seeds))
            for part in self.parts
            for name in part.arms
        ]

    def _spec(self, part: Part, arm: Arm, seed: int, scale: Scale, overrides: Mapping[str, Any]) -> RunSpec:
        steps = self.steps(part, scale)
        settings = {**scale.settings, **self.settings(part, arm), **overrides}
        assert scale.preset is not None and scale.episodes is not None
        evaluate_every = max(1, steps // scale.evaluations)
        return RunSpec(part.id, arm.method, steps, seed, scale.preset, settings, evaluate_every, scale.episodes)

    def place(self, spec: RunSpec) -> tuple[Part, Arm] | None:
        """Where in the table a run belongs: the place that says most about it; None if there is none."""
        fitting = [
            (len(wanted), part, arm)
            for part in self.parts
            for arm in map(self.arms.__getitem__, part.arms)
            if part.id == spec.env and arm.method == spec.method
            for wanted in [self.settings(part, arm)]
            if all(key in spec.overrides and spec.overrides[key] == value for key, value in wanted.items())
        ]
        return max(fitting, key=lambda one: one[0])[1:] if fitting else None

    def settings(self, part: Part, arm: Arm) -> dict[str, Any]:
        """The overrides that make a run this row's in this column."""
        options = {f"env_kwargs.{name}": value for name, value in part.options.items()}
        return {**options, **arm.settings, **part.settings.get(arm.name, {})}

    def statement(self, scale: Scale, seeds: Sequence[int] | None = None) -> Iterator[str]:
        """What a scale leaves of the whole protocol, in lines for the output and the report.

        :param seeds: as for :meth:`runs`
        """
        own, full = self.at(scale), f" ({self.whose}: {{}})".format
        number = own.seeds if seeds is None else len(set(seeds))
        yield f"Scale {scale.name}: {scale.summary}."
        yield (
            f"Hyper-parameters: preset {own.preset}" + ("" if own.preset == self.preset else full(self.preset)) + "."
        )
        yield f"Seeds: {number}" + ("" if number == self.seeds else full(self.seeds)) + "."
        short = "" if own.episodes == self.episodes else full(self.episodes)
        yield f"Evaluation: {own.episodes} episodes of each task{short}, {own.evaluations} times in a run."
        for part in self.parts:
            steps = self.steps(part, scale)
            yield f"{part.label}: {steps:,} steps" + ("" if steps == part.steps else full(f"{part.steps:,}")) + "."
        for key, value in scale.settings.items():
            yield f"{key} is {value}."
