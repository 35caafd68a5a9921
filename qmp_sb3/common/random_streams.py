"""The random generators of a model, all derived from its one seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th

#: in the order in which they are derived: a new one goes to the end, so that the others draw what they drew before
_STREAMS = (
    *("initial_weights", "acting", "updates", "predict"),
    *("behavior", "replay", "objective"),
    "guide",
)
_OF_NUMPY = ("behavior", "replay", "objective")
_OF_TORCH = tuple(name for name in _STREAMS if name not in _OF_NUMPY)


class RandomStreams:
    """Independent streams, so that drawing from one never shifts another.

    ``initial_weights``, ``acting``, ``updates``, ``predict`` and ``guide`` are ``torch.Generator`` objects. They live
    on the CPU, so that a seed draws the same numbers for every device. ``behavior``, ``replay`` and ``objective`` are
    NumPy generators.

    :param seed: any non-negative integer (0 is a seed), None for a fresh one
    """

    initial_weights: th.Generator
    acting: th.Generator
    updates: th.Generator
    predict: th.Generator
    behavior: np.random.Generator
    replay: np.random.Generator
    objective: np.random.Generator
    guide: th.Generator

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        for name, child in zip(_STREAMS, np.random.SeedSequence(seed).spawn(len(_STREAMS)), strict=True):
            if name in _OF_NUMPY:
                setattr(self, name, np.random.default_rng(child))
            else:
                generator = th.Generator()
                generator.manual_seed(int(child.generate_state(1, np.uint64)[0] >> np.uint64(1)))
                setattr(self, name, generator)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        return state | {name: state[name].get_state() for name in _OF_TORCH}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["seed"])  # type: ignore[misc]
        for name in _OF_NUMPY:
            if not isinstance(state[name], np.random.Generator):
                raise TypeError(f"the stream {name!r} is no generator but a {type(state[name]).__name__}")
            setattr(self, name, state[name])
        for name in _OF_TORCH:
            getattr(self, name).set_state(state[name])
