"""The sharing part: is the batch changed before use?"""

from __future__ import annotations

from collections.abc import Callable

from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import Batch, MultiTaskReplayBuffer


def keep_own(batch: Batch, replay: MultiTaskReplayBuffer, policy: MultiTaskPolicy) -> Batch:
    """Every task learns from its own transitions only."""
    return batch


#: name -> function of a batch, of the replay buffer it came from, and of the networks
SHARING: dict[str, Callable[[Batch, MultiTaskReplayBuffer, MultiTaskPolicy], Batch]] = {"none": keep_own}
