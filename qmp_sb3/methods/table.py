"""The table of methods: a name and the parts that it picks; and what names joined by ``+`` mean.

A method *decides* the parts that make it what it is, and merely *comes with* others: those that its authors trained it
with, for which it has no preference of its own. Where names are joined,

1. every part that one of them decides is as that one says; two that decide a part differently are refused;
2. what a method comes with holds as long as no other one decides that part;
3. networks bring their company along: a method that merely comes with networks gives up all that it comes with where
   another one decides the networks. So ``pcgrad+mcal-mh`` has the batches of ``mcal-mh``.

No rule depends on the order of the names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.qmp import QMP
from qmp_sb3.algorithms.sac import MultiTaskSAC

#: word of the part ``learner`` -> the class of the algorithm, and the one whose default is that behaviors are shared
LEARNERS: dict[str, tuple[type[MultiTaskOffPolicyAlgorithm], type[MultiTaskOffPolicyAlgorithm]]] = {
    "sac": (MultiTaskSAC, QMP),
}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    :param name: as the command line takes it
    :param summary: one line
    :param source: paper section
    :param parts: constructor arguments that the method picks, and its ``learner`` (:data:`LEARNERS`); all others are
        hyper-parameters
    :param page: its page in docs/methods, which a few methods share; none for a composition
    :param comes_with: those of its parts that a method which is joined to it may decide instead
    """

    name: str
    summary: str
    source: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""
    comes_with: tuple[str, ...] = ()

    @property
    def decided(self) -> dict[str, Any]:
        """The parts that make the method what it is."""
        return {argument: value for argument, value in self.parts.items() if argument not in self.comes_with}

    @property
    def algorithm(self) -> type[MultiTaskOffPolicyAlgorithm]:
        """The class of its learner, by the name that it has where another task's policy may act."""
        own, shared = LEARNERS[self.parts.get("learner", "sac")]
        return own if self.parts.get("behavior", "self") == "self" else shared

    @property
    def arguments(self) -> dict[str, Any]:
        """Its parts as arguments of the algorithm's constructor."""
        return {argument: value for argument, value in self.parts.items() if argument != "learner"}


