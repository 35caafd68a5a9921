"""The networks part: which parameters does task i see? One class per family, chosen by name."""

from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.task_module import TaskModule

#: family name -> class; each is built as ``family(n_in, n_out, n_tasks, hidden, copies, ...)``
NETWORKS: dict[str, type[TaskModule]] = {"independent": IndependentMLP}

__all__ = ["NETWORKS", "IndependentMLP", "TaskModule"]
