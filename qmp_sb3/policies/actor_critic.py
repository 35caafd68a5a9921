"""The actor and the critics of multi-task SAC: stacks of networks that a task's number chooses from."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import get_device

from qmp_sb3.common.encoding import encode_observations
from qmp_sb3.common.expressions import component
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.networks import NetworkSpec, TaskModule
from qmp_sb3.networks.choice import network_choice
from qmp_sb3.policies.action_heads import ActionHead, SquashedGaussian
from qmp_sb3.policies.value_heads import VALUE_HEADS, ValueHead
from qmp_sb3.serialization.tags import tagged
from qmp_sb3.serialization.trees import is_pickle, read_tree, refuse_pickle, write_tree

SelfSavedPolicy = TypeVar("SelfSavedPolicy", bound="SavedPolicy")


class SavedPolicy(BasePolicy):
    """A policy whose files execute no code (docs/files.md)."""

    def save(self, path: str | os.PathLike[str] | io.BufferedIOBase) -> None:
        """Write the weights and what the policy is made from.

        :param path: of the file, or a file that is open for writing
        """
        write_tree(path, {"state_dict": dict(self.state_dict()), "data": self._get_constructor_parameters()})

    @classmethod
    def load(
        cls: type[SelfSavedPolicy],
        path: str | os.PathLike[str] | io.BufferedIOBase,
        device: th.device | str = "auto",
        trust: bool = False,
    ) -> SelfSavedPolicy:
        """A new policy from a file.

        :param path: of the file, or a file that is open for reading
        :param device: where the policy is to be
        :param trust: load what is pickled, too, which runs code that the file brings along
        """
        if is_pickle(path):
            refuse_pickle(path, trust)
            return super().load(cast(Any, path), device)
        saved = read_tree(path, trust)
        policy = cls(**saved["data"])
        policy.load_state_dict(saved["state_dict"])
        return policy.to(get_device(device))


class TaskPolicy(SavedPolicy):
    """What actor and critic share: a stack of networks, its flat parameters and its optimizer."""

    role: ClassVar[str]
    network: TaskModule
    optimizer: th.optim.Optimizer

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        n_tasks: int,
        squash_output: bool = False,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            features_extractor=FlattenExtractor(observation_space),
            squash_output=squash_output,
        )
        self.n_tasks = n_tasks

    def _build(self, family: str, n_in: int, n_out: int, network_kwargs: dict[str, Any], copies: int = 1) -> None:
        self.family = family
        self.network_kwargs = {name: value for name, value in network_kwargs.items() if name != "common"}
        n_state = get_flattened_obs_dim(self.observation_space)
        spec = NetworkSpec(n_in, n_out, self.n_tasks, copies=copies, n_state=n_state, **self.network_kwargs)
        self.network = network_choice(family).network(self.role, spec, network_kwargs.get("common"))
        self.flat = self.network.flat_parameters()

    def _get_constructor_parameters(self) -> dict[str, Any]:
        settings = {key: value for key, value in self.network_kwargs.items() if key != "generator"}
        return dict(
            observation_space=self.observation_space,
            action_space=self.action_space,
            n_tasks=self.n_tasks,
            family=self.family,
            network_kwargs=settings,
        )

    def load_from_vector(self, vector: np.ndarray) -> None:
        super().load_from_vector(vector)
        self.flat.gather_moved()

    def _apply(self, fn: Callable, recurse: bool = True) -> TaskPolicy:
        super()._apply(fn, recurse)
        self.flat.gather()
        return self


@tagged("actor")
class MultiTaskActor(TaskPolicy):
    """The policies of all tasks: a network for each, and a head that makes actions of what it says.

    :param observation_space: observation space of one environment
    :param action_space: action space of one environment
    :param n_tasks: number of tasks
    :param family: the network family, a name in :data:`qmp_sb3.networks.NETWORKS` with or without settings
    :param network_kwargs: what the family takes besides its sizes and settings
    """

    role = "actor"
    head_class: ClassVar[type[ActionHead]] = SquashedGaussian

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        n_tasks: int,
        family: str,
        network_kwargs: dict[str, Any],
    ) -> None:
        super().__init__(observation_space, action_space, n_tasks, squash_output=True)
        self.head = self.head_class(get_action_dim(action_space))
        self._build(family, get_flattened_obs_dim(observation_space), self.head.n_outputs, network_kwargs)

    def forward(self, features: th.Tensor, tasks: th.Tensor | None = None) -> tuple[th.Tensor, ...]:
        """Features ``(tasks, batch, features)`` to mean and log-std before squashing, ``(tasks, batch, act)`` each.

        :param tasks: the task of each block, None for all tasks in order
        """
        return self.head.parameters(self.outputs(features, tasks))

    def outputs(self, features: th.Tensor, tasks: th.Tensor | None = None) -> th.Tensor:
        """What the head reads of features ``(tasks, batch, features)``, ``(tasks, batch, n_outputs)``."""
        return self.network(features, tasks)[0]

    def every(self, features: th.Tensor) -> th.Tensor:
        """What the head reads of every policy, ``(tasks, rows, n_outputs)``, for features ``(rows, features)``."""
        return self.network.every(features)[0]

    def action_log_prob(
        self, features: th.Tensor, noise: th.Tensor, tasks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """A reparameterized action ``(tasks, batch, act)`` and its log-probability ``(tasks, batch)``."""
        return self.head.sample_log_prob(self.outputs(features, tasks), noise)

    def act(
        self,
        features: th.Tensor,
        layout: TaskLayout,
        noise: th.Tensor | None = None,
        deterministic: bool = False,
    ) -> th.Tensor:
        """Actions in [-1, 1], ``(rows, act)``, of each row's own task for features ``(rows, features)``."""
        outputs = self.network.by_row(features, layout)[0]
        if deterministic:
            return self.head.mean_actions(outputs)
        shape = len(features), self.head.n_actions
        return self.head.sample(outputs, th.randn(shape, device=features.device) if noise is None else noise)

    def only_task(self, rows: int) -> np.ndarray:
        """Task 0 for each row, ``(rows,)``.

        :raises ValueError: if there are several tasks
        """
        if self.n_tasks > 1:
            raise ValueError(f"there are policies of {self.n_tasks} tasks: say whose to ask, tasks=...")
        return np.zeros(rows, dtype=np.int64)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        assert isinstance(observation, th.Tensor)
        layout = TaskLayout(self.only_task(len(observation)), self.n_tasks)
        features = encode_observations(observation, self.observation_space)
        return self.act(features, layout, deterministic=deterministic)