_MULTIHEAD = {"networks": "multihead", "replay": "pool", "task_weights": "mean"}
_ACTOR_ONLY = {"temperatures": "shared", "task_weights": "taskmean"}
_ONE_BUFFER = ("replay", "task_weights")
#: every row, in the order in which tables show them
ROWS = (
    Method("no-sharing", "one SAC per task", "QMP, section 6.2", page="no-sharing"),
    # whose policy acts
    Method(
        "qmp",
        "each task's Q-function picks the policy that acts",
        "QMP, definition 4.2",
        {"behavior": "argmax(q)"},
        "qmp",
    ),
    Method(
        "qmp-uniform",
        "every task policy acts alike often",
        "QMP, section 7.4",
        {"behavior": "uniform"},
        "qmp-mixtures",
    ),
    Method(
        "qmp-domain",
        "a hand-set mixture of tasks that share a segment",
        "QMP, section 7.4 and appendix D.1",
        {"behavior": "domain"},
        "qmp-mixtures",
    ),
    Method(
        "qmp-softmax",
        "policies act with probability exp(Q / T)",
        "QMP, appendix G.1",
        {"behavior": "softmax(1.0, q)"},
        "qmp-mixtures",
    ),
    Method(
        "qmp-sampled",
        "the switch scores 10 sampled actions",
        "QMP, appendix G.2",
        {"behavior": "argmax(q(samples=10))"},
        "qmp-scores",
    ),
    Method(
        "qmp-entropy",
        "the switch adds the entropy bonus",
        "QMP, equation 3",
        {"behavior": "argmax(q(entropy=True))"},
        "qmp-scores",
    ),
    Method(
        "qmp-hold",
        "the switch decides every H steps",
        "QMP, appendix E.6",
        {"behavior": "hold(10, argmax(q))"},
        "qmp-hold",
    ),
    Method(
        "ctpg",
        "a learned guide picks the policy that acts for K steps",
        "He et al., 2024 (CTPG)",
        {"behavior": "guide"},
        "ctpg",
    ),
    # which parameters tasks share
    Method(
        "fully-shared",
        "one SAC for all tasks, which is not told the task",
        "QMP, section 6.2",
        {"networks": "shared", "temperatures": "shared", "replay": "pool", "task_weights": "mean"},
        "fully-shared",
        _ONE_BUFFER,
    ),
    Method(
        "parameters",
        "a shared trunk and one head per task",
        "QMP, section 6.2",
        _MULTIHEAD,
        "parameters",
        _ONE_BUFFER,
    ),
    Method(
        "mtsac",
        "one network that reads the task as one-hot",
        "Yu et al., 2020 (Meta-World)",
        {"networks": "onehot", "replay": "pool", "task_weights": "mean"},
        "mtsac",
        _ONE_BUFFER,
    ),
    Method(
        "pcgrad",
        "a shared trunk whose tasks' gradients lose their conflicts",
        "Yu et al., 2020; QMP, appendix E.3",
        {"networks": "multihead", "replay": "pool", "task_weights": "taskmean", "gradients": "pcgrad"},
        "pcgrad",
        ("networks", "replay"),
    ),
    Method(
        "mcal-mn",
        "a multi-head actor and a critic network for each task",
        "Mysore et al., 2022; QMP, appendix E.5",
        {"networks": {"actor": "multihead", "critic": "independent"}, **_ACTOR_ONLY},
        "mcal",
        ("task_weights",),
    ),
    Method(
        "mcal-mh",
        "a multi-head actor and a multi-head critic",
        "Mysore et al., 2022; QMP, appendix E.5",
        {"networks": "multihead", **_ACTOR_ONLY},
        "mcal",
        ("task_weights",),
    ),
    Method(
        "soft-modules",
        "layers of modules that each task mixes in its own way",
        "Yang et al., 2020 (Soft Modularization)",
        {"networks": "soft_modules", "replay": "equal", "task_weights": "alpha"},
        "soft-modules",
        _ONE_BUFFER,
    ),
    Method(
        "paco",
        "each task combines parameter sets of all tasks",
        "Sun et al., 2022 (PaCo)",
        {"networks": "paco", "replay": "equal", "task_weights": "taskmean", "hooks": ["maskout(3000)"]},
        "paco",
        _ONE_BUFFER,
    ),
    Method(
        "care",
        "encoders of the state, mixed by what is known of the task",
        "Sodhani et al., 2021 (CARE)",
        {"networks": "care", "replay": "pool", "task_weights": "mean"},
        "care",
        _ONE_BUFFER,
    ),
    Method(
        "shared-unique",
        "PaCo's shared features and unique ones that tell tasks apart",
        "Shared-Unique Features, anonymous, section 3",
        {
            "networks": "shared_unique",
            "replay": "mass",
            "draw": "per(0.6, 0.4)",
            "task_weights": "mean",
            "hooks": ["triplet(1)"],
        },
        "shared-unique",
        (*_ONE_BUFFER, "draw"),
    ),
    # which data tasks share
    Method(
        "data",
        "other tasks' data with the smallest reward (UDS)",
        "Yu et al., 2022; QMP, appendix H.6",
        {"sharing": "uds(0)"},
        "data",
    ),
    Method(
        "cds",
        "other tasks' data with the true reward",
        "Yu et al., 2021; QMP, appendix E.2",
        {"sharing": "cds(0.8)"},
        "cds",
    ),
    # which transitions are learned from
    Method(
        "per",
        "transitions with larger errors more often, whatever their task",
        "Schaul et al., 2016; Shared-Unique Features, section 4.4",
        {"replay": "pool", "draw": "per(0.6, 0.4)"},
        "per",
    ),
    Method(
        "ta-per",
        "the same, with limits to how many of each task",
        "Shared-Unique Features, section 3.3",
        {"replay": "mass", "draw": "per(0.6, 0.4)"},
        "ta-per",
    ),
    # how policies and values are drawn together
    Method(
        "dnc-reg",
        "policies are drawn towards each other",
        "Ghosh et al., 2018; QMP, appendix H.4",
        {"regularizer": "dnc(0.001)"},
        "dnc",
    ),
    Method(
        "dnc",
        "policies are drawn towards each other and now and then become one",
        "Ghosh et al., 2018; QMP, appendix H.4",
        {"regularizer": "dnc(0.001)", "hooks": ["distill(100000)"]},
        "dnc",
    ),
    Method(
        "decaf",
        "each task's Q-function is a learned mixture of all of them",
        "Glatt et al., 2020; QMP, appendix E.5",
        {"networks": {"actor": "independent", "critic": "decaf"}},
        "decaf",
    ),
)
_BEHAVIORS = tuple(one.name for one in ROWS if set(one.parts) == {"behavior"})


def methods() -> dict[str, Method]:
    """Every method by name; they also go together, as in ``"parameters+qmp"``."""
    return {row.name: row for row in ROWS}


