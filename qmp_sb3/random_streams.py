"""The random generators of a model, all derived from its one seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th

_STREAMS = ("initial_weights", "acting", "updates", "predict")


class RandomStreams:
    """Independent streams, so that drawing from one never shifts another.

    ``initial_weights``, ``acting``, ``updates`` and ``predict`` are ``torch.Generator`` objects. They live on the CPU,
    so that a seed draws the same numbers for every device. ``behavior``, ``replay`` and ``objective`` are NumPy
    generators.

    :param seed: any non-negative integer (0 is a seed), None for a fresh one
    """

    initial_weights: th.Generator
    acting: th.Generator
    updates: th.Generator
    predict: th.Generator

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        children = np.random.SeedSequence(seed).spawn(len(_STREAMS) + 3)
        for name, child in zip(_STREAMS, children, strict=False):
            generator = th.Generator()
            generator.manual_seed(int(child.generate_state(1, np.uint64)[0] >> np.uint64(1)))
            setattr(self, name, generator)
        rest = (np.random.default_rng(child) for child in children[len(_STREAMS) :])
        self.behavior, self.replay, self.objective = rest

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        return state | {name: state[name].get_state() for name in _STREAMS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in _STREAMS:
            generator = th.Generator()
            generator.set_state(state[name])
            setattr(self, name, generator)
