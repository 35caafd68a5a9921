"""The networks part: which parameters does task i see? One class per family, chosen by name."""

from qmp_sb3.networks.care import CARE
from qmp_sb3.networks.decaf import DecafMixture
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.networks.multihead import MultiheadMLP
from qmp_sb3.networks.paco import PaCo
from qmp_sb3.networks.shared import OneHotMLP, SharedMLP
from qmp_sb3.networks.shared_unique import SharedUnique
from qmp_sb3.networks.soft_modules import SoftModules
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule

#: family name -> class; each is built as ``family(spec, ...)``, and its own settings follow its name:
#: ``"paco(sets=5)"`` (:mod:`qmp_sb3.networks.choice`)
NETWORKS: dict[str, type[TaskModule]] = {
    "independent": IndependentMLP,
    "shared": SharedMLP,
    "onehot": OneHotMLP,
    "multihead": MultiheadMLP,
    "decaf": DecafMixture,
    "soft_modules": SoftModules,
    "paco": PaCo,
    "care": CARE,
    "shared_unique": SharedUnique,
}

__all__ = [
    "CARE",
    "NETWORKS",
    "DecafMixture",
    "IndependentMLP",
    "MultiheadMLP",
    "NetworkSpec",
    "OneHotMLP",
    "PaCo",
    "SharedMLP",
    "SharedUnique",
    "SoftModules",
    "TaskModule",
]
