"""Every spec is tried before any run starts: a mistake in the fortieth run should not cost the night of the first."""

from __future__ import annotations

import json
from collections.abc import Iterable

from qmp_sb3.experiments.runs.run import make_model
from qmp_sb3.experiments.runs.run_spec import RunSpec

ROWS = 1000
"""Transitions per task of the replay buffers that are only made to try a spec."""
HERE = {"device": "cpu", "env_kwargs.workers": 1}
"""What the machine that checks may lack, and those that train may have."""


def check_specs(specs: Iterable[RunSpec]) -> None:
    """Make the model of every distinct choice of task set, method, preset and settings, with a small replay buffer.

    :raises ValueError: for the first unusable spec, naming it
    """
    tried: set[str] = set()
    for spec in specs:
        choice = {**spec.to_dict(), "seed": 0, "steps": 1, "eval_every": 1, "eval_episodes": 1, "checkpoint_every": 1}
        key = json.dumps(choice, sort_keys=True)
        if key not in tried:
            tried.add(key)
            _try(RunSpec.from_dict(choice))


def _try(spec: RunSpec) -> None:
    kept = {key: value for key, value in spec.overrides.items() if key != "replay_buffer_kwargs.storage"}
    rows = min(ROWS, int(kept.get("buffer_size", ROWS)))
    smaller = RunSpec.from_dict({**spec.to_dict(), "overrides": {**kept, **HERE, "buffer_size": rows}})
    try:
        model = make_model(smaller)
    except (ValueError, TypeError, AssertionError, ImportError) as error:
        raise ValueError(f"{spec.method} on {spec.env}: {' '.join(str(error).split())}") from error
    assert model.env is not None
    model.env.close()
