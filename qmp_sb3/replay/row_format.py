"""What a row of the replay table holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate, pairwise

from qmp_sb3.serialization.tags import tagged

REWARD, CONTINUATION, DONE, TIMEOUT = range(-4, 0)
"""The last numbers of a row."""


@tagged("row_format")
@dataclass(frozen=True)
class RowFormat:
    """``[s | a | s' | a' | columns | r | continuation | done | timeout]``; the place of a' is free for the update.

    :param features: length of an encoded observation
    :param actions: length of an action
    :param columns: what else is kept of a transition, name -> shape
    """

    features: int
    actions: int
    columns: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def observation(self) -> slice:
        return slice(0, self.features)

    @cached_property
    def action(self) -> slice:
        return slice(self.features, self.features + self.actions)

    @cached_property
    def next_observation(self) -> slice:
        return slice(self.action.stop, self.action.stop + self.features)

    @cached_property
    def places(self) -> dict[str, slice]:
        """Where each extra column stands."""
        ends = accumulate(map(math.prod, self.columns.values()), initial=2 * (self.features + self.actions))
        return {name: slice(*ends) for name, ends in zip(self.columns, pairwise(ends), strict=True)}

    @cached_property
    def width(self) -> int:
        """Numbers in a row."""
        return 2 * (self.features + self.actions) + sum(map(math.prod, self.columns.values())) + 4
