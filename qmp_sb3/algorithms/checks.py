"""Refusals: one clear error for what multi-task SAC does not support or cannot make sense of."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from qmp_envs.suggestions import did_you_mean
from qmp_sb3.behaviors import Behavior, Table
from qmp_sb3.common.validation import each_of
from qmp_sb3.networks import NETWORKS, TaskModule
from qmp_sb3.networks.choice import without_files
from qmp_sb3.networks.initialization import INITIALIZATIONS
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import Allocation, Draw, MultiTaskReplayBuffer
from qmp_sb3.replay.sharing import KeepOwn

_SUPPLIED_TO_REPLAY = (
    *("buffer_size", "observation_space", "action_space", "device", "n_envs", "optimize_memory_usage"),
    *("n_tasks", "n_steps", "gamma", "rng", "replay", "draw", "columns"),
)
_SUPPLIED = ("observation_space", "action_space", "lr_schedule", "n_tasks", "networks", "generator")


def networks(value: str | dict[str, str]) -> str | dict[str, str]:
    """``value``, the networks of a model, if its words and settings are known; what files hold is written out.

    :raises ValueError: naming the closest family, or the setting that means nothing
    """
    expressions = dict(value) if isinstance(value, dict) else {"both": value}
    words = {role: expression.partition("(")[0].strip() for role, expression in expressions.items()}
    each_of("networks", words if isinstance(value, dict) else words["both"], NETWORKS)
    written = {role: without_files(expression) for role, expression in expressions.items()}
    return written if isinstance(value, dict) else written["both"]


def refuse_unsupported(policy: Any, use_sde: bool, replay_buffer_class: type[ReplayBuffer] | None) -> None:
    """Raise for SB3's options that are listed as unsupported in docs/compatibility.md."""
    if policy in ("CnnPolicy", "MultiInputPolicy"):
        raise ValueError(
            f"{policy} is not supported (image and dict observations); use MlpPolicy, or flatten the observation"
        )
    if use_sde:
        raise ValueError(
            "use_sde=True (gSDE) is not supported; exploration comes from the policies' own noise and the behavior"
        )
    if replay_buffer_class is not None and not issubclass(replay_buffer_class, MultiTaskReplayBuffer):
        raise ValueError(
            f"replay_buffer_class={replay_buffer_class.__name__} knows no tasks; derive it from MultiTaskReplayBuffer"
        )


def policy_arguments() -> list[str]:
    """What ``policy_kwargs`` may hold: the policy's arguments without those that the model supplies."""
    return [name for name in inspect.signature(MultiTaskPolicy).parameters if name not in _SUPPLIED]


def replay_buffer_arguments() -> list[str]:
    """What ``replay_buffer_kwargs`` may hold: the buffer's arguments without those that the model supplies."""
    return [name for name in inspect.signature(MultiTaskReplayBuffer).parameters if name not in _SUPPLIED_TO_REPLAY]


def refuse_policy_arguments(policy_kwargs: dict[str, Any] | None) -> None:
    """Raise for arguments that the policy does not have, or whose names it does not know."""
    known = policy_arguments()
    for name in policy_kwargs or {}:
        if name in ("features_extractor_class", "features_extractor_kwargs", "share_features_extractor"):
            raise ValueError(f"policy_kwargs[{name!r}] is not supported: the networks read the flat observation itself")
        if name not in known:
            raise ValueError(f"policy_kwargs has an unknown argument {name!r}; {did_you_mean(name, known)}")
    initialization = (policy_kwargs or {}).get("initialization", "linear")
    each_of("initialization", initialization, INITIALIZATIONS)


def refuse_replay_arguments(replay_buffer_kwargs: dict[str, Any] | None) -> None:
    """Raise for arguments of the replay buffer that the model supplies itself."""
    of_model = {"n_tasks": "env"}
    for name in replay_buffer_kwargs or {}:
        if name in _SUPPLIED_TO_REPLAY:
            own = of_model.get(name, name)
            raise ValueError(f"replay_buffer_kwargs[{name!r}] is what the model's own argument {own!r} says; use that")


def refuse_reward_normalization(normalize: VecNormalize | None, task_names: tuple[str, ...]) -> None:
    """One running scale for the rewards of different tasks would change the tasks."""
    if normalize is not None and normalize.norm_reward and len(task_names) > 1:
        raise ValueError(
            f"VecNormalize(norm_reward=True) would scale the rewards of {len(task_names)} different tasks by one "
            "running statistic; use VecNormalize(env, norm_reward=False)"
        )


def same_tasks(expected: tuple[str, ...], given: tuple[str, ...]) -> None:
    """A model keeps its tasks."""
    if expected and len(expected) > 1 and tuple(expected) != tuple(given):
        raise ValueError(
            f"the model was made for the tasks {', '.join(expected)}, but the environment has {', '.join(given)}"
        )
    if expected and len(expected) != len(given):
        raise ValueError(f"the model was made for {len(expected)} task(s), but the environment has {len(given)}")


