"""The closed list of classes whose objects a file may hold, and of those that it may name.

A file names a class by text. The text is only ever looked up in these tables: nothing is imported and no attribute is
followed because a file says so.
"""

from __future__ import annotations

import enum
import importlib
import types
from functools import cache

import numpy as np
import torch as th

#: modules of ours, all of whose own classes are parts that are nothing but their attributes
PARTS = (
    "qmp_sb3.behaviors.fixed",
    "qmp_sb3.behaviors.guide",
    "qmp_sb3.behaviors.guide_networks",
    "qmp_sb3.behaviors.loaded",
    "qmp_sb3.behaviors.rules",
    "qmp_sb3.behaviors.scores",
    "qmp_sb3.behaviors.wrappers",
    "qmp_sb3.vec_env.episode_statistics",
    "qmp_sb3.hooks.distillation",
    "qmp_sb3.hooks.maskout",
    "qmp_sb3.hooks.triplet",
    "qmp_sb3.common.task_layout",
    "qmp_sb3.objectives.regularizers",
    "qmp_sb3.common.random_streams",
    "qmp_sb3.replay.allocations",
    "qmp_sb3.replay.draws",
    "qmp_sb3.replay.multitask_replay_buffer",
    "qmp_sb3.replay.n_step",
    "qmp_sb3.replay.priorities",
    "qmp_sb3.replay.row_format",
    "qmp_sb3.replay.sum_trees",
    "qmp_sb3.replay.sharing",
)
#: classes of others, likewise
OTHERS = {
    "gymnasium.spaces": ("Box", "Dict", "Discrete", "MultiBinary", "MultiDiscrete", "Tuple"),
    "stable_baselines3.common.noise": ("NormalActionNoise", "OrnsteinUhlenbeckActionNoise", "VectorizedActionNoise"),
    "stable_baselines3.common.type_aliases": ("TrainFreq", "TrainFrequencyUnit"),
    "stable_baselines3.common.utils": ("ConstantSchedule", "FloatSchedule", "LinearSchedule"),
}
#: classes that are only named, because a model has their names: policies and buffers
NAMED = {
    "qmp_sb3.policies.actor_critic": ("MultiTaskActor", "MultiTaskCritic"),
    "qmp_sb3.policies.multitask_policy": ("MultiTaskPolicy",),
    "qmp_sb3.replay.multitask_replay_buffer": ("MultiTaskReplayBuffer",),
    "stable_baselines3.common.torch_layers": ("FlattenExtractor",),
}
#: bit generators whose state can be anything without harm
BIT_GENERATORS = {name: getattr(np.random, name) for name in ("PCG64", "PCG64DXSM", "SFC64")}
TORCH_DTYPES = {str(value): value for value in vars(th).values() if isinstance(value, th.dtype)}


def name_of(cls: type | types.FunctionType) -> str:
    """Module and name, ``torch.nn.modules.activation.ReLU``."""
    return f"{cls.__module__}.{cls.__qualname__}"


@cache
def objects() -> dict[str, type]:
    """The classes whose objects a file may hold, by name."""
    found: list[type] = []
    for module in PARTS:
        found += [one for one in vars(importlib.import_module(module)).values() if _of(one, module)]
    return {name_of(cls): cls for cls in [*found, *_listed(OTHERS)]}


@cache
def classes() -> dict[str, type]:
    """The classes that a file may name: activations, optimizers, types of numbers, policies and buffers."""
    modules = [one for one in vars(th.nn).values() if _below(one, th.nn.Module, "torch.nn")]
    optimizers = [one for one in vars(th.optim).values() if _below(one, th.optim.Optimizer, "torch.optim")]
    numbers = [one for one in vars(np).values() if isinstance(one, type) and issubclass(one, np.generic)]
    plain: list[type] = [bool, int, float, str]
    return {name_of(cls): cls for cls in [*modules, *optimizers, *numbers, *plain, *_listed(NAMED)]}


def shadowing(cls: type, names: list[str]) -> str | None:
    """The first of some attributes' names that would stand in the place of something that the class does."""
    for name in names:
        if name.startswith("__") or (callable(getattr(cls, name, None)) and not isinstance(cls, enum.EnumMeta)):
            return name
    return None


def _listed(table: dict[str, tuple[str, ...]]) -> list[type]:
    modules = {module: importlib.import_module(module) for module in table}
    return [getattr(modules[module], name) for module, names in table.items() for name in names]


def _of(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


def _below(value: object, base: type, package: str) -> bool:
    return isinstance(value, type) and issubclass(value, base) and value.__module__.startswith(f"{package}.")
