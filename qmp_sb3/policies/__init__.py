"""Actors and critics of all tasks."""

from qmp_sb3.policies.actor_critic import MultiTaskActor, MultiTaskCritic
from qmp_sb3.policies.multitask_policy import MlpPolicy, MultiTaskPolicy

__all__ = ["MlpPolicy", "MultiTaskActor", "MultiTaskCritic", "MultiTaskPolicy"]
