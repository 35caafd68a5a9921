"""Train methods and seeds of one task set, several runs at a time with one thread each: what the tables share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.paper import curves
from benchmarks.paper.curves import Curves
from qmp_sb3 import presets
from qmp_sb3.cli.words import UsageError, override
from qmp_sb3.experiments.run import run
from qmp_sb3.experiments.run_spec import RunSpec

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Study:
    """What one table compares, unless the command line says otherwise.

    :param name: of its module, its folder of runs and its file of results
    :param id: the task set
    :param methods: names of methods, joined ones too, with settings if need be: ``qmp,train_freq=2,gradient_steps=1``
    :param seeds: one run of each method for each
    :param steps: environment steps, all tasks together
    :param eval_every: steps between evaluations
    :param settings: further arguments of every run
    """

    name: str
    id: str
    methods: Sequence[str]
    seeds: Sequence[int]
    steps: int
    eval_every: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        """The runs that the documentation shows."""
        return RESULTS / f"{self.name}.json"

    def options(self, description: str) -> argparse.Namespace:
        """The command line's choice of methods, seeds and steps; a wrong method ends the program."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--methods", nargs="+", default=self.methods)
        parser.add_argument("--seeds", nargs="+", type=int, default=self.seeds)
        parser.add_argument("--steps", type=int, default=self.steps, help="of all tasks together (default %(default)s)")
        parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default %(default)s)")
        parser.add_argument("--out", type=Path, default=Path("runs") / f"paper-{self.name}")
        parser.add_argument("--record", type=Path, nargs="?", const=self.results, help="add the curves to this file")
        options = parser.parse_args()
        try:
            for words in options.methods:
                name, preset, overrides = parsed(words)
                presets.settings(name, self.id, preset)
                presets.check_overrides(overrides)
        except (ValueError, UsageError) as error:
            parser.error(str(error))
        return options

    def train(self, options: argparse.Namespace) -> dict[str, list[Curves]]:
        """Every run, or what is missing of it: method -> one per seed."""
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        pairs = [(method, seed) for seed in dict.fromkeys(options.seeds) for method in dict.fromkeys(options.methods)]
        finished: dict[tuple[str, int], Curves] = {}
        with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
            started = {pair: pool.submit(self._run, *pair, options.steps, options.out) for pair in pairs}
            for pair, future in started.items():
                finished[pair] = Curves.read(future.result())
                print(f"{pair[0]}, seed {pair[1]}: finished", flush=True)
        if options.record:
            curves.save(options.record, f"python -m benchmarks.paper.{self.name} --record", finished)
        by_method: dict[str, list[Curves]] = {}
        for (method, _), one in finished.items():
            by_method.setdefault(method, []).append(one)
        return by_method

    def _run(self, words: str, seed: int, steps: int, folder: Path) -> Path:
        path, (name, preset, overrides) = folder / f"{words}-{seed}", parsed(words)
        run(RunSpec(self.id, name, steps, seed, preset, overrides, self.eval_every, **self.settings), path)
        return path


def parsed(words: str) -> tuple[str, str, dict[str, Any]]:
    """``"qmp,preset=paper,policy_kwargs.net_arch=[64,64]"``: the method's name, the preset, and settings that replace
    those of the preset.
    """
    name, *settings = re.split(r",(?=[\w.]+=)", words)
    overrides = dict(override(setting) for setting in settings)
    return name, overrides.pop("preset", "fast"), overrides
