"""The frozen evaluation protocol: a policy, every task, episodes with fixed seeds, per-episode results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from qmp_envs.measures import MEASURES
from qmp_envs.registry import task_names

Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``policy(observations (slots, ...), task_ids (slots,)) -> actions (slots, ...)``. A policy that remembers
something may have a method ``reset(mask (slots,))``, called before the first action of the episodes that
begin there."""


@dataclass(frozen=True)
class Evaluation:
    """Per-episode results of every task: ``evaluation["return"]`` is an array ``(tasks, episodes)``.

    ``return`` is the undiscounted sum of rewards, ``length`` the steps; ``success_any`` is 1 if any step of the episode
    had ``success``, ``success_all`` if the last one had ``is_success``; ``subgoals`` is the share of the stages that
    were completed at the end.

    :param values: name of each of :data:`~qmp_envs.measures.MEASURES` -> float64, NaN where it does not exist
    """

    task_names: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def __getitem__(self, measure: str) -> np.ndarray:
        if measure not in MEASURES:
            raise ValueError(f"Unknown measure {measure!r}; measures: {', '.join(MEASURES)}.")
        return self.values[measure]

    def per_task(self, measure: str) -> np.ndarray:
        """The mean ``(tasks,)`` of a measure."""
        return self[measure].mean(axis=1)

    def mean(self, measure: str) -> float:
        """The mean over tasks and episodes; every task counts the same."""
        return float(self.per_task(measure).mean())

    @classmethod
    def concatenate(cls, evaluations: Iterable[Evaluation]) -> Evaluation:
        """All episodes of several evaluations of the same tasks, in order."""
        evaluations = list(evaluations)
        values = {name: np.concatenate([one[name] for one in evaluations], axis=1) for name in MEASURES}
        return cls(evaluations[0].task_names, values)


def evaluate(policy: Policy, id: str, seeds: Sequence[int] = (0,), episodes: int = 10, **env_kwargs: Any) -> Evaluation:
    """Run ``episodes`` episodes of every task for every seed; returns ``len(seeds) * episodes`` per task.

    All episodes of a seed run side by side, one per slot. The policy should be the one to be judged, which is
    usually the deterministic one.

    :param id: an id of this suite
    :param env_kwargs: for ``gym.make_vec``, e.g. ``task=`` (then only that task) or options of the family
    """
    if episodes < 1 or not seeds:
        raise ValueError(f"Need an episode and a seed at least, got episodes={episodes}, seeds={seeds!r}.")
    if "num_envs" in env_kwargs:
        raise TypeError("evaluate() runs one slot for each episode; it takes episodes=, not num_envs.")
    num_tasks = 1 if env_kwargs.get("task") is not None else len(task_names(id, **env_kwargs))
    envs: VectorEnv = gym.make_vec(id, num_envs=episodes * num_tasks, **env_kwargs)
    task_ids = envs.unwrapped.task_ids  # type: ignore[attr-defined]
    try:
        results = [run_episodes(policy, envs, task_ids, num_tasks, episodes, seed) for seed in seeds]
    finally:
        envs.close()
    return Evaluation.concatenate(results)


def run_episodes(
    policy: Policy, envs: VectorEnv, task_ids: np.ndarray, num_tasks: int, episodes: int, seed: int | None
) -> Evaluation:
    """Run ``episodes`` episodes of each task in any vector environment that resets in the same step.

    Every slot contributes equally many episodes, its first ones; otherwise short episodes would count too
    often. The rows of the result are the tasks in ascending order of their ids.

    :param task_ids: the task of every slot, ``(slots,)``
    :param num_tasks: how many different tasks those are
    :param seed: all slots are seeded from it; None continues the environments' streams of random numbers
    """
    if envs.metadata.get("autoreset_mode") != AutoresetMode.SAME_STEP:
        raise ValueError(
            "run_episodes needs a vector environment with autoreset_mode SAME_STEP, "
            f"got {envs.metadata.get('autoreset_mode')}."
        )
    task_ids = np.asarray(task_ids)
    rows, columns, per_slot = _places(task_ids, num_tasks, episodes)
    num_stages = getattr(envs.unwrapped, "num_stages", 0)
    results = {name: np.full((num_tasks, episodes), np.nan) for name in MEASURES}

    slots = len(task_ids)
    totals, lengths, any_success = np.zeros(slots), np.zeros(slots), np.full(slots, np.nan)
    recorded = np.zeros(slots, np.int64)
    starting = np.ones(slots, bool)
    restart = getattr(policy, "reset", None)

    observations, _ = envs.reset(seed=None if seed is None else _spread(seed))
    while (recorded < per_slot).any():
        if restart is not None and starting.any():
            restart(starting)
        observations, rewards, terminated, truncated, infos = envs.step(policy(observations, task_ids))
        starting = terminated | truncated
        totals += rewards
        lengths += 1
        any_success = np.fmax(any_success, _step_values(infos, "success", starting))
        if not starting.any():
            continue
        ended = {
            "return": totals,
            "length": lengths,
            "success_any": any_success,
            "success_all": _step_values(infos, "is_success", starting),
            "subgoals": _step_values(infos, "stages_completed", starting) / (num_stages or np.nan),
        }
        for slot in np.flatnonzero(starting & (recorded < per_slot)):
            place = rows[slot], columns[slot] + recorded[slot]
            for name, values in ended.items():
                results[name][place] = values[slot]
        recorded += starting
        totals[starting], lengths[starting], any_success[starting] = 0.0, 0.0, np.nan
    return Evaluation(_names(envs, task_ids), results)


def _places(task_ids: np.ndarray, num_tasks: int, episodes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Row ``(slots,)`` and first column ``(slots,)`` of every slot's results, and how many it contributes."""
    tasks, rows, counts = np.unique(task_ids, return_inverse=True, return_counts=True)
    if len(tasks) != num_tasks:
        raise ValueError(f"task_ids has {len(tasks)} different tasks, num_tasks says {num_tasks}.")
    if counts.min() != counts.max():
        raise ValueError(f"Every task needs equally many slots, got {counts.tolist()}.")
    copies = int(counts[0])
    if episodes < 1 or episodes % copies:
        raise ValueError(f"episodes must be a multiple of the {copies} slots per task, got {episodes}.")
    per_slot = episodes // copies
    rank = np.array([np.count_nonzero(task_ids[:slot] == task) for slot, task in enumerate(task_ids)])
    return rows, rank * per_slot, per_slot


def _spread(seed: int) -> int:
    """A seed far from those of neighboring seeds: slots add their index to it."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _step_values(infos: dict[str, Any], name: str, ended: np.ndarray) -> np.ndarray:
    """What the step just made says under a name, ``(slots,)``; NaN in slots that say nothing."""
    values = np.full(len(ended), np.nan)
    if name in infos:
        said = infos[f"_{name}"] & ~ended
        values[said] = infos[name][said]
    final = infos.get("final_info", {})
    if name in final:
        said = final[f"_{name}"] & ended
        values[said] = final[name][said]
    return values


def _names(envs: VectorEnv, task_ids: np.ndarray) -> tuple[str, ...]:
    names = getattr(envs.unwrapped, "task_names", ())
    return tuple(names[i] if i < len(names) else f"task-{i}" for i in np.unique(task_ids).tolist())
