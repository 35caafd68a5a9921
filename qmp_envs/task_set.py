"""The contract of a task set: what a family of tasks has to say, and nothing about how it is driven.

A family is written once, as *batched pure functions*: every array has a leading axis of slots (one slot is
one running episode), so the same reward line serves one environment, fifty environments, and a replay batch
that is being relabeled. The two drivers are in
:mod:`qmp_envs.drivers`.

The life of an episode, in calls:

1. ``draw_reset(generator)`` draws all random numbers of the reset;
2. ``initial_state(task_ids, draws)`` turns them into the physics' start, e.g. positions and velocities;
3. the physics is placed there and led through the ``opening_controls``, if a family has them;
4. ``initial_memory(state, task_ids, draws)`` starts the episode's memory, ``observe`` gives what is seen;
5. every step: noise is drawn, then ``control`` -> physics -> ``outcome`` -> ``observe``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import mujoco
import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import MujocoPhysics, Physics, State
from qmp_envs.suggestions import closest

Memory = Any
"""What an episode remembers besides its physics: a named tuple of arrays with a leading axis of slots."""


class Outcome(NamedTuple):
    """What one step of all slots amounts to; every array has the leading axis ``(slots,)``."""

    reward: np.ndarray
    """float64: the sum of ``terms``."""
    terminated: np.ndarray
    """bool: the task has ended (time limits are not the task set's business)."""
    success: np.ndarray | None
    """bool: this step meets the published success condition; None where a family has none."""
    is_success: np.ndarray | None
    """bool: the whole task is done by now; None where a family has no such notion."""
    stages_completed: np.ndarray | None
    """int64: stages reached so far; None in families without stages."""
    terms: dict[str, np.ndarray]
    """The named reward terms, float64 each."""
    columns: dict[str, np.ndarray]
    """The family's ``relabel_columns`` of this transition; empty where it has none."""
    measures: Mapping[str, np.ndarray] = {}
    """Other numbers that info shows under these names: distances, velocities."""


class TaskSet(ABC):
    """A set of tasks that share a body, an observation space and an action space.

    Subclasses set the attributes below (in the class or in ``__init__``) and write the abstract functions.
    """

    name: str
    """Short name of the family, e.g. ``"MultistageReacher"``."""
    task_names: tuple[str, ...]
    """One name per task; the index is the task id."""
    horizon: int
    """Published episode length in steps; the time limit that the registry gives the environments."""
    num_stages: int = 0
    """Stages of a task, 0 where the family has none."""
    observation_space: spaces.Box
    action_space: spaces.Box
    frame_skip: int = 1
    """Physics steps per environment step."""
    dt: float
    """Seconds of simulated time per environment step."""
    models: tuple[mujoco.MjModel, ...] = ()
    """The compiled models, simulated and drawn; one per task where the tasks differ in their body."""
    model_of_task: np.ndarray
    """(tasks,) int64: index into ``models``."""
    cameras: tuple[str, ...] = ()
    """Named cameras for rendering; the first is the default."""
    min_reward: float | None = None
    """What other tasks' transitions count for a task that cannot reward them (unlabeled data sharing)."""
    relabel_columns: Mapping[str, tuple[int, ...]] = {}
    """Extra replay columns, name -> shape per transition: what ``reward`` needs for any task."""
    step_in_threads: bool = False
    """Whether threads step the slots of a batch, if there are enough of them; for physics that is all MuJoCo's."""
    slots_per_worker: int = 1
    """The fewest slots that are worth a thread or process of their own, where the user does not say how many to use:
    a thread takes up to 0.05 ms to wake, so it should have 0.4 ms of work or more."""
    noise_size: int = 0
    """Numbers, uniform in [-1, 1), that ``control`` and ``outcome`` get per slot and step."""
    start_names: tuple[str, ...] = ("qpos", "qvel")
    """The names of the arrays of ``initial_state``; ``reset`` takes them as options too."""
    measure_meanings: Mapping[str, str] = {}
    """What the numbers in ``Outcome.measures`` are, name -> meaning with its unit; for the page."""
    constant_modules: tuple[str, ...] = ()
    """Further modules whose constants the family's page shows, and that ``{NAME}`` in its docstring may name."""

    @property
    def num_tasks(self) -> int:
        return len(self.task_names)

    def task_id(self, task: int | str) -> int:
        """The id of a task given by index or by name."""
        if isinstance(task, str):
            if task in self.task_names:
                return self.task_names.index(task)
            raise ValueError(
                f"{self.name} has no task named {task!r}; did you mean {closest(task, self.task_names)!r}? "
                f"Tasks: {', '.join(self.task_names)}."
            )
        if isinstance(task, bool) or not isinstance(task, (int, np.integer)):
            raise TypeError(f"A task is an index or a name, got {task!r} of type {type(task).__name__}.")
        if not 0 <= task < self.num_tasks:
            raise ValueError(
                f"{self.name} has no task {task}; allowed are 0 to {self.num_tasks - 1} "
                f"or a name of {', '.join(self.task_names)}."
            )
        return int(task)

    # ---- physics -------------------------------------------------------------------------------------------

    def make_physics(self, task_ids: np.ndarray, workers: int = 1) -> Physics:
        """The simulators of ``len(task_ids)`` slots; overridden where the physics is not a MuJoCo model.

        :param workers: how many threads or processes may step them at the same time
        """
        threads = workers if self.step_in_threads else 1
        return MujocoPhysics(
            self.models, self.model_of_task, self.frame_skip, self.views, task_ids, self.measuring, threads
        )

    def views(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """The arrays of one simulator that the family reads, by the name they get in :class:`State`.

        They are read after the last substep as they stand there, without a refresh: positions and
        accelerations of bodies are those of the last substep's forward pass, as in the published tasks.
        """
        return {"qpos": data.qpos, "qvel": data.qvel}

    def measuring(self, data: mujoco.MjData, views: Mapping[str, np.ndarray]) -> Callable[[], None] | None:
        """What fills those ``views`` of one simulator that are not MuJoCo's own arrays, called after every step.

        None where there is nothing to fill.
        """
        return None

    # ---- start of an episode -------------------------------------------------------------------------------

    @abstractmethod
    def draw_reset(self, generator: np.random.Generator) -> np.ndarray:
        """All random numbers of one reset, ``(draws,)``."""

    @abstractmethod
    def initial_state(self, task_ids: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, ...]:
        """The arrays ``(slots, ...)`` named by ``start_names`` from draws ``(slots, draws)``.

        That is positions ``(slots, nq)`` and velocities ``(slots, nv)`` where MuJoCo is stepped by us.
        """

    def opening_controls(self, task_ids: np.ndarray, draws: np.ndarray) -> Sequence[np.ndarray]:
        """Actuator inputs ``(steps, nu)`` of every slot, applied before its first observation.

        Only where the start was drawn, not given by the user. An empty sequence means none at all.
        """
        return ()

    def initial_memory(self, state: State, task_ids: np.ndarray, draws: np.ndarray) -> Memory:
        """The memory of episodes whose physics has just been placed in ``state``."""
        return ()

    # ---- one step ------------------------------------------------------------------------------------------

    def control(
        self,
        actions: np.ndarray,
        physics: Physics,
        memory: Memory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> np.ndarray:
        """Actuator inputs ``(slots, nu)`` for actions ``(slots, actions)`` that are inside the action space.

        A family may also act on the physics here (clip velocities, push bodies). ``noise`` is
        ``(slots, noise_size)``.
        """
        return actions

    @abstractmethod
    def outcome(
        self,
        before: State,
        after: State,
        actions: np.ndarray,
        memory: Memory,
        task_ids: np.ndarray,
        noise: np.ndarray,
    ) -> tuple[Outcome, Memory]:
        """What the step amounts to, and what the episode remembers from now on.

        ``noise`` ``(slots, noise_size)`` is what ``control`` got in this step.
        """

    @abstractmethod
    def observe(self, state: State, memory: Memory, task_ids: np.ndarray) -> np.ndarray:
        """A new array ``(slots, observation)``."""

    # ---- relabeling ----------------------------------------------------------------------------------------

    def reward(self, columns: Mapping[str, np.ndarray], task_ids: np.ndarray) -> np.ndarray:
        """The reward ``(batch,)`` that tasks ``task_ids`` give stored transitions with these columns."""
        raise NotImplementedError(f"{self.name} cannot recompute rewards: this task set declares no columns.")

    # ---- drawing -------------------------------------------------------------------------------------------

    def scene(self, index: int) -> mujoco.MjModel:
        """The model in which tasks with ``model_of_task == index`` are drawn."""
        return self.models[index]

    def pose(self, data: mujoco.MjData, state: State, memory: Memory, task_id: int) -> None:
        """Put one slot (state and memory without the axis of slots) into a scene for drawing."""
        data.qpos[:] = state.qpos


def one_model(model: mujoco.MjModel, num_tasks: int) -> tuple[tuple[mujoco.MjModel, ...], np.ndarray]:
    """``models`` and ``model_of_task`` of a task set whose tasks all use the same model."""
    return (model,), np.zeros(num_tasks, np.int64)
