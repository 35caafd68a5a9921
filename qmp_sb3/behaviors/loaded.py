"""Policies of saved models as fixed candidates: experts for the tasks that are to be learned (CTPG's new tasks)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from qmp_envs.suggestions import closest
from qmp_sb3.behaviors.fixed import FixedPolicies
from qmp_sb3.policies import MultiTaskActor, MultiTaskPolicy
from qmp_sb3.serialization.checkpoint_folders import newest_model
from qmp_sb3.serialization.models import read_model


def model_file(path: str | os.PathLike[str]) -> Path:
    """The file of a saved model: given itself, with or without ``.zip``, or by the folder of a run, whose last model it
    is: the final one, or that of the newest checkpoint in which it is whole.

    :raises ValueError: if there is none
    """
    given = Path(path)
    if given.is_dir():
        newest = newest_model(given / "checkpoints")
        candidates = [given / "final_model.zip", *([] if newest is None else [newest])]
    else:
        candidates = [given, given.with_name(f"{given.name}.zip")]
    for file in candidates:
        if file.is_file():
            return file
    raise ValueError(f"load({os.fspath(path)!r}): there is no model; tried {', '.join(map(str, candidates))}")


class LoadedPolicies(FixedPolicies):
    """The policies of some tasks of a saved model, frozen. A model that has them as candidates saves them with itself.

    They read observations as they are: a model that was trained with VecNormalize needs an environment that does the
    same.

    :param path: a saved model, or the folder of a run
    :param task: index or name of a task of that model, or a list of them; None for all
    :param trust: load what is pickled, too, which runs code that the file brings along. An expression cannot say it:
        files hold expressions
    """

    def __init__(
        self, path: str | os.PathLike[str], task: int | str | Sequence[int | str] | None = None, trust: bool = False
    ) -> None:
        self.path, self.task = os.fspath(path), task
        saved = read_model(model_file(path), trust)
        data = saved.data or {}
        names = tuple(data.get("task_names", ()))
        if not names or not issubclass(data.get("policy_class", object), MultiTaskPolicy):
            raise ValueError(f"load({self.path!r}): the file holds no multi-task model")
        self.tasks = _chosen(self.path, task, names)
        self.count = len(self.tasks)
        policy: MultiTaskPolicy = data["policy_class"](
            data["observation_space"],
            data["action_space"],
            lambda _: 0.0,
            n_tasks=len(names),
            networks=data["networks"],
            generator=th.Generator().manual_seed(0),
            **data["policy_kwargs"],
        )
        policy.load_state_dict(dict(saved.parameters["policy"]))
        self._take(policy.actor)

    def _take(self, actor: MultiTaskActor) -> None:
        self.actor = actor
        self.actor.requires_grad_(False)
        self.actor.set_training_mode(False)

    def __repr__(self) -> str:
        return f"load({self.path!r})" if self.task is None else f"load({self.path!r}, task={self.task!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Numbers on the CPU, so that a model can be loaded where there is no GPU."""
        state = {key: value for key, value in self.__dict__.items() if key != "actor"}
        numbers = {name: value.cpu() for name, value in self.actor.state_dict().items()}
        return state | {"_arguments": self.actor._get_constructor_parameters(), "_numbers": numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        arguments, numbers = state.pop("_arguments"), state.pop("_numbers")
        self.__dict__.update(state)
        # The weights drawn here are written over; no other generator is to move for them.
        settings = arguments["network_kwargs"] | {"generator": th.Generator().manual_seed(0)}
        actor = MultiTaskActor(**(arguments | {"network_kwargs": settings}))
        actor.load_state_dict(numbers)
        self._take(actor)

    def check(self, observation_space: spaces.Space, action_space: spaces.Box) -> None:
        for name, own, given in (
            ("observation space", self.actor.observation_space, observation_space),
            ("action space", self.actor.action_space, action_space),
        ):
            if own != given:
                raise ValueError(f"{self!r} has the {name} {own}, the environment {given}")

    def _outputs(self, features: th.Tensor) -> th.Tensor:
        """Of each policy's network, ``(slots, count, n_outputs)``."""
        if self.actor.flat.flat.device != features.device:
            self.actor.to(features.device)
        return self.actor.every(features)[self.tasks].transpose(0, 1)

    def mean_actions(self, features: th.Tensor) -> th.Tensor:
        return self.actor.head.mean_actions(self._outputs(features))

    def samples(self, features: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        return self.actor.head.sample_log_prob(self._outputs(features), noise)

    def act(self, features: th.Tensor, which: np.ndarray, noise: th.Tensor) -> th.Tensor:
        rows = th.arange(len(features), device=features.device)
        outputs = self._outputs(features)[rows, th.from_numpy(which).to(features.device)]
        return self.actor.head.sample(outputs, noise)

    def log_prob(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        return self.actor.head.log_prob(self._outputs(features), actions[:, None])


def _chosen(path: str, task: Any, names: tuple[str, ...]) -> list[int]:
    """The indices of tasks given by index or name.

    :raises ValueError: naming the limit or the closest name
    """
    given = [task] if isinstance(task, (int, str)) else (range(len(names)) if task is None else list(task))
    for one in given:
        if isinstance(one, str) and one not in names:
            raise ValueError(f"load({path!r}): unknown task {one!r}; did you mean {closest(one, names)!r}?")
        if isinstance(one, int) and not 0 <= one < len(names):
            raise ValueError(
                f"load({path!r}): task {one} is out of range; the tasks are 0 to {len(names) - 1}: {', '.join(names)}"
            )
    return [names.index(one) if isinstance(one, str) else one for one in given]
