"""The objective part: what is minimized, and how are tasks combined?"""

from qmp_sb3.objectives.gradients import GRADIENTS
from qmp_sb3.objectives.losses import (
    absolute_errors,
    actor_loss,
    bellman_target,
    critic_loss,
    entropy_bonus,
    temperature_loss,
)
from qmp_sb3.objectives.task_weights import TASK_WEIGHTS

__all__ = [
    "GRADIENTS",
    "TASK_WEIGHTS",
    "absolute_errors",
    "actor_loss",
    "bellman_target",
    "critic_loss",
    "entropy_bonus",
    "temperature_loss",
]
