"""The algorithms: what collects, learns and is saved."""

from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.qmp import QMP
from qmp_sb3.algorithms.sac import MultiTaskSAC

__all__ = ["QMP", "MultiTaskOffPolicyAlgorithm", "MultiTaskSAC"]