def refuse_dict_observations(space: spaces.Space) -> None:
    """Raise for observation spaces that are not one flat array."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        raise ValueError(f"{type(space).__name__} observations are not supported; flatten the observation")


def refuse_pointless_behavior(behavior: Behavior, actor: TaskModule) -> None:
    """Where all tasks have the same policy, no other task's policy can act."""
    own_only = isinstance(behavior, Table) and behavior.probabilities == "self"
    if not actor.knows_tasks and actor.n_tasks > 1 and not own_only and not behavior.fixed_policies():
        raise ValueError(
            f"behavior={behavior!r} chooses among the tasks' policies, but with networks='shared' all tasks have the "
            "same one; use networks='multihead' or 'onehot', or behavior='self'"
        )


def same_buffer(buffer: Any, n_tasks: int, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """A saved replay buffer goes into a model of the same tasks and spaces."""
    if not isinstance(buffer, MultiTaskReplayBuffer):
        raise ValueError(f"the file holds a {type(buffer).__name__}, not a MultiTaskReplayBuffer")
    if buffer.n_tasks != n_tasks:
        raise ValueError(f"the saved replay buffer has {buffer.n_tasks} task(s), the model {n_tasks}")
    for name, saved, own in (
        ("observation space", buffer.observation_space, observation_space),
        ("action space", buffer.action_space, action_space),
    ):
        if saved != own:
            raise ValueError(f"the saved replay buffer has the {name} {saved}, the model {own}")


def same_sums(buffer: MultiTaskReplayBuffer, buffer_size: int, n_steps: int, gamma: float) -> None:
    """A saved replay buffer has the size of the model's, and its rewards are summed in the same way."""
    if buffer.buffer_size != buffer_size:
        raise ValueError(
            f"the saved replay buffer keeps {buffer.buffer_size:,} transitions per task, the model buffer_size="
            f"{buffer_size:,}; load the model with buffer_size={buffer.buffer_size}"
        )
    if buffer.n_steps != n_steps:
        raise ValueError(
            f"the saved replay buffer sums n_steps={buffer.n_steps} rewards, the model {n_steps}; load the model with "
            f"n_steps={buffer.n_steps}"
        )
    if n_steps > 1 and buffer.gamma != gamma:
        raise ValueError(
            f"the saved replay buffer sums its rewards with gamma={buffer.gamma}, the model has {gamma}; load the "
            f"model with gamma={buffer.gamma}"
        )


def same_columns(buffer: MultiTaskReplayBuffer, columns: Mapping[str, tuple[int, ...]]) -> None:
    """A replay buffer keeps what the model's parts need of each transition."""
    missing = [name for name in columns if name not in buffer.columns]
    if missing:
        raise ValueError(f"the replay buffer lacks the columns {', '.join(missing)}, which the model needs")


def fitting_draw(replay: Allocation, draw: Draw, sharing: KeepOwn, task_weights: str) -> None:
    """What divides by priorities needs some, and what compares with a batch needs one that stands for all data."""
    if replay.weighs_tasks and task_weights != "mean":
        raise ValueError(
            f"replay={replay!r} weighs the tasks of a batch against each other, where every row counts alike; with "
            f"task_weights={task_weights!r} a task counts by itself: use task_weights='mean' or importance='task'"
        )
    if replay.needs_priorities and not draw.prioritized:
        raise ValueError(f"replay={replay!r} divides by priorities, which draw={draw!r} does not keep; use draw='per'")
    if draw.prioritized and sharing.takes_others:
        raise ValueError(
            f"sharing={sharing!r} compares other tasks' transitions with a batch that stands for all of a task's own, "
            f"and gives them rewards that their priorities know nothing of; use draw='uniform', not {draw!r}"
        )


def resolve_tasks(task: Any, rows: int, names: tuple[str, ...], slots: np.ndarray | None) -> np.ndarray:
    """The task index of each row that is to be predicted.

    :param task: index, name, one of them per row, or None
    :param rows: number of observations
    :param names: names of the tasks
    :param slots: tasks of the model's environment slots, if they are fixed
    """
    if task is None:
        if len(names) == 1:
            return np.zeros(rows, dtype=np.int64)
        if slots is not None and rows == len(slots):
            return slots
        raise ValueError(
            f"{rows} observation(s) for {len(names)} tasks: say whose policy to ask, predict(obs, task=...) "
            f"with an index or one of {', '.join(names)}"
        )
    given = list(task) if np.ndim(task) else [task] * rows
    if len(given) != rows:
        raise ValueError(
            f"task has {len(given)} entries, but there are {rows} observations; give one task or one per row"
        )
    return np.array([_task_index(one, names) for one in given], dtype=np.int64)


def _task_index(task: Any, names: tuple[str, ...]) -> int:
    if isinstance(task, str):
        if task not in names:
            raise ValueError(f"unknown task {task!r}; {did_you_mean(task, names)}")
        return names.index(task)
    try:
        index = operator.index(task)
    except TypeError as error:
        raise TypeError(f"task is {task!r}; it must be an index or a name") from error
    if isinstance(task, (bool, np.bool_)) or not 0 <= index < len(names):
        raise ValueError(f"task {task} is out of range; the tasks are 0 to {len(names) - 1}: {', '.join(names)}")
    return index


def backend_available(backend: str, note: str | None) -> None:
    """Raise where the native backend was asked for and cannot be had, with the reason in ``note``."""
    if backend == "native" and note is not None:
        raise ValueError(f"backend='native' cannot compute this model's updates: {note}; use backend='auto'")
