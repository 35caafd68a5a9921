"""The table of methods: a name, the parts it picks, and where its hyper-parameters stand."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import permutations
from typing import Any

import yaml
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import qmp_envs
from qmp_sb3.checks import closest, one_of, policy_arguments
from qmp_sb3.multitask_sac import MultiTaskSAC
from qmp_sb3.qmp import QMP
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

PRESETS = {
    "fast": "ours, the default; docs/results.md has what it reaches",
    "official": "the released code of the paper",
    "paper": "the paper's table 4",
}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


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
_METHODS = (
    Method("no-sharing", "one SAC per task", "QMP, section 6", page="no-sharing"),
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
        "QMP, section 6.3",
        {"behavior": "uniform"},
        "qmp-mixtures",
    ),
    Method(
        "qmp-domain",
        "a hand-set mixture of tasks that share a segment",
        "QMP, appendix F",
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
    # which parameters tasks share
    Method(
        "fully-shared",
        "one SAC for all tasks, which is not told the task",
        "QMP, section 6",
        {"networks": "shared", "temperatures": "shared", "replay": "pool", "task_weights": "mean"},
        "fully-shared",
    ),
    Method("parameters", "a shared trunk and one head per task", "QMP, section 6", _MULTIHEAD, "parameters"),
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
        "QMP, appendix H.6",
        {"sharing": "uds(0)"},
        "data",
    ),
    Method("cds", "other tasks' data with the true reward", "QMP, appendix E.2", {"sharing": "cds(0.8)"}, "cds"),
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
_BEHAVIORS = tuple(one.name for one in _METHODS if set(one.parts) == {"behavior"})


def methods() -> dict[str, Method]:
    """Every method by name; they also go together, as in ``"parameters+qmp"``."""
    return {method.name: method for method in _METHODS}


def method(name: str) -> Method:
    """The row of a method, or of several that go together, joined by ``+``.

    :raises ValueError: naming the closest method, or the part that two of them decide differently
    """
    rows = [methods()[one_of("method", part.strip(), methods())] for part in name.split("+")]
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


@cache
def _document(name: str) -> dict[str, Any]:
    path = resources.files("qmp_sb3").joinpath("hyperparameters", f"{name}.yaml")
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def base(name: str) -> str | None:
    """The method whose file a method's own file starts from, if it is not only the core."""
    return _document(name).get("base")


def own_values(name: str, env_id: str, preset: str, inherit: bool = True) -> dict[str, list]:
    """``argument -> [value, source]`` of a method's own file: those for any id, then those of this id.

    :param inherit: before them, those of the file's base
    """
    document, start = _document(name), base(name) if inherit else None
    of_id = document.get(env_id, {})
    inherited = own_values(start, env_id, preset) if start else {}
    result = {argument: [value, f"as {start}: {source}"] for argument, (value, source) in inherited.items()}
    return result | document.get("any", {}) | of_id.get("any", {}) | of_id.get(preset, {})


def _sourced(name: str, env_id: str, preset: str) -> dict[str, list]:
    """The core's hyper-parameters, then what each of the joined methods sets, in order, then what they set together."""
    result = own_values("no-sharing", env_id, preset)
    names = [part.strip() for part in name.split("+")]
    together = ["+".join(order) for order in permutations(names)] if len(names) > 1 else []
    for one in (*names, *together):
        result = result | own_values(one, env_id, preset)
    return result


def sets_with_values() -> dict[str, tuple[str, ...]]:
    """Task set -> its presets, in the order of the core's file, also where an extra is not installed."""
    document = _document("no-sharing")
    return {id: tuple(preset for preset in PRESETS if preset in document[id]) for id in document}


def sources(name: str, env_id: str, preset: str = "fast") -> dict[str, tuple[Any, str]]:
    """Every hyper-parameter with its value and where the value comes from.

    :raises ValueError: if the method, the id or the preset is unknown
    """
    method(name)
    one_of("preset", preset, PRESETS)
    known = [key for key in _document("no-sharing") if key.startswith("QMP/")]
    if env_id not in known:
        raise ValueError(f"there are no hyper-parameters for {env_id!r}; {closest(env_id, known)}")
    available = [key for key in _document("no-sharing")[env_id] if key in PRESETS]
    if preset not in available:
        raise ValueError(f"{env_id} has no preset {preset!r}; it has {', '.join(available)}")
    return {argument: (value, source) for argument, (value, source) in _sourced(name, env_id, preset).items()}


def settings(name: str, env_id: str, preset: str = "fast") -> dict[str, Any]:
    """Constructor arguments of a method for an id: its parts, then the hyper-parameters of a preset."""
    arguments = {argument: value for argument, (value, _) in sources(name, env_id, preset).items()}
    return _nested(dict(method(name).parts) | arguments)


def default_steps(env_id: str) -> int:
    """Environment steps, all tasks together, that ``qmp train`` runs unless told otherwise."""
    document = _document("no-sharing")
    return int(document[env_id]["steps"][0]) if env_id in document else 1_000_000


def make(name: str, env: str | VecEnv, preset: str = "fast", **overrides: Any) -> MultiTaskSAC:
    """A model ready to learn.

    :param name: method
    :param env: id of a task set, or an environment made from one
    :param preset: set of hyper-parameters
    :param overrides: constructor arguments; ``policy_kwargs.x`` for the policy's, ``env_kwargs.x`` for options of the
        environment if it is given by id
    :raises ValueError: if a name is unknown, with the closest known one
    """
    env_id = env if isinstance(env, str) else _id_of(env)
    check_overrides(overrides)
    if not isinstance(env, str) and any(name.startswith("env_kwargs") for name in overrides):
        raise ValueError("env_kwargs are for an environment given by id; this one is already made")
    arguments = settings(name, env_id, preset)
    changes = _nested(overrides)
    env_kwargs = changes.pop("env_kwargs", {})
    arguments["policy_kwargs"] = arguments.get("policy_kwargs", {}) | changes.pop("policy_kwargs", {})
    if isinstance(arguments["policy_kwargs"].get("activation_fn"), str):
        activation = one_of("activation_fn", arguments["policy_kwargs"]["activation_fn"], ACTIVATIONS)
        arguments["policy_kwargs"]["activation_fn"] = ACTIVATIONS[activation]
    vec_env = make_multitask_vec_env(env, **env_kwargs) if isinstance(env, str) else env
    return method(name).algorithm("MlpPolicy", vec_env, **(arguments | changes))


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError naming the closest argument if one is unknown."""
    known = [name for name in inspect.signature(MultiTaskSAC).parameters if not name.startswith("_")]
    policy = [f"policy_kwargs.{name}" for name in policy_arguments()]
    for name in overrides:
        if name not in (*known, *policy, "env_kwargs") and not name.startswith("env_kwargs."):
            raise ValueError(f"unknown option {name!r}; {closest(name, [*known, *policy])}")


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        outer, _, inner = key.partition(".")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        elif isinstance(value, Mapping) and isinstance(nested.get(outer), dict):
            nested[outer] = nested[outer] | dict(value)
        else:
            nested[outer] = value
    return nested


def _id_of(env: VecEnv) -> str:
    base = env.unwrapped
    spec = getattr(base.envs, "spec", None) if isinstance(base, MultiTaskVecEnv) else None
    if spec is None:
        raise ValueError("the environment does not tell its id; give presets.make the id itself")
    return spec.id


def known_ids() -> tuple[str, ...]:
    """Ids that have hyper-parameters."""
    return tuple(id for id in qmp_envs.ids() if id in _document("no-sharing"))
