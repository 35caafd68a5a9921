"""Saving and loading as Stable-Baselines3 does it, in files that execute no code."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeVar, cast

import torch as th
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.type_aliases import GymEnv, TensorDict
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info

from qmp_sb3.networks.flat_parameters import refuse_other_moments
from qmp_sb3.replay import MultiTaskReplayBuffer
from qmp_sb3.serialization import DamagedFile, read_tree, write_tree
from qmp_sb3.serialization.models import ModelPath, SavedModel, read_model, write_model
from qmp_sb3.serialization.paths import source, target
from qmp_sb3.serialization.tags import shadowing
from qmp_sb3.serialization.trees import is_pickle, name_of, refuse_pickle

SelfSavingAlgorithm = TypeVar("SelfSavingAlgorithm", bound="SavingAlgorithm")
_SPACES = ("observation_space", "action_space")


class SavingAlgorithm(OffPolicyAlgorithm):
    """SB3's ``save`` and ``load`` with the same arguments and layout, but JSON and safetensors (docs/files.md).

    Only what has no other form is pickled: a user's own class or function. It is loaded with ``trust=True``.
    """

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """Write the model to a zip archive, in one step where it is given by its path.

        :param path: ``.zip`` is added to a name without suffix
        :param exclude: attributes that are left out besides those that always are
        :param include: attributes that are not left out though they would be, such as ``replay_buffer``
        """
        states, variables = self._get_torch_save_params()
        apart = {name.split(".")[0] for name in [*states, *variables]}
        left_out = ({*(exclude or ()), *self._excluded_save_params()} - set(include or ())) | apart
        data = {name: value for name, value in self.__dict__.items() if name not in left_out}
        tensors = {name: attrgetter(name)(self) for name in variables}
        write_model(path, SavedModel(data, self.get_parameters(), tensors))

    @classmethod
    def load(
        cls: type[SelfSavingAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfSavingAlgorithm:
        """A new model from a file. All but ``trust`` is as in SB3.

        :param path: of the file, with or without ``.zip``; or a file that is open for reading
        :param env: to go on learning in; without one the model only predicts
        :param device: where the model is to be
        :param custom_objects: attributes that take the place of those of the file
        :param print_system_info: print what system the file was written on, and this one
        :param force_reset: reset the environment before learning
        :param trust: load what is pickled, too: that runs code that the file brings along
        :param kwargs: attributes that are different from now on
        :raises DamagedFile: if the file is not whole, or no model
        :raises UntrustedFile: without ``trust``, if something is pickled, naming it and its type
        """
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        saved = read_model(path, trust, custom_objects, print_system_info=print_system_info)
        data = _checked(cls, saved.data or {}, path, trust)
        if "policy_kwargs" in kwargs and kwargs["policy_kwargs"] != data["policy_kwargs"]:
            raise ValueError(
                f"policy_kwargs={kwargs['policy_kwargs']!r} are not those of the file, {data['policy_kwargs']!r}"
            )
        env = data.get("env") if env is None else cls._wrap_env(env, data.get("verbose", 0))
        if env is not None:
            check_for_correct_spaces(env, data["observation_space"], data["action_space"])
            data["n_envs"] = env.num_envs
            if force_reset:
                data["_last_obs"] = None
        try:
            model = cls(data["policy_class"], cast(Any, env), device=device, _init_setup_model=False)  # type: ignore[call-arg]
            model.__dict__.update(data | kwargs)
            model._setup_model()
            model._take(saved, path)
        except (AttributeError, LookupError, RuntimeError, TypeError) as error:
            if trust or kwargs or custom_objects:
                raise
            raise DamagedFile(f"{name_of(path)} is damaged: its content makes no {cls.__name__}: {error}") from error
        return model

    def set_parameters(
        self,
        load_path_or_dict: str | TensorDict,
        exact_match: bool = True,
        device: th.device | str = "auto",
        trust: bool = False,
    ) -> None:
        """As SB3's.

        :param load_path_or_dict: a file, or parameters as :meth:`get_parameters` gives them
        :param exact_match: whether all of them have to be there
        :param device: unused: they go where the model is
        :param trust: as for :meth:`load`
        """
        if isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)
        else:
            saved = read_model(load_path_or_dict, trust, load_data=False)
            self._take_parameters(saved.parameters, exact_match, load_path_or_dict)

    def _take(self, saved: SavedModel, path: ModelPath) -> None:
        """The parameters and tensors of a file."""
        self._take_parameters(saved.parameters, True, path)
        known = self._get_torch_save_params()[1]
        for name, value in saved.variables.items():
            own = attrgetter(name)(self) if name in known else None
            if own is None or not isinstance(value, th.Tensor) or (own.shape, own.dtype) != (value.shape, value.dtype):
                raise DamagedFile(f"{name_of(path)} is damaged: {name!r} is no tensor of this model")
            own.data = value.data.to(self.device)

    def _take_parameters(self, parameters: Mapping[str, Any], exact_match: bool, path: ModelPath) -> None:
        for name in parameters.keys() - set(self._get_torch_save_params()[0]):
            raise DamagedFile(f"{name_of(path)} has parameters {name!r}, which this model has not")
        for name, state in parameters.items():
            for optimizer, one in _optimizers(attrgetter(name)(self), state):
                refuse_other_moments(optimizer, one, f"{name_of(path)}: {name}")
        super().set_parameters(cast(Any, dict(parameters)), exact_match)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """Write the transitions to a safetensors file, in one step where it is given by its path.

        :param path: any name, as SB3's callbacks give one that ends in ``.pkl``; ``.safetensors`` is added to one
            without suffix
        """
        write_tree(path if isinstance(path, io.BufferedIOBase) else target(path, ".safetensors"), self.replay_buffer)

    def load_replay_buffer(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        trust: bool = False,
    ) -> None:
        """The transitions of a file take the place of the model's.

        :param path: with or without ``.safetensors`` or ``.pkl``
        :param truncate_last_traj: unused; SB3 has it for HER
        :param trust: as for :meth:`load`; pickles of SB3 and of older versions need it
        :raises ValueError: if the file is not whole, or for other tasks or spaces; the model then keeps its own
        """
        file = path if isinstance(path, io.BufferedIOBase) else _replay_file(path)
        if is_pickle(file):
            refuse_pickle(file, trust)
            loaded = load_from_pkl(cast(Any, file))
        else:
            loaded = read_tree(file, trust)
        self._take_replay_buffer(loaded)

    def _take_replay_buffer(self, replay_buffer: MultiTaskReplayBuffer) -> None:
        """Go on with these transitions."""
        raise NotImplementedError

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "lr_schedule"]  # it follows from the learning rate


def _checked(cls: type[OffPolicyAlgorithm], data: dict[str, Any], path: ModelPath, trust: bool) -> dict[str, Any]:
    """The attributes of a file, if they are those of a model.

    :raises DamagedFile: if they are not
    """
    missing = [name for name in ("policy_class", "policy_kwargs", *_SPACES) if name not in data]
    if missing:
        raise KeyError(f"{name_of(path)} was saved without {', '.join(missing)}; nothing can be made of it")
    if trust:
        return data
    in_the_way = shadowing(cls, list(data))
    policy = data["policy_class"]
    if in_the_way is not None:
        raise DamagedFile(f"{name_of(path)} is damaged: {in_the_way!r} is no attribute of a {cls.__name__}")
    if not (isinstance(policy, type) and issubclass(policy, BasePolicy)):
        raise DamagedFile(f"{name_of(path)} is damaged: its policy is {policy!r:.60}")
    if isinstance(data.get("behavior"), str):
        # A sentence may read other files; a model that was saved has the behavior itself.
        raise DamagedFile(f"{name_of(path)} is damaged: its behavior is a text")
    return data


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