@tagged("critic")
class MultiTaskCritic(TaskPolicy):
    """An ensemble of action-value functions for every task.

    :param n_critics: size of the ensemble
    :param value_head: what a critic says, a word of :data:`~qmp_sb3.policies.value_heads.VALUE_HEADS`
    """

    role = "critic"

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        n_tasks: int,
        family: str,
        network_kwargs: dict[str, Any],
        n_critics: int = 2,
        value_head: str = "scalar",
    ) -> None:
        super().__init__(observation_space, action_space, n_tasks)
        self.n_critics = n_critics
        self.head: ValueHead = component("value_head", value_head, VALUE_HEADS)
        n_in = get_flattened_obs_dim(observation_space) + get_action_dim(action_space)
        self._build(family, n_in, self.head.n_outputs, network_kwargs, copies=n_critics)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, critics: int | None = None) -> th.Tensor:
        """:meth:`values`"""
        return self.values(inputs, tasks, critics)

    def values(self, inputs: th.Tensor, tasks: th.Tensor | None = None, critics: int | None = None) -> th.Tensor:
        """Expected returns ``(critics, tasks, batch)`` of features and actions side by side.

        :param inputs: ``(tasks, batch, features + act)``
        :param tasks: the task of each block, None for all tasks in order
        :param critics: how many of the critics to evaluate, from the first; None for all
        """
        return self.head.values(self.network(inputs, tasks, critics))

    def outputs(self, inputs: th.Tensor) -> th.Tensor:
        """What the head reads, ``(critics, tasks, batch, n_outputs)``, of inputs as for :meth:`values`."""
        return self.network(inputs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | dict(n_critics=self.n_critics, value_head=repr(self.head))

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        raise TypeError("a critic does not act: call predict() on the policy or the actor")