def method(name: str) -> Method:
    """The row of a method, or of several that go together, joined by ``+``.

    :raises ValueError: naming the closest method, or the part that two of them decide differently
    """
    rows = [_row(part.strip()) for part in name.split("+")]
    if len(rows) == 1:
        return rows[0]
    _refuse_idle(name, rows)
    parts = _joined(name, rows)
    _refuse_void(name, rows, parts)
    summary = "; ".join(row.summary for row in rows)
    return Method(name, summary, "; ".join(dict.fromkeys(row.source for row in rows)), parts)


def given_up(name: str) -> dict[str, set[str]]:
    """What each of some joined methods comes with and gives up, because another one decides it."""
    rows = [_row(part.strip()) for part in name.split("+")]
    return {row.name: _given_up(row, rows) for row in rows}


def _given_up(row: Method, rows: Sequence[Method]) -> set[str]:
    decided = {argument for other in rows if other is not row for argument in other.decided}
    if "networks" in decided & set(row.comes_with):
        return set(row.comes_with)
    return decided & set(row.comes_with)


def _joined(name: str, rows: Sequence[Method]) -> dict[str, Any]:
    """The parts of all rows, each as one of them says."""
    parts: dict[str, Any] = {}
    from_row: dict[str, str] = {}
    for row in rows:
        lost = _given_up(row, rows)
        for argument, value in row.parts.items():
            if argument in lost:
                continue
            if parts.get(argument, value) != value:
                raise ValueError(
                    f"method {name!r}: {from_row[argument]} and {row.name} both decide {argument!r} "
                    f"({parts[argument]!r} and {value!r}); leave one of them out"
                )
            parts[argument], from_row[argument] = value, row.name
    return parts


def _row(name: str) -> Method:
    """The row of one name.

    :raises ValueError: naming the method that has a part of this name, else the closest one
    """
    if name in methods():
        return methods()[name]
    for row in ROWS:
        for argument, value in row.parts.items():
            if name in re.findall(r"\w+", str(value)):
                hint = f"did you mean {row.name!r}, whose {argument} is {value!r}?"
                raise ValueError(f"method={name!r} is unknown; {hint}")
    raise ValueError(f"method={name!r} is unknown; {did_you_mean(name, methods())}")


def _refuse_idle(name: str, rows: Sequence[Method]) -> None:
    """Names that add nothing."""
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or "no-sharing" in names:
        raise ValueError(f"method {name!r}: no-sharing and repeated names add nothing; leave them out")
    for row in rows:
        others = [one for one in rows if one is not row and row.decided.items() <= one.parts.items()]
        if others:
            raise ValueError(f"method {name!r}: {others[0].name} contains {row.name}; leave {row.name} out")


def _refuse_void(name: str, rows: Sequence[Method], parts: Mapping[str, Any]) -> None:
    """Some methods leave each other nothing to do, or take away what the other one needs."""
    names = [row.name for row in rows]
    if "fully-shared" in names and "regularizer" in parts:
        raise ValueError(
            f"method {name!r}: with fully-shared all tasks have the same policy; there are no others to draw it to"
        )
    behaviors = [one for one in names if one in _BEHAVIORS]
    if "fully-shared" in names and behaviors:
        raise ValueError(
            f"method {name!r}: with fully-shared all tasks have the same policy: {behaviors[0]} has nothing to choose; "
            f"parameters+{behaviors[0]} shares parameters and keeps a policy for each task"
        )
    networks = parts.get("networks", "independent")
    separate = (networks["actor"] if isinstance(networks, dict) else networks) == "independent"
    if "dnc" in names and not separate:
        instead = "+".join("dnc-reg" if one == "dnc" else one for one in names)
        raise ValueError(
            f"method {name!r}: dnc copies one policy into separate ones, and here the tasks have none; leave its "
            f"distillation out, as {instead}"
        )
    if parts.get("gradients") == "pcgrad" and separate:
        raise ValueError(
            f"method {name!r}: the tasks' networks are separate, so their gradients have no conflicts; leave pcgrad out"
        )
    if "sharing" in parts and parts.get("draw", "uniform") != "uniform":
        sharing, drawing = (next(row.name for row in rows if one in row.parts) for one in ("sharing", "draw"))
        raise ValueError(
            f"method {name!r}: {sharing} compares other tasks' transitions with a batch that stands for all of a "
            f"task's own, which the one of {drawing} does not; leave one of them out"
        )


def compositions() -> tuple[str, ...]:
    """Every method with each behavior added to it, as far as that means something."""
    bases = [one for one in methods() if one not in (*_BEHAVIORS, "no-sharing", "fully-shared")]
    return tuple(f"{base}+{behavior}" for base in bases for behavior in _BEHAVIORS)
