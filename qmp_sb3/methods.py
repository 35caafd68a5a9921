"""The table of methods: a name and the parts that it picks; and what names joined by ``+`` mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qmp_sb3.checks import closest
from qmp_sb3.multitask_sac import MultiTaskSAC
from qmp_sb3.qmp import QMP


@dataclass(frozen=True)
class Method:
    """One row of the table.

    :param name: as the command line takes it
    :param summary: one line
    :param source: paper section
    :param parts: constructor arguments that make the method what it is; all others are hyper-parameters
    :param page: its page in docs/methods, which a few methods share; none for a composition
    """

    name: str
    summary: str
    source: str
    parts: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""

    @property
    def algorithm(self) -> type[MultiTaskSAC]:
        """QMP where another task's policy may act, else the core."""
        return MultiTaskSAC if self.parts.get("behavior", "self") == "self" else QMP


_MULTIHEAD = {"networks": "multihead", "replay": "pool", "task_weights": "mean"}
_ACTOR_ONLY = {"temperatures": "shared", "task_weights": "taskmean"}
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
    ),
    Method("parameters", "a shared trunk and one head per task", "QMP, section 6.2", _MULTIHEAD, "parameters"),
    Method(
        "mtsac",
        "one network that reads the task as one-hot",
        "Yu et al., 2020 (Meta-World)",
        {"networks": "onehot", "replay": "pool", "task_weights": "mean"},
        "mtsac",
    ),
    Method(
        "pcgrad",
        "a shared trunk whose tasks' gradients lose their conflicts",
        "Yu et al., 2020; QMP, appendix E.3",
        {"networks": "multihead", "replay": "pool", "task_weights": "taskmean", "gradients": "pcgrad"},
        "pcgrad",
    ),
    Method(
        "mcal-mn",
        "a multi-head actor and a critic network for each task",
        "Mysore et al., 2022; QMP, appendix E.5",
        {"networks": {"actor": "multihead", "critic": "independent"}, **_ACTOR_ONLY},
        "mcal",
    ),
    Method(
        "mcal-mh",
        "a multi-head actor and a multi-head critic",
        "Mysore et al., 2022; QMP, appendix E.5",
        {"networks": "multihead", **_ACTOR_ONLY},
        "mcal",
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
    parts: dict[str, Any] = {}
    deciding: dict[str, str] = {}
    for row in rows:
        for argument, value in row.parts.items():
            if parts.get(argument, value) != value:
                raise ValueError(
                    f"method {name!r}: {deciding[argument]} and {row.name} both decide {argument!r} "
                    f"({parts[argument]!r} and {value!r}); leave one of them out"
                )
            parts[argument], deciding[argument] = value, row.name
    _refuse_void(name, rows)
    summary = "; ".join(row.summary for row in rows)
    return Method(name, summary, "; ".join(dict.fromkeys(row.source for row in rows)), parts)


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
    raise ValueError(f"method={name!r} is unknown; {closest(name, methods())}")


def _refuse_void(name: str, rows: Sequence[Method]) -> None:
    """Some methods leave each other nothing to do."""
    names = [row.name for row in rows]
    if len(set(names)) < len(names) or "no-sharing" in names:
        raise ValueError(f"method {name!r}: no-sharing and repeated names add nothing; leave them out")
    for row in rows:
        others = [one for one in rows if one is not row and row.parts.items() <= one.parts.items()]
        if others:
            raise ValueError(f"method {name!r}: {others[0].name} contains {row.name}; leave {row.name} out")
    if "fully-shared" in names and any("regularizer" in row.parts for row in rows):
        raise ValueError(
            f"method {name!r}: with fully-shared all tasks have the same policy; there are no others to draw it to"
        )
    behaviors = [one for one in names if one in _BEHAVIORS]
    if "fully-shared" in names and behaviors:
        raise ValueError(
            f"method {name!r}: with fully-shared all tasks have the same policy: {behaviors[0]} has nothing to choose; "
            f"parameters+{behaviors[0]} shares parameters and keeps a policy for each task"
        )


def compositions() -> tuple[str, ...]:
    """Every method with each behavior added to it, as far as that means something."""
    bases = [one for one in methods() if one not in (*_BEHAVIORS, "no-sharing", "fully-shared")]
    return tuple(f"{base}+{behavior}" for base in bases for behavior in _BEHAVIORS)
