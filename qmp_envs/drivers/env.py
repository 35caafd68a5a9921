"""One Gymnasium environment over any task set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded

from qmp_envs.drivers.episodes import Episodes, check_options
from qmp_envs.registry import build
from qmp_envs.rendering.renderer import MODES, SceneRenderer, frames_per_second
from qmp_envs.task_set import Outcome, TaskSet


class TaskSetEnv(gym.Env[np.ndarray, np.ndarray]):
    """A task set as one environment. Every reset draws a task, unless ``task`` fixes it.

    :param task_set: a task set, its ``"module:class"``, or an id of the suite (what the registered ids pass)
    :param task: index or name of the only task, or None to draw one at every reset
    :param render_mode: None, ``"rgb_array"``, ``"depth_array"`` (distance in m) or ``"human"`` (a window)
    :param camera: the camera's name; the family's first one by default
    :param width: of rendered frames, pixels
    :param height: of rendered frames, pixels
    :param task_one_hot: append the task id as a one-hot vector to the observation
    :param options: of the family

    ``reset(options={"task": 1, "qpos": ..., "qvel": ...})`` starts one episode at a given task, positions and
    velocities (families with another start name its options in ``task_set.start_names``). ``info`` has ``task_id``
    and ``task_name``, after a step also ``success``, ``is_success``, ``stages_completed``, one ``reward_<term>``
    per reward term and the family's measures, as far as the family has them.
    """

    metadata = {"render_modes": list(MODES)}

    def __init__(
        self,
        task_set: str | TaskSet,
        task: int | str | None = None,
        render_mode: str | None = None,
        camera: str | None = None,
        width: int = 480,
        height: int = 480,
        task_one_hot: bool = False,
        **options: Any,
    ) -> None:
        self.task_set = build(task_set, **options)
        self.task_names = self.task_set.task_names
        self.num_stages = self.task_set.num_stages
        self.metadata = {**self.metadata, "render_fps": frames_per_second(self.task_set)}
        self.fixed_task = None if task is None else self.task_set.task_id(task)
        self._episodes = Episodes(self.task_set, np.array([self.fixed_task or 0]), task_one_hot)
        self.observation_space = self._episodes.observation_space
        self.action_space = self.task_set.action_space
        self.render_mode = render_mode
        self._renderer = SceneRenderer.of_mode(self.task_set, render_mode, camera, width, height)
        self._running = False

    @property
    def task_id(self) -> int:
        """The task of the running episode."""
        return int(self._episodes.task_ids[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        check_options(options, ("task", *self.task_set.start_names))
        episodes = self._episodes
        if seed is not None or not episodes.generators:
            self._np_random_seed = episodes.seed(0, seed)
            self._np_random = episodes.generators[0]
        task = self._next_task(options or {})
        self._running = False  # a refused start leaves no episode to continue
        episodes.task_ids[0] = task
        observation = episodes.start(np.array([0]), options)[0]
        self._running = True
        if self.render_mode == "human":
            self.render()
        return observation, self._task_info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self._running:
            raise ResetNeeded("The episode has ended or never began: call reset() before step().")
        actions = np.asarray(action)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"Expected an action of shape {self.action_space.shape}, got {actions.shape}.")
        observations, outcome = self._episodes.step(actions[None])
        terminated = bool(outcome.terminated[0])
        self._running = not terminated
        if self.render_mode == "human":
            self.render()
        info = self._task_info() | step_info(outcome)
        return observations[0], float(outcome.reward[0]), terminated, False, info

    def snapshot(self) -> dict[str, Any]:
        """Where the episode stands, as plain values and arrays: physics, memory, random generators.

        The time limit is Gymnasium's wrapper's, and so are the steps that it has counted.
        """
        return self._episodes.snapshot() | {"running": self._running, "seed": self._np_random_seed}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Resume where a :meth:`snapshot` was taken, here or in another environment made like this one.

        :raises ValueError: if the snapshot is of another task set, or of a task that this environment does not run
        """
        task = int(snapshot["task_ids"][0])
        if self.fixed_task not in (None, task):
            raise ValueError(f"The snapshot is of task {task}; this environment only runs task {self.fixed_task}.")
        self._episodes.restore(snapshot)
        self._running, self._np_random_seed = bool(snapshot["running"]), snapshot["seed"]
        self._np_random = self._episodes.generators.get(0)

    def render(self) -> np.ndarray | None:
        if self._renderer is None:
            gym.logger.warn('render() needs gym.make(..., render_mode="rgb_array") or "human".')
            return None
        if self._episodes.memory is None:
            raise ResetNeeded("Call reset() before render().")
        return self._renderer.draw(*self._episodes.one(0))

    def close(self) -> None:
        self._running = False
        self._episodes.close()
        if self._renderer is not None:
            self._renderer.close()

    def _next_task(self, options: dict[str, Any]) -> int:
        if options.get("task") is not None:
            return self.task_set.task_id(options["task"])
        return self._episodes.draw_task(0) if self.fixed_task is None else self.fixed_task

    def _task_info(self) -> dict[str, Any]:
        return {"task_id": self.task_id, "task_name": self.task_names[self.task_id]}


def step_info(outcome: Outcome, slot: int = 0) -> dict[str, Any]:
    """One slot's part of the info of a step, in plain Python numbers."""
    info: dict[str, Any] = {}
    if outcome.success is not None:
        info["success"] = bool(outcome.success[slot])
    if outcome.is_success is not None:
        info["is_success"] = bool(outcome.is_success[slot])
    if outcome.stages_completed is not None:
        info["stages_completed"] = int(outcome.stages_completed[slot])
    for name, values in outcome.terms.items():
        info[f"reward_{name}"] = float(values[slot])
    for name, values in outcome.measures.items():
        info[name] = values[slot].item()
    return info
