"""Evaluation of every task alike: the tasks' own policies (the headline) and the mixture (a second curve)."""

from qmp_sb3.evaluation.callback import MultiTaskEvalCallback
from qmp_sb3.evaluation.policies import MixturePolicy, OwnPolicy, evaluate_tasks

__all__ = ["MixturePolicy", "MultiTaskEvalCallback", "OwnPolicy", "evaluate_tasks"]
