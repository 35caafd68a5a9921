"""The behavior part: whose policy acts now? An expression of a score, a rule and wrappers."""

from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.expression import parse_behavior
from qmp_sb3.behaviors.fixed import FixedGaussian, FixedPolicies
from qmp_sb3.behaviors.guide import Guide
from qmp_sb3.behaviors.loaded import LoadedPolicies
from qmp_sb3.behaviors.proposals import Proposals
from qmp_sb3.behaviors.rules import Argmax, Softmax, Table
from qmp_sb3.behaviors.scores import QScore
from qmp_sb3.behaviors.wrappers import Also, Hold, Own, Warmup, Wrapper

__all__ = [
    "Also",
    "Argmax",
    "Behavior",
    "FixedGaussian",
    "FixedPolicies",
    "Guide",
    "Hold",
    "LoadedPolicies",
    "Own",
    "Proposals",
    "QScore",
    "Softmax",
    "Table",
    "Warmup",
    "Wrapper",
    "parse_behavior",
]
