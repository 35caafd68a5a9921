"""Models by the name of a method: its parts, and the hyper-parameters of a preset with where each comes from."""

from __future__ import annotations

import inspect
import re
from collections.abc import KeysView, Mapping
from functools import cache
from importlib import resources
from itertools import permutations
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

import qmp_envs
from qmp_envs.suggestions import did_you_mean
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.checks import policy_arguments, replay_buffer_arguments
from qmp_sb3.common.validation import one_of
from qmp_sb3.methods.table import LEARNERS, given_up, method
from qmp_sb3.methods.table import Method as Method
from qmp_sb3.methods.table import compositions as compositions
from qmp_sb3.methods.table import methods as methods
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

PRESETS = {
    "fast": "ours, the default; docs/results.md has what it reaches",
    "official": "the released code of the paper",
    "paper": "the paper's table 4",
    "ctpg-paper": "the released code of the CTPG paper: another regime, with scaled rewards and shorter episodes",
}
ENV_OPTIONS = ("envs_per_task", "seed")
"""Of ``env_kwargs``, what is no option of the environment but of :func:`~qmp_sb3.make_multitask_vec_env`."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


@cache
def _document(name: str) -> dict[str, Any]:
    path = resources.files("qmp_sb3.methods").joinpath("hyperparameters", f"{name}.yaml")
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
    """The core's hyper-parameters, then what each of the joined methods sets, in order, then what they set together.

    A method that gives up its networks to another one sets nothing that its file has from its base; one that gives up
    its division of a batch among the tasks keeps the number of rows.
    """
    result, lost, rows = own_values("no-sharing", env_id, preset), given_up(name), ""
    names = [part.strip() for part in name.split("+")]
    together = ["+".join(order) for order in permutations(names)] if len(names) > 1 else []
    for one in (*names, *together):
        gone = lost.get(one, set())
        values = own_values(one, env_id, preset, inherit="networks" not in gone)
        if "replay" in gone and "replay" in values:
            rows = values["replay"][0]
        result = result | {argument: value for argument, value in values.items() if argument not in gone}
    if rows:
        replay, source = result["replay"]
        result["replay"] = [_as_many(replay, rows), f"{source}; as many rows as {rows}"]
    return result


def _as_many(replay: str, other: str) -> str:
    """An allocation with the number of rows of another one: ``mass`` after ``pool(32)`` is ``mass(32)``."""
    word, _, arguments = replay.partition("(")
    total = re.match(r"\w+\((\d+)", other)
    if total is None or arguments[:1].isdigit():
        return replay
    return f"{word}({total[1]}, {arguments}" if arguments else f"{word}({total[1]})"


def sets_with_values() -> dict[str, tuple[str, ...]]:
    """Task set -> its presets, in the order of the core's file, also where an extra is not installed."""
    document = _document("no-sharing")
    return {id: tuple(preset for preset in PRESETS if preset in document[id]) for id in document}


def sources(name: str, env_id: str, preset: str = "fast") -> dict[str, tuple[Any, str]]:
    """Every hyper-parameter with its value and where the value comes from.

    For a task set from elsewhere that is what the method itself sets; the rest is left to the constructor's defaults.

    :raises ValueError: if the method, the id or the preset is unknown
    """
    method(name)
    one_of("preset", preset, PRESETS)
    known = [key for key in _document("no-sharing") if key.startswith("QMP/")]
    if not env_id.startswith("QMP/") and qmp_envs.is_task_set(env_id):
        return {key: (value, source) for key, (value, source) in _sourced(name, env_id, preset).items()}
    if env_id not in known:
        if not env_id.startswith("QMP/") and env_id not in gym.registry:
            raise ValueError(f"{env_id!r} is not registered; import the module that does it")
        raise ValueError(f"there are no hyper-parameters for {env_id!r}; {did_you_mean(env_id, known)}")
    available = [key for key in _document("no-sharing")[env_id] if key in PRESETS]
    if preset not in available:
        raise ValueError(f"{env_id} has no preset {preset!r}; it has {', '.join(available)}")
    return {argument: (value, source) for argument, (value, source) in _sourced(name, env_id, preset).items()}


