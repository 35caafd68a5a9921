"""Short tags by which files name classes, so that a class that moves breaks no saved model.

A tag is only ever looked up in these tables: nothing is imported and no attribute is followed because a file says so.
"""

from __future__ import annotations

import enum
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common import noise, type_aliases, utils
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.torch_layers import FlattenExtractor

from qmp_sb3.common.random_streams import RandomStreams
from qmp_sb3.common.task_layout import TaskLayout

C = TypeVar("C", bound=type)
W = TypeVar("W", bound=Mapping[str, Callable[..., Any]])

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_ADDRESS = re.compile(r"<(?:[^<>]|<\w+>){,300} at 0x[0-9a-fA-F]+>")
_SPACES = (spaces.Box, spaces.Dict, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete, spaces.Tuple)
_NOISES = (noise.NormalActionNoise, noise.OrnsteinUhlenbeckActionNoise, noise.VectorizedActionNoise)
_SCHEDULES = (utils.ConstantSchedule, utils.FloatSchedule, utils.LinearSchedule)
_SB3 = (*_NOISES, *_SCHEDULES, type_aliases.TrainFreq, type_aliases.TrainFrequencyUnit)
_NETWORKS = (th.nn.Module, th.optim.Optimizer)
_NUMBERS = {cls for cls in vars(np).values() if isinstance(cls, type) and issubclass(cls, np.generic)}


def _of_torch(module: types.ModuleType, base: type) -> dict[str, type]:
    found = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, base)]
    return {f"{module.__name__}.{cls.__name__}": cls for cls in found}


#: tag -> class whose objects a file may hold
OBJECTS: dict[str, type] = {
    "random_streams": RandomStreams,
    "task_layout": TaskLayout,
    **{f"spaces.{cls.__name__}": cls for cls in _SPACES},
    **{f"sb3.{cls.__name__}": cls for cls in _SB3},
}
#: tag -> class or function that a file may name, as the arguments of a model do: networks, optimizers, buffers
NAMED: dict[str, type | types.FunctionType] = {
    **_of_torch(th.nn, th.nn.Module),
    **_of_torch(th.optim, th.optim.Optimizer),
    **{f"numpy.{cls.__name__.rstrip('_')}": cls for cls in _NUMBERS},  # of NumPy 1 and 2 alike
    **{cls.__name__: cls for cls in (bool, int, float, str)},
    "sb3.FlattenExtractor": FlattenExtractor,
}
#: the reverse of both
TAGS: dict[type | types.FunctionType, str] = {cls: tag for tag, cls in [*OBJECTS.items(), *NAMED.items()]}
#: bit generators whose state can be anything without harm
BIT_GENERATORS = {name: getattr(np.random, name) for name in ("PCG64", "PCG64DXSM", "SFC64")}
TORCH_DTYPES = {str(value): value for value in vars(th).values() if isinstance(value, th.dtype)}

_kinds: list[type] = []


def register(tag: str, what: type | types.FunctionType) -> None:
    """Let files hold objects of a class, or name a function, a network, an optimizer or a buffer, by a tag.

    Call it before saving and before loading. A class may move and change its name as long as it keeps its tag.

    :param tag: words with dots between, of your own choice, ``"mine.turns"``
    :param what: the class or function
    :raises ValueError: if the tag belongs to another one
    """
    if not _FORM.fullmatch(tag):
        raise ValueError(f"the tag {tag!r} is none: give words with dots between, such as 'mine.turns'")
    if not isinstance(what, (type, types.FunctionType)):
        raise TypeError(f"register({tag!r}, {what!r}): give a class or a function")
    known = OBJECTS.get(tag, NAMED.get(tag, what))
    if name_of(known) != name_of(what):  # the same name: a cell of a notebook that ran again
        raise ValueError(f"the tag {tag!r} belongs to {name_of(known)}; give {name_of(what)} another")
    TAGS[what] = tag
    if isinstance(what, type) and not issubclass(what, _NETWORKS):
        OBJECTS[tag] = what
    if not isinstance(what, type) or issubclass(what, (*_NETWORKS, BaseBuffer)):
        NAMED[tag] = what


def tagged(tag: str) -> Callable[[C], C]:
    """:func:`register` above a class."""

    def decorate(cls: C) -> C:
        register(tag, cls)
        return cls

    return decorate


def vocabulary(part: str, kind: type, words: W) -> W:
    """The words of a part, whose classes get the tags ``part.word``.

    :param part: its name
    :param kind: the base of its classes; what is of this kind is saved by its tag or not at all
    :param words: word -> class
    """
    _kinds.append(kind)
    for word, cls in words.items():
        register(f"{part}.{word}", cls)  # type: ignore[arg-type]
    return words


def is_part(cls: type) -> bool:
    """Whether objects of a class are parts, which expressions describe."""
    return issubclass(cls, tuple(_kinds))


def expression(part: Any) -> str:
    """The expression of a part; what has none of its own is ``...`` in it."""
    return _ADDRESS.sub("...", repr(part))


def name_of(cls: type | types.FunctionType) -> str:
    """Module and name, for messages: ``torch.nn.modules.activation.ReLU``."""
    return f"{cls.__module__}.{cls.__qualname__}"


def shadowing(cls: type, names: list[str]) -> str | None:
    """The first of some attributes' names that would stand in the place of something that the class does."""
    for name in names:
        if name.startswith("__") or (callable(getattr(cls, name, None)) and not isinstance(cls, enum.EnumMeta)):
            return name
    return None
