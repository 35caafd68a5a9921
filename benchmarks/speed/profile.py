"""Where does a second of training go? ``python -m benchmarks.speed.profile --out``

QMP on the Multistage Reacher with its preset ``fast``. The parts of a training are wrapped in stopwatches; a part's
time is without that of the parts inside it. What no stopwatch sees is SB3's own loop: callbacks, counters, episodes'
bookkeeping. The stopwatches cost about 1 µs a call, which the parts that are called most show.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch as th

from benchmarks import machine
from benchmarks.speed import results
from docs.generators.tables import markdown
from qmp_sb3 import MultiTaskSAC, presets

ID, METHOD = "QMP/MultistageReacher-v0", "qmp"
WARM_UP, STEPS = 10_000, 20_000  # of all tasks
OTHER = "SB3's loop, callbacks, counting"


class Stopwatches:
    """Seconds by name, exclusive of nested ones."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []  # of each running stopwatch: seconds of those inside it

    def wrap(self, owner: Any, method: str, name: str) -> None:
        """Time all calls of an object's method under a name."""
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                self.seconds[name] = self.seconds.get(name, 0.0) + whole - self._inside.pop()
                if self._inside:
                    self._inside[-1] += whole

        setattr(owner, method, timed)


def watched(model: MultiTaskSAC) -> Stopwatches:
    """Stopwatches at the parts of a model's training."""
    watches = Stopwatches()
    env = model.env
    batched = env.unwrapped.envs.unwrapped  # type: ignore[union-attr]
    for owner, method, name in (
        (batched._episodes.physics, "step", "physics"),
        (batched._episodes, "step", "observation and reward"),
        (batched._episodes, "start", "starting episodes"),
        (batched, "step", "infos of the batch"),
        (env, "step", "infos for SB3"),
        (model, "_act", "choosing actions"),
        (model.replay_buffer, "add", "storing"),
        (model, "train", "update, drawing its batches included"),
        (model, "dump_logs", "logging"),
    ):
        watches.wrap(owner, method, name)
    return watches


def profile(steps: int = STEPS, warm_up: int = WARM_UP, **arguments: Any) -> dict[str, Any]:
    """Shares of the parts, and steps per second."""
    model = presets.make(METHOD, ID, seed=0, device="cpu", **arguments)
    th.set_num_threads(1)
    model.learn(warm_up)
    watches, updates = watched(model), model._n_updates
    start = time.perf_counter()
    model.learn(steps, reset_num_timesteps=False)
    whole = time.perf_counter() - start
    assert model.env is not None
    model.env.close()
    seconds = watches.seconds | {OTHER: whole - sum(watches.seconds.values())}
    shares = {name: round(value / whole, 4) for name, value in sorted(seconds.items(), key=lambda item: -item[1])}
    vector_steps = steps / model.n_envs
    return {
        "id": ID,
        "method": METHOD,
        "steps_per_second": round(steps / whole),
        "updates_per_vector_step": round((model._n_updates - updates) / vector_steps, 3),
        "microseconds_per_vector_step": round(1e6 * whole / vector_steps, 1),
        "shares": shares,
    }


def table(found: dict[str, Any]) -> str:
    """One row per part."""
    whole = found["microseconds_per_vector_step"]
    rows = [(name, f"{1000 * share:.0f}", f"{share * whole:.0f}") for name, share in found["shares"].items()]
    return markdown(("part", "of a second, ms", "of a vector step, µs"), rows)


def section(found: dict[str, Any]) -> str:
    """The table, and the speed that it is of."""
    speed = f"{found['steps_per_second']:,} environment steps per second"
    return f"{table(found)}\n{speed}, {found['updates_per_vector_step']:g} updates of all tasks per vector step.\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="of all tasks (default %(default)s)")
    parser.add_argument("--out", type=Path, nargs="?", const=results.RESULTS, help="store (by default %(const)s)")
    options = parser.parse_args(arguments)
    before = machine.load()
    found = profile(options.steps)
    print(section(found))
    print(machine.line(before))
    if options.out is not None:
        results.save([], options.out, profile=found)


if __name__ == "__main__":
    main()