def settings(name: str, env_id: str, preset: str = "fast") -> dict[str, Any]:
    """Constructor arguments of a method for an id: its parts, then the hyper-parameters of a preset."""
    row = method(name)
    lacking = _arguments() - _arguments(row.algorithm)  # a learner without temperatures takes no ``ent_coef``
    sourced = sources(name, env_id, preset).items()
    arguments = {argument: value for argument, (value, _) in sourced if argument not in lacking}
    return _nested(row.arguments | arguments)


def env_options(name: str, env_id: str, preset: str = "fast") -> dict[str, Any]:
    """Options of the environment that a preset belongs to; most presets leave it as it is registered."""
    return settings(name, env_id, preset).get("env_kwargs", {})


def default_steps(env_id: str) -> int:
    """Environment steps, all tasks together, that ``qmp train`` runs unless told otherwise."""
    document = _document("no-sharing")
    return int(document[env_id]["steps"][0]) if env_id in document else 1_000_000


def make(name: str, env: str | VecEnv, preset: str = "fast", **overrides: Any) -> MultiTaskOffPolicyAlgorithm:
    """A model ready to learn.

    :param name: method
    :param env: id of a task set, or an environment made from one
    :param preset: set of hyper-parameters
    :param overrides: constructor arguments; ``policy_kwargs.x`` for the policy's, ``replay_buffer_kwargs.x`` for the
        replay buffer's, ``env_kwargs.x`` for options of the environment if it is given by id
    :raises ValueError: if a name is unknown, with the closest known one
    """
    env_id = env if isinstance(env, str) else _id_of(env)
    check_overrides(overrides)
    if not isinstance(env, str) and any(name.startswith("env_kwargs") for name in overrides):
        raise ValueError("env_kwargs are for an environment given by id; this one is already made")
    arguments = settings(name, env_id, preset)
    changes = _nested(overrides)
    check_env_options(env_id, changes.get("env_kwargs", {}))
    env_kwargs = env_options(name, env_id, preset) | changes.pop("env_kwargs", {})
    if not isinstance(env, str):
        _check_made(env, env_kwargs, preset)
    arguments.pop("env_kwargs", None)
    for nested in ("policy_kwargs", "replay_buffer_kwargs"):
        arguments[nested] = arguments.get(nested, {}) | (changes.pop(nested, None) or {})
    if isinstance(arguments["policy_kwargs"].get("activation_fn"), str):
        activation = one_of("activation_fn", arguments["policy_kwargs"]["activation_fn"], ACTIVATIONS)
        arguments["policy_kwargs"]["activation_fn"] = ACTIVATIONS[activation]
    vec_env = make_multitask_vec_env(env, **env_kwargs) if isinstance(env, str) else env
    return method(name).algorithm("MlpPolicy", vec_env, **(arguments | changes))


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError naming the closest argument if one is unknown."""
    known = list(_arguments())
    nested = [f"policy_kwargs.{name}" for name in policy_arguments()]
    nested += [f"replay_buffer_kwargs.{name}" for name in replay_buffer_arguments()]
    for name in overrides:
        if name not in (*known, *nested, "env_kwargs") and not name.startswith("env_kwargs."):
            raise ValueError(f"unknown option {name!r}; {did_you_mean(name, [*known, *nested])}")


def _arguments(*classes: type[MultiTaskOffPolicyAlgorithm]) -> KeysView[str]:
    """Arguments of some algorithms' constructors, in their order; without any, of those of all learners."""
    asked = classes or [cls for pair in LEARNERS.values() for cls in pair]
    names = (name for cls in asked for name in inspect.signature(cls).parameters)
    return {name: None for name in names if not name.startswith("_")}.keys()


def check_env_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Raise a TypeError unless these are options of the task set, or of the environments made of it."""
    qmp_envs.registry.check_options(env_id, [name for name in options if name not in ENV_OPTIONS])


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


def _check_made(env: VecEnv, options: Mapping[str, Any], preset: str) -> None:
    """Raise where a finished environment is another one than the preset is for."""
    spec = getattr(getattr(env.unwrapped, "envs", None), "spec", None)
    for name, value in options.items():
        made = getattr(spec, "kwargs", {}).get(name, getattr(spec, name, None))
        if made != value:
            raise ValueError(
                f"preset {preset!r} is for {name}={value!r}, but the environment was made with {made!r}; "
                "give its id, or make it so"
            )


def known_ids() -> tuple[str, ...]:
    """Ids that have hyper-parameters."""
    return tuple(id for id in qmp_envs.ids() if id in _document("no-sharing"))
