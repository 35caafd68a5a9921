"""What every multi-task algorithm has in common: the parts that it is made of, set-up, prediction, files."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Iterable, Sequence
from copy import deepcopy
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, TensorDict
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info
from stable_baselines3.common.vec_env import VecEnv

from qmp_sb3.algorithms import checks, file_checks
from qmp_sb3.algorithms.native_update import NativeUpdate
from qmp_sb3.algorithms.updating import UpdatingAlgorithm
from qmp_sb3.behaviors import Behavior, parse_behavior
from qmp_sb3.common import validation
from qmp_sb3.common.expressions import component
from qmp_sb3.common.random_streams import RandomStreams
from qmp_sb3.hooks import HOOKS, Hook
from qmp_sb3.objectives import GRADIENTS, TASK_WEIGHTS
from qmp_sb3.objectives.regularizers import REGULARIZERS, Regularizer
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import ALLOCATIONS, DRAWS, Allocation, Draw, MultiTaskReplayBuffer
from qmp_sb3.replay.sharing import SHARING, KeepOwn
from qmp_sb3.serialization import DamagedFile
from qmp_sb3.serialization.models import ModelPath, SavedModel, read_model, write_model
from qmp_sb3.serialization.trees import name_of
from qmp_sb3.vec_env import as_task_env
from qmp_sb3.vec_env.task_slots import TaskSlots

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="MultiTaskOffPolicyAlgorithm")


class MultiTaskOffPolicyAlgorithm(UpdatingAlgorithm):
    """An SB3 off-policy algorithm for N tasks, which parts make: networks, behavior, replay, draw, sharing, objective
    and hooks (:class:`~qmp_sb3.algorithms.sac.MultiTaskSAC` explains them).

    A learner derives from it and says how to learn: ``update``, and ``_setup_learner`` for what it has besides actor
    and critics.

    :param policy: ``"MlpPolicy"``
    :param env: anything that :func:`qmp_sb3.vec_env.as_task_env` or SB3 makes a VecEnv of
    :param kwargs: SB3's own arguments; the others are those of the learners
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MultiTaskPolicy}
    default_behavior: ClassVar[str] = "self"

    def __init__(
        self,
        policy: str | type[MultiTaskPolicy],
        env: GymEnv | str | None,
        *,
        networks: str | dict[str, str],
        behavior: str | Behavior | None,
        replay: str | Allocation,
        draw: str | Draw,
        sharing: str | KeepOwn,
        task_weights: str,
        gradients: str,
        regularizer: str | Regularizer | None,
        hooks: str | Hook | Sequence[str | Hook],
        warmup_actions: str,
        num_threads: int | None,
        matmul_precision: str | None,
        backend: str,
        reward_scale: float,
        max_grad_norm: float | None,
        target_update_interval: int,
        use_sde: bool = False,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        **kwargs: Any,
    ) -> None:
        checks.refuse_unsupported(policy, use_sde, replay_buffer_class)
        if policy == "MlpPolicy":
            checks.refuse_policy_arguments(kwargs.get("policy_kwargs"))
        checks.refuse_replay_arguments(kwargs.get("replay_buffer_kwargs"))
        for name in ("tau", "gamma"):
            validation.share(name, kwargs[name])
        for name, least in (("batch_size", 1), ("gradient_steps", -1)):
            validation.at_least(name, kwargs[name], least)
        # A behavior remembers and counts, so every model has its own.
        self.behavior = deepcopy(parse_behavior(self.default_behavior if behavior is None else behavior))
        self.warmup_actions = validation.one_of("warmup_actions", warmup_actions, ("random", "policy"))
        self.num_threads, self.task_names = num_threads, ()
        super().__init__(
            policy,
            as_task_env(env),
            replay_buffer_class=replay_buffer_class,
            sde_support=False,
            support_multi_env=True,
            supported_action_spaces=(spaces.Box,),
            **kwargs,
        )
        self.max_grad_norm = validation.positive_or_none("max_grad_norm", max_grad_norm)
        self.reward_scale = validation.positive("reward_scale", reward_scale)
        self.target_update_interval = validation.at_least("target_update_interval", target_update_interval, 1)
        self.matmul_precision = validation.precision(matmul_precision)
        self.networks = checks.networks(networks)
        self.task_weights = validation.one_of("task_weights", task_weights, TASK_WEIGHTS)
        self._set_parts(replay, draw, sharing, regularizer, hooks)
        self.gradients = validation.one_of("gradients", gradients, GRADIENTS)
        self.backend = validation.one_of("backend", backend, ("auto", "native", "torch"))

    # ---- set-up ----

    def _set_parts(self, replay: Any, draw: Any, sharing: Any, regularizer: Any, hooks: Any) -> None:
        self.replay: Allocation = component("replay", replay, ALLOCATIONS)
        self.draw: Draw = component("draw", draw, DRAWS)
        self.sharing: KeepOwn = component("sharing", sharing, SHARING)
        self.regularizer: Regularizer | None = component("regularizer", regularizer, REGULARIZERS)
        one = isinstance(hooks, (str, Hook))
        self.hooks: list[Hook] = [component("hooks", hook, HOOKS) for hook in ([hooks] if one else hooks)]
        checks.fitting_draw(self.replay, self.draw, self.sharing, self.task_weights)

    def _setup_model(self) -> None:
        # load(sharing=...) puts an expression in a part's place
        self._set_parts(self.replay, self.draw, self.sharing, self.regularizer, self.hooks)
        self._setup_process()
        self._setup_lr_schedule()
        self._setup_streams()
        self._setup_tasks()
        self._setup_replay_buffer()
        policy: BasePolicy = self.policy_class(
            self.observation_space,
            self.action_space,
            self.lr_schedule,
            n_tasks=self.n_tasks,
            networks=self.networks,
            generator=self.streams.initial_weights,
            **self.policy_kwargs,
        )
        assert isinstance(policy, MultiTaskPolicy)
        self.policy = policy.to(self.device)
        self.policy.use_library(self.backend != "torch", self.num_threads)
        self.actor, self.critic = self.policy.actor, self.policy.critic
        self.critic_target = self.policy.critic_target
        checks.refuse_pointless_behavior(self.behavior, self.actor.network)
        self._setup_learner()
        self._convert_train_freq()
        if self.regularizer is not None:
            self.regularizer.bind(self.n_tasks)
        for hook in self.hooks:
            hook.bind(self)
        self.behavior.attach(self)
        self._native = NativeUpdate()
        checks.backend_available(self.backend, self.backend_note)

    def _setup_learner(self) -> None:
        """What the learner has besides actor and critics."""

    def _setup_process(self) -> None:
        """Threads, denormals and products: all decide the speed of small networks on a CPU (docs/compatibility.md)."""
        if self.num_threads is not None:
            th.set_num_threads(self.num_threads)
        if self.matmul_precision is not None:
            th.set_float32_matmul_precision(self.matmul_precision)
        th.set_flush_denormal(True)

    def _setup_streams(self) -> None:
        """Seed everything, except that a loaded model's generators go on where they stopped."""
        loaded = self.__dict__.get("streams")
        self.set_random_seed(self.seed)
        if loaded is not None and loaded.seed == self.seed:
            self._use_streams(loaded)

    def set_random_seed(self, seed: int | None = None) -> None:
        super().set_random_seed(seed)
        self._use_streams(RandomStreams(seed))

    def _use_streams(self, streams: RandomStreams) -> None:
        self.streams = streams
        if self.replay_buffer is not None:
            self.replay_buffer.rng = streams.replay

    def _checked_slots(self, env: VecEnv) -> TaskSlots:
        slots = super()._checked_slots(env)
        self.replay.bind(self.batch_size, len(slots.names))
        self.sharing.bind(slots.task_set, self.n_steps)
        if self.sharing.columns():
            slots.batched()  # refuses environments that do not keep them
        return slots

    def _setup_replay_buffer(self) -> None:
        self.replay_buffer_class = self.replay_buffer_class or MultiTaskReplayBuffer
        if self.replay_buffer is None:
            settings: dict[str, Any] = dict(
                device=self.device,
                n_envs=self.n_envs,
                optimize_memory_usage=self.optimize_memory_usage,
                n_tasks=self.n_tasks,
                n_steps=self.n_steps,
                gamma=self.gamma,
                columns=self._columns(),
                replay=self.replay,
                draw=self.draw,
            )
            spaces_and_size = self.buffer_size, self.observation_space, self.action_space
            self.replay_buffer = self.replay_buffer_class(*spaces_and_size, **(settings | self.replay_buffer_kwargs))
            if self.verbose >= 1:
                print(f"Using {self.replay_buffer}")
        self._use_replay_buffer(self.replay_buffer)

    def _columns(self) -> dict[str, tuple[int, ...]]:
        """What the replay buffer is to keep besides of each transition."""
        return dict(self.behavior.columns()) | dict(self.sharing.columns())

    def _use_replay_buffer(self, replay_buffer: MultiTaskReplayBuffer) -> None:
        checks.same_buffer(replay_buffer, self.n_tasks, self.observation_space, self.action_space)
        checks.same_sums(replay_buffer, self.buffer_size, self.n_steps, self.gamma)
        checks.same_columns(replay_buffer, self._columns())
        self.replay_buffer = replay_buffer
        replay_buffer.to(self.device)
        replay_buffer.rng, replay_buffer.gamma = self.streams.replay, self.gamma
        if self.env is not None:
            replay_buffer.set_slot_tasks(self._layout.tasks)
        replay_buffer.replay = self.replay
        replay_buffer.draw_by(self.draw)
        replay_buffer.rows_count_alike = self.task_weights == "mean"

    def learn(
        self: SelfAlgorithm,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAlgorithm:
        """As SB3's; ``total_timesteps`` counts the environment steps of all tasks together."""
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    # ---- predicting ----

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        task: int | str | np.ndarray | list | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """The action of a task's own policy.

        :param observation: one observation, or a batch
        :param state: handed back unchanged
        :param episode_start: unused
        :param deterministic: the mean action instead of a sample
        :param task: index or name, or one for each row; may be left out for one task, or for one row per slot
            of the model's environment
        :raises ValueError: if it is not clear whose policy to ask
        """
        shape = observation.shape if isinstance(observation, np.ndarray) else ()
        rows = shape[0] if len(shape) > len(self.observation_space.shape or ()) else 1
        slots = None if self.env is None else self._slots.fixed
        tasks = checks.resolve_tasks(task, rows, self.task_names, slots)
        return self.policy.predict(
            observation, state, episode_start, deterministic, tasks=tasks, generator=self.streams.predict
        )

    # ---- files ----

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """As SB3's, with its layout, but JSON and safetensors, which execute no code (docs/files.md).

        :param path: ``.zip`` is added to a name without suffix
        :param exclude: attributes that are left out besides those that always are
        :param include: attributes that are not left out though they would be, such as ``replay_buffer``
        :raises TypeError: if a part of the model has no tag, see :func:`qmp_sb3.serialization.register`
        """
        states, variables = self._get_torch_save_params()
        apart = {name.split(".")[0] for name in [*states, *variables]}
        left_out = ({*(exclude or ()), *self._excluded_save_params()} - set(include or ())) | apart
        data = {name: value for name, value in self.__dict__.items() if name not in left_out}
        tensors = {name: attrgetter(name)(self) for name in variables}
        write_model(path, SavedModel(data, self.get_parameters(), tensors))

    @classmethod
    def load(
        cls: type[SelfAlgorithm],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfAlgorithm:
        """A new model from a file; as SB3's but for ``trust``.

        :param env: to go on learning in; without one the model only predicts
        :param trust: load what is pickled, too: that runs code that the file brings along
        :param kwargs: attributes that are different from now on
        :raises DamagedFile: if the file is not whole, or no model
        :raises UntrustedFile: without ``trust``, if something is pickled, naming it and its type
        """
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
        saved = read_model(path, trust, custom_objects, print_system_info=print_system_info)
        data = file_checks.attributes(cls, saved, path, trust)
        file_checks.refuse_other_policy(kwargs, data)
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
            model._take_parameters(saved, True, path)
            file_checks.put_tensors(model, saved, model._get_torch_save_params()[1], path)
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
        """As SB3's; ``device`` is unused, parameters go where the model is, and ``trust`` is as for :meth:`load`."""
        if isinstance(load_path_or_dict, dict):
            super().set_parameters(load_path_or_dict, exact_match, device)
        else:
            saved = read_model(load_path_or_dict, trust, load_data=False)
            self._take_parameters(saved, exact_match, load_path_or_dict)

    def _take_parameters(self, saved: SavedModel, exact_match: bool, path: ModelPath) -> None:
        file_checks.refuse_other_parameters(self, saved, self._get_torch_save_params()[0], path)
        super().set_parameters(cast(Any, dict(saved.parameters)), exact_match)

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """Write the transitions to a safetensors file, in one step where it is given by its path.

        :param path: any name, as SB3's callbacks give one that ends in ``.pkl``; ``.safetensors`` is added to one
            without suffix
        """
        file_checks.write_replay(path, self.replay_buffer)

    def load_replay_buffer(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        truncate_last_traj: bool = True,
        trust: bool = False,
    ) -> None:
        """The transitions of a file take the place of the model's.

        :param path: with or without ``.safetensors`` or ``.pkl``
        :param truncate_last_traj: unused; SB3 has it for HER
        :param trust: as for :meth:`load`; pickles of SB3 need it
        :raises ValueError: if the file is not whole, or for other tasks or spaces; the model then keeps its own
        """
        self._use_replay_buffer(file_checks.read_replay(path, trust))

    def _excluded_save_params(self) -> list[str]:
        made_again = ["actor", "critic", "critic_target", "lr_schedule", "resumes_episodes"]
        return [*super()._excluded_save_params(), *made_again, "_slots", "_layout", "_native"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "actor.optimizer", "critic.optimizer", *["policy.common"] * bool(self.policy.common)], []
