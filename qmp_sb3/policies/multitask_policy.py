"""The policy object of multi-task SAC: a task-indexed actor, a task-indexed critic ensemble and its target."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim
from stable_baselines3.common.torch_layers import get_actor_critic_arch
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import ConstantSchedule
from torch import nn

from qmp_sb3.common.encoding import encode_observations
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.networks import TaskModule
from qmp_sb3.networks.choice import common_modules_of
from qmp_sb3.networks.common_modules import CommonModules
from qmp_sb3.networks.flat_parameters import FlatParameters, make_optimizer
from qmp_sb3.networks.independent import IndependentMLP
from qmp_sb3.policies.action_heads import ActionHead
from qmp_sb3.policies.actor_critic import MultiTaskActor, MultiTaskCritic, SavedPolicy
from qmp_sb3.policies.value_heads import ValueHead
from qmp_sb3.serialization.tags import tagged

DEFAULT_NET_ARCH = (256, 256)
_READY = (np.dtype(np.float32), th.float32)  # rows of these types are inputs as they are


class ActingNetworks(NamedTuple):
    """What choosing an action asks, and where it is."""

    actor: TaskModule
    critic: TaskModule
    action_head: ActionHead
    value_head: ValueHead
    parameters: FlatParameters


@tagged("policy")
class MultiTaskPolicy(SavedPolicy):
    """Actor, critics and target critics of all tasks (``"MlpPolicy"``).

    :param observation_space: observation space of one environment
    :param action_space: action space of one environment
    :param lr_schedule: learning rate as a function of the remaining progress
    :param n_tasks: number of tasks
    :param networks: network family, with or without settings, or ``{"actor": family, "critic": family}``
    :param net_arch: hidden widths, or ``{"pi": [...], "qf": [...]}``
    :param activation_fn: the hidden units' activation
    :param n_critics: critics per task
    :param value_head: what a critic says, a word of :data:`~qmp_sb3.policies.value_heads.VALUE_HEADS`
    :param initialization: how weights start, or ``{"actor": name, "critic": name}``
        (:data:`qmp_sb3.networks.initialization.INITIALIZATIONS`)
    :param optimizer_class: optimizer of actor and critics
    :param optimizer_kwargs: its keyword arguments besides the learning rate
    :param generator: source of the initial weights
    """

    actor_class: ClassVar[type[MultiTaskActor]] = MultiTaskActor
    critic_class: ClassVar[type[MultiTaskCritic]] = MultiTaskCritic
    action_space: spaces.Box
    actor: MultiTaskActor
    critic: MultiTaskCritic
    critic_target: MultiTaskCritic
    #: what actor and critics share; the target critics have a copy of it
    common: CommonModules

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
        value_head: str = "scalar",
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
        if any(not isinstance(width, int | np.integer) or width < 1 for widths in hidden.values() for width in widths):
            raise ValueError(f"net_arch is {net_arch}; every width must be a whole number of at least 1")
        families = networks if isinstance(networks, dict) else dict.fromkeys(("actor", "critic"), networks)
        how: dict[str, Any] = dict(activation_fn=activation_fn, generator=generator)
        common = common_modules_of(families, get_flattened_obs_dim(observation_space), n_tasks, **how)

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

        self.actor = self.actor_class(**arguments("actor"))
        of_critic: dict[str, Any] = dict(n_critics=n_critics, value_head=value_head)
        self.critic = self.critic_class(**arguments("critic"), **of_critic)
        parts = {f"{number}.{name}": one for number, of in enumerate(common.values()) for name, one in of.items()}
        common = deepcopy(common)
        self.critic_target = self.critic_class(**arguments("critic"), **of_critic)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False)
        self.critic_target.set_training_mode(False)
        #: kept apart: to look up a module's module takes PyTorch as long as a small layer does
        self.acting = ActingNetworks(
            self.actor.network, self.critic.network, self.actor.head, self.critic.head, self.actor.flat
        )
        for module in (self.actor, self.critic):
            module.optimizer = make_optimizer(self.optimizer_class, module.flat, lr_schedule(1), self.optimizer_kwargs)
        self.common = CommonModules(parts, self.optimizer_class, lr_schedule(1), self.optimizer_kwargs)

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
            value_head=repr(self.critic.head),
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
