"""The networks part: which parameters does task i see? One class per family, chosen by name."""

from qmp_sb3.networks.decaf import DecafMixture
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.multihead import MultiheadMLP
from qmp_sb3.networks.shared import OneHotMLP, SharedMLP
from qmp_sb3.networks.task_module import TaskModule

#: family name -> class; each is built as ``family(n_in, n_out, n_tasks, hidden, copies, ...)``
NETWORKS: dict[str, type[TaskModule]] = {
    "independent": IndependentMLP,
    "shared": SharedMLP,
    "onehot": OneHotMLP,
    "multihead": MultiheadMLP,
    "decaf": DecafMixture,
}

__all__ = ["NETWORKS", "DecafMixture", "IndependentMLP", "MultiheadMLP", "OneHotMLP", "SharedMLP", "TaskModule"]
