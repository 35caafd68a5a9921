"""The sharing part: is the batch changed before use?"""

from __future__ import annotations

from collections.abc import Callable

from qmp_sb3.replay import Batch


def keep_own(batch: Batch) -> Batch:
    """Every task learns from its own transitions only."""
    return batch


#: name -> function of a batch
SHARING: dict[str, Callable[[Batch], Batch]] = {"none": keep_own}
