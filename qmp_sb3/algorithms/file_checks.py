"""What the files of a model hold, and whether what is read makes a model: checks around SB3's ``save`` and ``load``."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, cast

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl

from qmp_sb3.networks.flat_parameters import refuse_other_moments
from qmp_sb3.replay import MultiTaskReplayBuffer
from qmp_sb3.serialization import DamagedFile, read_tree, write_tree
from qmp_sb3.serialization.models import ModelPath, SavedModel
from qmp_sb3.serialization.paths import source, target
from qmp_sb3.serialization.tags import register, shadowing
from qmp_sb3.serialization.trees import is_pickle, name_of, refuse_pickle
from qmp_sb3.vec_env.episode_statistics import EpisodeStatistics

_SPACES = ("observation_space", "action_space")
register("episode_statistics", EpisodeStatistics)  # vec_env knows nothing of files


def attributes(cls: type[OffPolicyAlgorithm], saved: SavedModel, path: ModelPath, trust: bool) -> dict[str, Any]:
    """The attributes of a file, if they are those of a model.

    :raises DamagedFile: if they are not
    """
    data = saved.data or {}
    missing = [name for name in ("policy_class", "policy_kwargs", *_SPACES) if name not in data]
    if missing:
        raise KeyError(f"{name_of(path)} was saved without {', '.join(missing)}, which a model needs")
    if trust:
        return data
    in_the_way = shadowing(cls, list(data))
    policy = data["policy_class"]
    if in_the_way is not None:
        raise DamagedFile(f"{name_of(path)} is damaged: {in_the_way!r} is no attribute of a {cls.__name__}")
    if not (isinstance(policy, type) and issubclass(policy, BasePolicy)):
        raise DamagedFile(f"{name_of(path)} is damaged: its policy is {policy!r:.60}")
    if isinstance(data.get("behavior"), str):
        # An expression may read other files; a model that was saved has the behavior itself.
        raise DamagedFile(f"{name_of(path)} is damaged: its behavior is a text")
    return data


def refuse_other_policy(kwargs: dict[str, Any], data: dict[str, Any]) -> None:
    """The networks of a file have the form that they were saved with."""
    if "policy_kwargs" in kwargs and kwargs["policy_kwargs"] != data["policy_kwargs"]:
        raise ValueError(
            f"policy_kwargs={kwargs['policy_kwargs']!r} are not those of the file, {data['policy_kwargs']!r}"
        )


def refuse_other_parameters(model: Any, saved: SavedModel, known: Iterable[str], path: ModelPath) -> None:
    """Compiled code reads and writes where parameters and moments are, so they have the form of the model's.

    :param known: names of the model's state dictionaries
    :raises DamagedFile: naming what the model lacks
    """
    for name in saved.parameters.keys() - set(known):
        raise DamagedFile(f"{name_of(path)} has parameters {name!r}; this model has none of that name")
    for name, state in saved.parameters.items():
        for optimizer, one in _optimizers(attrgetter(name)(model), state):
            refuse_other_moments(optimizer, one, f"{name_of(path)}: {name}")


def put_tensors(model: Any, saved: SavedModel, known: Iterable[str], path: ModelPath) -> None:
    """The single tensors of a file take the place of the model's.

    :raises DamagedFile: if one has another form
    """
    for name, value in saved.variables.items():
        own = attrgetter(name)(model) if name in known else None
        if own is None or not isinstance(value, th.Tensor) or (own.shape, own.dtype) != (value.shape, value.dtype):
            raise DamagedFile(f"{name_of(path)} is damaged: {name!r} is no tensor of this model")
        own.data = value.data.to(own.device)


def write_replay(path: ModelPath, buffer: MultiTaskReplayBuffer) -> None:
    """Write transitions; ``.safetensors`` is added to a path without suffix."""
    write_tree(path if isinstance(path, io.BufferedIOBase) else target(path, ".safetensors"), buffer)


def read_replay(path: ModelPath, trust: bool) -> Any:
    """The reverse of :func:`write_replay`; pickles of SB3 need ``trust``."""
    file = path if isinstance(path, io.BufferedIOBase) else _replay_file(path)
    if is_pickle(file):
        refuse_pickle(file, trust)
        return load_from_pkl(cast(Any, file))
    return read_tree(file, trust)


def _optimizers(owner: Any, state: Any) -> Iterable[tuple[th.optim.Optimizer, Any]]:
    """The optimizers that a state is for, each with its own."""
    if isinstance(owner, th.optim.Optimizer):
        yield owner, state
    for name, part in getattr(owner, "parts", {}).items():
        if name in state:
            yield part.optimizer, state[name]


def _replay_file(path: str | os.PathLike[str]) -> pathlib.Path:
    given = pathlib.Path(path)
    renamed = given.with_suffix(".safetensors")
    return renamed if not given.is_file() and renamed.is_file() else source(given, ".safetensors", ".pkl")
