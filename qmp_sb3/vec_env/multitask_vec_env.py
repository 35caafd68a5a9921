"""Stable-Baselines3's VecEnv with a task for every slot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

import qmp_envs
from qmp_envs import BatchedTaskSetEnv
from qmp_sb3.vec_env.slot_infos import SlotInfos, by_slot


class MultiTaskVecEnv(VecEnv):
    """Any Gymnasium vector environment whose slots run known tasks, as SB3 sees it.

    Episodes are reported as by SB3's ``Monitor`` (``info["episode"]``), with ``terminal_observation`` and
    ``TimeLimit.truncated`` where they end.

    :param envs: a vector environment with autoreset mode SAME_STEP
    :param task_ids: task of each slot, ``(slots,)``; by default the environment's own ``task_ids``, else slot i has
        task i
    :param task_names: names of the tasks; by default the environment's own ``task_names``, else numbers
    """

    def __init__(
        self,
        envs: VectorEnv,
        task_ids: Sequence[int] | np.ndarray | None = None,
        task_names: Sequence[str] | None = None,
    ) -> None:
        mode = envs.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"the vector environment resets in mode {mode}; SB3 needs AutoresetMode.SAME_STEP, "
                "e.g. gym.make_vec(id, vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP})"
            )
        self.envs = envs
        if task_ids is None:
            task_ids = getattr(envs, "task_ids", np.arange(envs.num_envs))
        own_names = getattr(envs, "task_names", None)
        task_ids = np.asarray(task_ids, dtype=np.int64)
        if task_ids.shape != (envs.num_envs,) or task_ids.min() < 0:
            raise ValueError(f"task_ids is {task_ids.tolist()}; each of the {envs.num_envs} slots needs one, from 0")
        if task_names is None:
            task_names = own_names or [f"task-{task}" for task in range(task_ids.max() + 1)]
        if task_ids.max() >= len(task_names):
            raise ValueError(f"task_ids has task {task_ids.max()}, but there are only {len(task_names)} task_names")
        # A set of which only some tasks run here becomes a smaller set.
        active, self.task_ids = np.unique(task_ids, return_inverse=True)
        self.task_names = tuple(task_names[task] for task in active)
        self.task_set = _attribute(envs, "task_set", None) if len(active) == len(task_names) else None
        self.num_stages = int(_attribute(envs, "num_stages", 0))
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self._actions: np.ndarray | None = None
        self._handed_on = np.empty(0)  # the environment's own array of the last observations
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        self._start_time = time.time()

    def reset(self) -> np.ndarray:
        """Start an episode in every slot; seeds and options set before are used once."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        options = self._options[0] if self._options else {}
        if any(other != options for other in self._options):
            raise ValueError("a MultiTaskVecEnv takes the same reset options for all slots")
        observations, infos = self.envs.reset(seed=seeds, options=options or None)  # type: ignore[arg-type]
        self.reset_infos = by_slot(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0.0, 0
        self._handed_on = observations
        return observations.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        assert self._actions is not None, "step_async() comes before step_wait()"
        observations, rewards, terminated, truncated, vector_infos = self.envs.step(self._actions)
        # An environment may write its next observations over these (Gymnasium's ``copy=False``).
        reused = np.may_share_memory(observations, self._handed_on)
        self._handed_on, observations = observations, observations.copy() if reused else observations
        dones = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos = SlotInfos(vector_infos, self.num_envs)
        if np.count_nonzero(dones):
            self._end_episodes(infos, dones, terminated)
        return observations, rewards.astype(np.float32), dones, infos

    def _end_episodes(self, infos: list[dict[str, Any]], dones: np.ndarray, terminated: np.ndarray) -> None:
        """What SB3 expects in the infos of slots whose episodes ended, ``(slots,)`` masks."""
        for slot in np.flatnonzero(dones):
            self.reset_infos[slot] = infos[slot]
            final_observation, final_info = (
                self.reset_infos[slot].pop("final_obs"),
                self.reset_infos[slot].pop("final_info"),
            )
            infos[slot] = dict(final_info, terminal_observation=final_observation)
            infos[slot]["TimeLimit.truncated"] = not bool(terminated[slot])
            infos[slot]["episode"] = {
                "r": round(float(self._returns[slot]), 6),
                "l": int(self._lengths[slot]),
                "t": round(time.time() - self._start_time, 6),
            }
        self._returns[dones], self._lengths[dones] = 0.0, 0

    def snapshot(self) -> dict[str, Any]:
        """Where all slots stand, as plain values; for the suite's own environments, which are stepped as one batch."""
        assert isinstance(self.envs, BatchedTaskSetEnv), "only the suite's batched environments tell all of their state"
        return {
            "envs": self.envs.snapshot(),
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "reset_infos": deepcopy(self.reset_infos),
            "seeds": list(self._seeds),
            "options": deepcopy(self._options),
            "seconds": time.time() - self._start_time,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on where a :meth:`snapshot` of an environment like this one was taken.

        :raises ValueError: if it was of other tasks or slots
        """
        assert isinstance(self.envs, BatchedTaskSetEnv), "only the suite's batched environments tell all of their state"
        self.envs.restore(snapshot["envs"])
        self._returns, self._lengths = np.array(snapshot["returns"]), np.array(snapshot["lengths"])
        self.reset_infos = deepcopy(snapshot["reset_infos"])
        self._seeds, self._options = list(snapshot["seeds"]), deepcopy(snapshot["options"])
        self._start_time = time.time() - snapshot["seconds"]

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames = self.envs.render()
        return [None] * self.num_envs if frames is None else list(frames)  # type: ignore[arg-type]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Of each sub-environment where there are such, else of the whole vector environment."""
        slots = self._get_indices(indices)
        if isinstance(self.envs.unwrapped, SyncVectorEnv):
            return [self.envs.unwrapped.envs[slot].get_wrapper_attr(attr_name) for slot in slots]
        return [getattr(self.envs, attr_name) for _ in slots]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """On each sub-environment where there are such, else on the whole vector environment."""
        if isinstance(self.envs.unwrapped, SyncVectorEnv):
            for slot in self._get_indices(indices):
                self.envs.unwrapped.envs[slot].set_wrapper_attr(attr_name, value)
        else:
            setattr(self.envs.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of each sub-environment.

        :raises AttributeError: if the slots are one batched environment without sub-environments
        """
        if not isinstance(self.envs.unwrapped, SyncVectorEnv):
            raise AttributeError(
                f"the slots of {type(self.envs.unwrapped).__name__} are one batch, not separate environments; "
                f"call .envs.{method_name} or build the VecEnv from a list of environments"
            )
        return [method(*method_args, **method_kwargs) for method in self.get_attr(method_name, indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Whether each slot has a wrapper; always so for ``Monitor``, whose work is done here."""
        slots = list(self._get_indices(indices))
        if issubclass(wrapper_class, Monitor):
            return [True] * len(slots)
        if isinstance(self.envs.unwrapped, SyncVectorEnv):
            return [is_wrapped(self.envs.unwrapped.envs[slot], wrapper_class) for slot in slots]
        return [False] * len(slots)


def make_multitask_vec_env(
    env: str | VectorEnv | Sequence[str | gym.Env],
    envs_per_task: int = 1,
    seed: int | None = None,
    **env_kwargs: Any,
) -> MultiTaskVecEnv:
    """A VecEnv with a task for every slot; slot i runs task i modulo the number of tasks.

    :param env: the id of a task set (``"QMP/..."``), a vector environment, or a list of Gymnasium ids or environments
        with equal spaces, one task each
    :param envs_per_task: slots per task
    :param seed: seed of the first reset; slot i gets ``seed + i``
    :param env_kwargs: options for ``gym.make`` or ``gym.make_vec``
    :raises ValueError: if the spaces differ or the arguments do not go together
    """
    if envs_per_task < 1:
        raise ValueError(f"envs_per_task is {envs_per_task}; it must be at least 1")
    if isinstance(env, VectorEnv):
        if env_kwargs or envs_per_task != 1:
            raise ValueError(
                "a finished vector environment takes neither envs_per_task nor options: set them in gym.make_vec"
            )
        vec_env = MultiTaskVecEnv(env)
    elif isinstance(env, str):
        if _is_task_set(env):
            fixed = env_kwargs.get("task") is not None
            tasks = 1 if fixed else len(qmp_envs.task_names(env, **env_kwargs))
            vec_env = MultiTaskVecEnv(gym.make_vec(env, num_envs=tasks * envs_per_task, **env_kwargs))
        else:
            vec_env = _from_list([env], envs_per_task, env_kwargs)
    else:
        vec_env = _from_list(list(env), envs_per_task, env_kwargs)
    if seed is not None:
        vec_env.seed(seed)
    return vec_env


def _is_task_set(env: Any) -> bool:
    return isinstance(env, str) and qmp_envs.is_task_set(env)


def _from_list(tasks: list[str | gym.Env], envs_per_task: int, env_kwargs: dict[str, Any]) -> MultiTaskVecEnv:
    if not tasks:
        raise ValueError("the list of environments is empty; give at least one id or environment")
    if envs_per_task > 1 and not all(isinstance(task, str) for task in tasks):
        raise ValueError(f"envs_per_task={envs_per_task} needs ids: a finished environment cannot be copied")
    envs = [gym.make(task, **env_kwargs) if isinstance(task, str) else task for task in tasks * envs_per_task]
    if any(env is other for number, env in enumerate(envs) for other in envs[:number]):
        raise ValueError("an environment is in the list twice; every slot needs an environment of its own")
    ids = [env.spec.id if env.spec is not None else type(env.unwrapped).__name__ for env in envs[: len(tasks)]]
    for env, id in zip(envs, ids, strict=False):
        for kind in ("observation_space", "action_space"):
            ours, first = getattr(env, kind), getattr(envs[0], kind)
            if ours != first:
                raise ValueError(
                    f"the {kind} of {id} is {ours}, but that of {ids[0]} is {first}: "
                    "tasks trained together need equal spaces"
                )
    venv = SyncVectorEnv([_Return(env) for env in envs], autoreset_mode=AutoresetMode.SAME_STEP)
    listed = np.arange(len(envs)) % len(tasks)
    of_set = _tasks_of_one_set(envs[: len(tasks)])
    if of_set is not None:
        return MultiTaskVecEnv(venv, np.array(of_set)[listed], envs[0].get_wrapper_attr("task_names"))
    names = [id if ids.count(id) == 1 else f"{id}#{ids[:index].count(id)}" for index, id in enumerate(ids)]
    return MultiTaskVecEnv(venv, listed, names)


def _tasks_of_one_set(envs: list[gym.Env]) -> list[int] | None:
    """The task ids, if every environment runs another task of one of our sets."""
    if not all(env.has_wrapper_attr("fixed_task") for env in envs):
        return None
    tasks = []
    for env in envs:
        names, fixed = env.get_wrapper_attr("task_names"), env.get_wrapper_attr("fixed_task")
        if fixed is None and len(names) > 1:
            raise ValueError(
                f"an environment of the list draws one of {len(names)} tasks at each reset; fix one with task=..., "
                "or give the id alone instead of a list"
            )
        tasks.append((names, fixed or 0))
    different = len(set(tasks)) == len(tasks) and len({names for names, _ in tasks}) == 1
    return [task for _, task in tasks] if different else None


class _Return:
    """A constructor that hands out an environment that exists already."""

    def __init__(self, env: gym.Env) -> None:
        self.env = env

    def __call__(self) -> gym.Env:
        return self.env


def _attribute(envs: VectorEnv, name: str, default: Any) -> Any:
    """Of the vector environment, or of its first sub-environment."""
    inner = envs.unwrapped
    if isinstance(inner, SyncVectorEnv):
        first = inner.envs[0]
        return first.get_wrapper_attr(name) if first.has_wrapper_attr(name) else default
    return getattr(inner, name, default)


def as_task_env(env: Any) -> Any:
    """Task-set ids and vector environments as a :class:`MultiTaskVecEnv`; everything else as it is."""
    if isinstance(env, VectorEnv) or _is_task_set(env):
        return make_multitask_vec_env(env)
    if isinstance(env, Iterable) and not isinstance(env, (str, gym.Env, VecEnv)):
        return make_multitask_vec_env(list(env))
    return env
