"""The policy object of multi-task SAC: a task-indexed actor, a task-indexed critic ensemble and its target."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.torch_layers import FlattenExtractor, get_actor_critic_arch
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import ConstantSchedule, get_device
from torch import nn

from qmp_sb3.distributions import sample_actions, split_parameters, squashed_sample_log_prob
from qmp_sb3.encoding import encode_observations
from qmp_sb3.files.trees import is_pickle, read_tree, refuse_pickle, write_tree
from qmp_sb3.layout import TaskLayout
from qmp_sb3.networks import TaskModule
from qmp_sb3.networks.choice import network_choice, parts_in_common
from qmp_sb3.networks.common import PartsInCommon
from qmp_sb3.networks.flat_parameters import FlatParameters, make_optimizer
from qmp_sb3.networks.independent import IndependentMLP

DEFAULT_NET_ARCH = (256, 256)
SelfSavedPolicy = TypeVar("SelfSavedPolicy", bound="_SavedPolicy")
_READY = (np.dtype(np.float32), th.float32)  # rows of these types are inputs as they are


class _SavedPolicy(BasePolicy):
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


class _TaskPolicy(_SavedPolicy):
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
        sizes = n_in, n_out, self.n_tasks, get_flattened_obs_dim(self.observation_space)
        self.network = network_choice(family).network(self.role, *sizes, copies=copies, **network_kwargs)
        self.flat = FlatParameters(self.network, copies)

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

    def _apply(self, fn: Callable, recurse: bool = True) -> _TaskPolicy:
        super()._apply(fn, recurse)
        self.flat.gather()
        return self


class MultiTaskActor(_TaskPolicy):
    """The squashed-Gaussian policies of all tasks.

    :param observation_space: observation space of one environment
    :param action_space: action space of one environment
    :param n_tasks: number of tasks
    :param family: the network family, a name in :data:`qmp_sb3.networks.NETWORKS` with or without settings
    :param network_kwargs: what the family takes besides its sizes and settings
    """

    role = "actor"

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        n_tasks: int,
        family: str,
        network_kwargs: dict[str, Any],
    ) -> None:
        super().__init__(observation_space, action_space, n_tasks, squash_output=True)
        n_in, n_out = get_flattened_obs_dim(observation_space), 2 * get_action_dim(action_space)
        self._build(family, n_in, n_out, network_kwargs)

    def forward(self, features: th.Tensor, tasks: th.Tensor | None = None) -> tuple[th.Tensor, th.Tensor]:
        """Features ``(tasks, batch, features)`` to mean and log-std before squashing, ``(tasks, batch, act)``."""
        return split_parameters(self.network(features, tasks)[0])

    def every(self, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Features ``(rows, features)`` to every task's mean and log-std before squashing, ``(tasks, rows, act)``."""
        return split_parameters(self.network.every(features)[0])

    def action_log_prob(self, features: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """A reparameterised action ``(tasks, batch, act)`` and its log-probability ``(tasks, batch)``."""
        return squashed_sample_log_prob(*self.forward(features), noise)

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
            return th.tanh(split_parameters(outputs)[0])
        shape = len(features), self.network.n_out // 2
        return sample_actions(outputs, th.randn(shape, device=features.device) if noise is None else noise)

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


class MultiTaskCritic(_TaskPolicy):
    """An ensemble of action-value functions for every task.

    :param n_critics: size of the ensemble
    :param n_tasks: number of tasks
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
    ) -> None:
        super().__init__(observation_space, action_space, n_tasks)
        self.n_critics = n_critics
        n_in = get_flattened_obs_dim(observation_space) + get_action_dim(action_space)
        self._build(family, n_in, 1, network_kwargs, copies=n_critics)

    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, critics: int | None = None) -> th.Tensor:
        """Features and actions side by side, ``(tasks, batch, features + act)``, to ``(critics, tasks, batch)``.

        :param tasks: the task of each block, None for all tasks in order
        :param critics: how many of the critics to evaluate, from the first; None for all
        """
        return self.network(inputs, tasks, critics).squeeze(-1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | dict(n_critics=self.n_critics)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        raise TypeError("a critic does not act: call predict() on the policy or the actor")


class ActingNetworks(NamedTuple):
    """What choosing an action asks, and where it is."""

    actor: TaskModule
    critic: TaskModule
    parameters: FlatParameters


class MultiTaskPolicy(_SavedPolicy):
    """Actor, critics and target critics of all tasks (``"MlpPolicy"``).

    :param observation_space: observation space of one environment
    :param action_space: action space of one environment
    :param lr_schedule: learning rate as a function of the remaining progress
    :param n_tasks: number of tasks
    :param networks: network family, with or without settings, or ``{"actor": family, "critic": family}``
    :param net_arch: hidden widths, or ``{"pi": [...], "qf": [...]}``
    :param activation_fn: the hidden units' activation
    :param n_critics: critics per task
    :param initialization: how weights start, or ``{"actor": name, "critic": name}``
        (:data:`qmp_sb3.networks.initialization.INITIALIZATIONS`)
    :param optimizer_class: optimizer of actor and critics
    :param optimizer_kwargs: its keyword arguments besides the learning rate
    :param generator: source of the initial weights
    """

    action_space: spaces.Box
    actor: MultiTaskActor
    critic: MultiTaskCritic
    critic_target: MultiTaskCritic
    #: what actor and critics share; the target critics have a copy of it
    common: PartsInCommon

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        n_tasks: int = 1,
        networks: str | dict[str, str] = "independent",
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        n_critics: int = 2,
        initialization: str | dict[str, str] = "linear",
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        generator: th.Generator | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=True,
        )
        self.n_tasks, self.networks, self.n_critics = n_tasks, networks, n_critics
        self.net_arch = list(DEFAULT_NET_ARCH) if net_arch is None else net_arch
        self.activation_fn, self.initialization = activation_fn, initialization
        hidden = dict(zip(("actor", "critic"), get_actor_critic_arch(self.net_arch), strict=True))
        families = networks if isinstance(networks, dict) else dict.fromkeys(("actor", "critic"), networks)
        how: dict[str, Any] = dict(activation_fn=activation_fn, generator=generator)
        common = parts_in_common(families, get_flattened_obs_dim(observation_space), n_tasks, **how)

        def arguments(role: str) -> dict[str, Any]:
            begin = initialization[role] if isinstance(initialization, dict) else initialization
            network_kwargs = dict(hidden=hidden[role], initialization=begin, common=common[families[role]], **how)
            return dict(
                observation_space=observation_space,
                action_space=action_space,
                n_tasks=n_tasks,
                family=families[role],
                network_kwargs=network_kwargs,
            )

        self.actor = MultiTaskActor(**arguments("actor"))
        self.critic = MultiTaskCritic(**arguments("critic"), n_critics=n_critics)
        parts = {f"{number}.{name}": one for number, of in enumerate(common.values()) for name, one in of.items()}
        common = deepcopy(common)
        self.critic_target = MultiTaskCritic(**arguments("critic"), n_critics=n_critics)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False)
        self.critic_target.set_training_mode(False)
        #: kept apart: to look up a module's module takes PyTorch as long as a small layer does
        self.acting = ActingNetworks(self.actor.network, self.critic.network, self.actor.flat)
        for module in (self.actor, self.critic):
            module.optimizer = make_optimizer(self.optimizer_class, module.flat, lr_schedule(1), self.optimizer_kwargs)
        self.common = PartsInCommon(parts, self.optimizer_class, lr_schedule(1), self.optimizer_kwargs)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return dict(
            observation_space=self.observation_space,
            action_space=self.action_space,
            lr_schedule=ConstantSchedule(0.0),
            n_tasks=self.n_tasks,
            networks=self.networks,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            n_critics=self.n_critics,
            initialization=self.initialization,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
        )

    def encode(self, observations: np.ndarray | th.Tensor) -> th.Tensor:
        """Observations ``(rows, *shape)`` to network inputs ``(rows, features)`` on the policy's device."""
        device = self.acting.parameters.flat.device
        if observations.ndim == 2 and observations.dtype in _READY and device.type == "cpu":
            return th.as_tensor(observations)
        return encode_observations(observations, self.observation_space).to(device)

    def use_library(self, wanted: bool, threads: int | None) -> None:
        """As :meth:`~qmp_sb3.networks.independent.IndependentMLP.use_library`, of every network."""
        for module in self.modules():
            if isinstance(module, IndependentMLP):
                module.use_library(wanted, threads)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        tasks: np.ndarray | None = None,
        generator: th.Generator | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions of the tasks' own policies, in the environment's units.

        :param observation: one observation or a batch of them
        :param state: handed back unchanged (the policies have no memory)
        :param episode_start: unused
        :param deterministic: the squashed mean instead of a sample
        :param tasks: task index of each row; may be left out if there is one task
        :param generator: source of the sample's noise
        """
        self.set_training_mode(False)
        self.actor.flat.gather_moved()
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError(
                "the observation is a tuple (observation, info): you are mixing Gym API with SB3 VecEnv API, "
                "write `obs, info = env.reset()`"
            )
        rows, vectorized = self.obs_to_tensor(observation)
        assert isinstance(rows, th.Tensor)
        tasks = self.actor.only_task(len(rows)) if tasks is None else tasks
        with th.no_grad():
            features = self.encode(rows)
            noise = None
            if not deterministic:
                shape = (len(rows), get_action_dim(self.action_space))
                noise = th.randn(shape, generator=generator).to(self.device)
            layout = TaskLayout.of(tasks, self.n_tasks)
            scaled = self.actor.act(features, layout, noise, deterministic)
        actions = self.unscale_action(scaled.cpu().numpy().reshape(-1, *self.action_space.shape))
        actions = np.clip(actions, self.action_space.low, self.action_space.high)
        return (actions if vectorized else actions.squeeze(axis=0)), state

    def load_from_vector(self, vector: np.ndarray) -> None:
        super().load_from_vector(vector)
        self.gather_moved()

    def gather_moved(self) -> None:
        """As :meth:`~qmp_sb3.networks.flat_parameters.FlatParameters.gather_moved`, of all networks."""
        for module in (self.actor, self.critic, self.critic_target):
            module.flat.gather_moved()

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self.actor._predict(observation, deterministic)

    def forward(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self._predict(observation, deterministic)

    def set_training_mode(self, mode: bool) -> None:
        for module in (self.actor, self.critic):
            if module.training != mode:  # visiting every layer takes longer than choosing an action
                module.set_training_mode(mode)
        self.training = mode


MlpPolicy = MultiTaskPolicy
