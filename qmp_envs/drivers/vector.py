"""One Gymnasium vector environment over any task set: all tasks stepped as one batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from qmp_envs.drivers.episodes import Episodes, check_options
from qmp_envs.registry import build
from qmp_envs.rendering.renderer import SceneRenderer, frames_per_second
from qmp_envs.task_set import Outcome, TaskSet


class BatchedTaskSetEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """All tasks of a task set, one or more slots each; slot ``i`` runs task ``i % num_tasks`` for good.

    Behaves, to the bit, like Gymnasium's ``SyncVectorEnv`` of single environments with autoreset in the same
    step: where an episode ends, the observation returned is already the next episode's first one, and the
    ended episode's last observation and info are in ``infos["final_obs"]`` and ``infos["final_info"]``.

    :param num_envs: a multiple of the number of tasks; 1 (Gymnasium's default) or None: one slot per task.
        With ``task``: the number of slots of that task.
    :param max_episode_steps: time limit in steps, None or -1 for none; the registered ids pass their own, and one that
        is given to ``gym.make_vec`` stands in ``spec.kwargs``
    :param workers: threads or processes that step the slots of a slow family at the same time; None: one per core
    :param task_set, task, render_mode, camera, width, height, task_one_hot, options:
        as for :class:`qmp_envs.drivers.env.TaskSetEnv`; the render mode can be ``"rgb_array"`` or ``"depth_array"``
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "depth_array"], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        task_set: str | TaskSet,
        num_envs: int | None = 1,
        max_episode_steps: int | None = None,
        task: int | str | None = None,
        render_mode: str | None = None,
        camera: str | None = None,
        width: int = 480,
        height: int = 480,
        task_one_hot: bool = False,
        workers: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.task_set = build(task_set, **options)
        self.task_names = self.task_set.task_names
        self.num_stages = self.task_set.num_stages
        self.task_ids = _assign(self.task_set, num_envs, task)
        self.num_envs = len(self.task_ids)
        self.metadata = {**self.metadata, "render_fps": frames_per_second(self.task_set)}

        workers = _count_workers(workers, self.num_envs, self.task_set.slots_per_worker)
        self._episodes = Episodes(self.task_set, self.task_ids, task_one_hot, workers)
        self.single_observation_space = self._episodes.observation_space
        self.single_action_space = self.task_set.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        if render_mode == "human":
            raise ValueError('A batched environment has no window: use gym.make(..., render_mode="human").')
        self.render_mode = render_mode
        self._renderer = SceneRenderer.of_mode(self.task_set, render_mode, camera, width, height)

        self._limit = _steps_limit(max_episode_steps)
        self._elapsed: np.ndarray | None = None
        self._observations: np.ndarray = np.zeros(0)
        self.last_outcome: Outcome | None = None
        """The outcome of the latest step (of the ended episodes where they ended); cheaper than infos."""
        self._everywhere = _fixed(np.ones(self.num_envs, bool))
        self._task_info = {
            "task_id": _fixed(self.task_ids.copy()),
            "_task_id": self._everywhere,
            "task_name": _fixed(np.array([self.task_names[i] for i in self.task_ids], object)),
            "_task_name": self._everywhere,
        }

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes in all slots; slot ``i`` is seeded with ``seed + i``, or ``seed[i]``.

        ``options["reset_mask"]`` (bool, one per slot) restricts the reset; the others, e.g. "qpos" and
        "qvel", are as for the single environment, or one row per slot that is reset.
        """
        check_options(options, (*self.task_set.start_names, "reset_mask"))
        slots = self._masked(options)
        everything = len(slots) == self.num_envs
        if not everything and self._elapsed is None:
            raise ResetNeeded("The first reset() must be of all slots, without a reset_mask.")
        self._seed(slots, seed)
        elapsed = np.zeros(self.num_envs, np.int64) if everything or self._elapsed is None else self._elapsed
        self._elapsed = None  # a refused start leaves no episodes to continue
        observations = self._episodes.start(slots, options)
        elapsed[slots] = 0
        self._elapsed = elapsed
        if everything:
            self._observations = observations
        else:
            self._observations[slots] = observations
        return self._observations.copy(), self._reset_infos(slots)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._elapsed is None:
            raise ResetNeeded("Call reset() before step().")
        observations, outcome = self._episodes.step(actions)
        self.last_outcome = outcome
        self._elapsed += 1
        terminated = outcome.terminated
        truncated = self._elapsed >= self._limit
        ended = terminated | truncated
        if np.count_nonzero(ended):
            infos = self._autoreset(observations, outcome, np.flatnonzero(ended))
        else:
            infos = self._infos(outcome)
        self._observations = observations
        return observations.copy(), outcome.reward.copy(), terminated.copy(), truncated, infos

    def _autoreset(self, observations: np.ndarray, outcome: Outcome, slots: np.ndarray) -> dict[str, Any]:
        """Start new episodes in ``slots``, writing their first observations into ``observations``."""
        assert self._elapsed is not None
        ended = np.zeros(self.num_envs, bool)
        ended[slots] = True
        final_obs = np.full(self.num_envs, None, object)
        for slot in slots:
            final_obs[slot] = observations[slot].copy()
        final_info = self._masked_infos(outcome, ended) | self._reset_infos(slots)
        observations[slots] = self._episodes.start(slots)
        self._elapsed[slots] = 0
        infos: dict[str, Any] = {"final_obs": final_obs, "_final_obs": ended}
        infos |= {"final_info": final_info, "_final_info": ended.copy()}
        infos |= self._task_info
        if len(slots) < self.num_envs:
            infos |= self._masked_infos(outcome, ~ended)
        return infos

    def _infos(self, outcome: Outcome) -> dict[str, Any]:
        """The infos of a step in which no episode ended."""
        infos = dict(self._task_info)
        for name, values in _named(outcome):
            infos[name] = values
            infos["_" + name] = self._everywhere
        return infos

    def _masked_infos(self, outcome: Outcome, mask: np.ndarray) -> dict[str, Any]:
        """The step's infos in the slots of ``mask``, zeros elsewhere."""
        infos: dict[str, Any] = {}
        mask = _fixed(mask.copy())
        for name, values in _named(outcome):
            infos[name] = np.where(mask, values, values.dtype.type())
            infos["_" + name] = mask
        return infos

    def _reset_infos(self, slots: np.ndarray) -> dict[str, Any]:
        """Task ids and names of some slots, in Gymnasium's form."""
        if len(slots) == self.num_envs:
            return dict(self._task_info)
        mask = np.zeros(self.num_envs, bool)
        mask[slots] = True
        absent: dict[str, Any] = {"task_id": 0, "task_name": None}
        infos: dict[str, Any] = {}
        for name, nothing in absent.items():
            infos[name] = np.where(mask, self._task_info[name], nothing)
            infos["_" + name] = _fixed(mask)
        return infos

    def _masked(self, options: dict[str, Any] | None) -> np.ndarray:
        """The slots that ``options["reset_mask"]`` asks for; all without it."""
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        shaped = isinstance(mask, np.ndarray) and mask.dtype == bool and mask.shape == (self.num_envs,)
        if not shaped or not mask.any():
            raise ValueError(f"reset_mask must be bool ({self.num_envs},) with a True in it, got {mask!r}.")
        return np.flatnonzero(mask)

    def _seed(self, slots: np.ndarray, seed: int | Sequence[int | None] | None) -> None:
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"Expected {self.num_envs} seeds, one per slot, got {len(seeds)}.")
        for slot in slots.tolist():
            if seeds[slot] is not None or slot not in self._episodes.generators:
                self._episodes.seed(slot, seeds[slot])

    def snapshot(self) -> dict[str, Any]:
        """Where all slots stand, as plain values and arrays: physics, memory, elapsed steps, random generators.

        It does not depend on ``workers``. What is only drawn or told (:attr:`last_outcome`) is not part of it.
        """
        return self._episodes.snapshot() | {
            "elapsed": None if self._elapsed is None else self._elapsed.copy(),
            "observations": self._observations.copy(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Resume where a :meth:`snapshot` was taken, here or in another environment made like this one.

        The same actions then lead to the same observations, rewards, infos and next episodes, bit for bit.

        :raises ValueError: if the snapshot is of another task set or of other slots
        """
        if not np.array_equal(snapshot["task_ids"], self.task_ids):
            raise ValueError(
                f"The snapshot is of slots with the tasks {np.asarray(snapshot['task_ids']).tolist()}; "
                f"this environment has {self.task_ids.tolist()}."
            )
        self._episodes.restore(snapshot)
        self._elapsed = None if snapshot["elapsed"] is None else np.array(snapshot["elapsed"], np.int64)
        self._observations = np.array(snapshot["observations"])

    def render(self) -> tuple[Any, ...] | None:
        """One frame ``(height, width, 3)`` per slot."""
        if self._renderer is None:
            return None
        if self._elapsed is None:
            raise ResetNeeded("Call reset() before render().")
        return tuple(self._renderer.draw(*self._episodes.one(slot)) for slot in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        self._episodes.close()
        if self._renderer is not None:
            self._renderer.close()


def _assign(task_set: TaskSet, num_envs: int | None, task: int | str | None) -> np.ndarray:
    """The task id ``(num_envs,)`` of every slot."""
    num_tasks = task_set.num_tasks
    if task is not None:
        count = 1 if num_envs is None else num_envs
        if count < 1:
            raise ValueError(f"num_envs must be at least 1 with task={task!r}, got {num_envs}.")
        return np.full(count, task_set.task_id(task), np.int64)
    count = num_tasks if num_envs in (None, 1) else num_envs
    if count % num_tasks or count <= 0:
        raise ValueError(
            f"{task_set.name} has {num_tasks} tasks: num_envs must be 1 (one slot per task) "
            f"or a multiple of {num_tasks}, got {num_envs}."
        )
    return np.arange(count, dtype=np.int64) % num_tasks


def _steps_limit(max_episode_steps: int | None) -> int:
    """The time limit in steps; None and -1, Gymnasium's word for it, mean none."""
    if max_episode_steps in (None, -1):
        return np.iinfo(np.int64).max
    if max_episode_steps < 1:
        raise ValueError(f"max_episode_steps must be at least 1 (None or -1: no limit), got {max_episode_steps}.")
    return max_episode_steps


def _count_workers(workers: int | None, slots: int, slots_per_worker: int) -> int:
    """How many workers step the slots: as many as asked for, else one per core, but none with too little to do."""
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(cores, slots // slots_per_worker))
    if not isinstance(workers, (int, np.integer)) or workers < 1:
        raise ValueError(f"workers must be at least 1 (None: one per core), got {workers!r}.")
    return min(workers, slots)


def _named(outcome: Outcome) -> list[tuple[str, np.ndarray]]:
    """The arrays of an outcome under the names that info gives them."""
    named = [("reward_" + term, values) for term, values in outcome.terms.items()]
    named.extend(outcome.measures.items())
    if outcome.success is not None:
        named.append(("success", outcome.success))
    if outcome.is_success is not None:
        named.append(("is_success", outcome.is_success))
    if outcome.stages_completed is not None:
        named.append(("stages_completed", outcome.stages_completed))
    return named


def _fixed(array: np.ndarray) -> np.ndarray:
    """The same array, protected from writing: every step's infos share it."""
    array.flags.writeable = False
    return array
