"""The running episodes of a task set: the part that the single and the batched environment share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces

from qmp_envs.simulation.physics import State
from qmp_envs.task_set import Memory, Outcome, TaskSet


class Episodes:
    """``len(task_ids)`` episodes of one task set, each with its own generators of random numbers.

    A slot seeded with ``s`` spawns two generators: one for the environment (reset and the steps' noise), one
    for drawing tasks. So one slot can be reproduced alone, and drawing tasks does not shift the noise.
    """

    def __init__(self, task_set: TaskSet, task_ids: np.ndarray, task_one_hot: bool = False, workers: int = 1) -> None:
        self.task_set = task_set
        self.task_ids = np.array(task_ids, np.int64)
        self.physics = task_set.make_physics(self.task_ids, workers)
        self.generators: dict[int, np.random.Generator] = {}
        self.task_generators: dict[int, np.random.Generator] = {}
        self.memory: Memory | None = None
        self.observation_space = task_set.observation_space
        self._one_hot: np.ndarray | None = None
        if task_one_hot:
            self.observation_space = with_one_hot(task_set.observation_space, task_set.num_tasks)
            self._one_hot = np.eye(task_set.num_tasks, dtype=task_set.observation_space.dtype)
        self._low = task_set.action_space.low.astype(np.float64)
        self._high = task_set.action_space.high.astype(np.float64)
        self._shape = (len(task_ids), *task_set.action_space.shape)
        self._no_noise = np.zeros((len(task_ids), 0))

    def __len__(self) -> int:
        return len(self.task_ids)

    def seed(self, slot: int, seed: int | None) -> int:
        """Give a slot new generators; returns the seed that was used (drawn from the system if None)."""
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        environment, tasks = np.random.SeedSequence(int(seed)).spawn(2)
        self.generators[slot] = np.random.default_rng(environment)
        self.task_generators[slot] = np.random.default_rng(tasks)
        return int(seed)

    def draw_task(self, slot: int) -> int:
        """A task id, uniform over the set."""
        return int(self.task_generators[slot].integers(self.task_set.num_tasks))

    def start(self, slots: np.ndarray, options: Mapping[str, Any] | None = None) -> np.ndarray:
        """Start episodes in ``slots`` (indices); returns first observations ``(len(slots), observation)``.

        Options named in ``task_set.start_names``, each ``(n,)`` or ``(len(slots), n)``, replace the drawn start.
        """
        task_set, task_ids = self.task_set, self.task_ids[slots]
        draws = np.stack([task_set.draw_reset(self.generators[slot]) for slot in slots])
        names, drawn = task_set.start_names, task_set.initial_state(task_ids, draws)
        start = [_given(options or {}, name, array) for name, array in zip(names, drawn, strict=True)]
        self.physics.place(slots, task_ids, *start)
        if all(given is array for given, array in zip(start, drawn, strict=True)):
            opening = task_set.opening_controls(task_ids, draws)
            if opening:
                self.physics.lead(slots, opening)
        state = self.physics.state.rows(slots)
        fresh = task_set.initial_memory(state, task_ids, draws)
        self.memory = fresh if self.memory is None else _replaced(self.memory, slots, fresh)
        return self._observe(state, fresh, task_ids)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, Outcome]:
        """Step every slot; returns observations ``(slots, observation)`` and the outcome."""
        actions = self._check(actions)
        task_set, physics, task_ids = self.task_set, self.physics, self.task_ids
        assert self.memory is not None
        noise = self._noise()
        before = physics.state
        after = physics.step(task_set.control(actions, physics, self.memory, task_ids, noise))
        outcome, self.memory = task_set.outcome(before, after, actions, self.memory, task_ids, noise)
        return self._observe(after, self.memory, task_ids), outcome

    def one(self, slot: int) -> tuple[State, Memory, int]:
        """State and memory of one slot, without the axis of slots, and its task; after :meth:`start`."""
        assert self.memory is not None
        state = State(**{name: array[slot] for name, array in vars(self.physics.state).items()})
        return state, _like(self.memory, [array[slot] for array in self.memory]), int(self.task_ids[slot])

    def snapshot(self) -> dict[str, Any]:
        """Where all episodes stand: plain values and arrays that nothing else refers to.

        :raises NotImplementedError: if the task set's own physics has no ``snapshot``
        """
        if not hasattr(self.physics, "snapshot"):
            raise NotImplementedError(f"{self.task_set.name}: {type(self.physics).__name__} has no snapshot().")
        slots = range(len(self))
        return {
            "task_set": self.task_set.name,
            "task_ids": self.task_ids.copy(),
            "physics": self.physics.snapshot(),
            "memory": None if self.memory is None else [np.array(array) for array in self.memory],
            "generators": [_state(self.generators.get(slot)) for slot in slots],
            "task_generators": [_state(self.task_generators.get(slot)) for slot in slots],
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Resume where a :meth:`snapshot` was taken, of these slots or of new ones like them.

        :raises ValueError: if it is of another task set, or of more or fewer slots
        """
        given = snapshot["task_set"], len(snapshot["task_ids"])
        if given != (self.task_set.name, len(self)):
            raise ValueError(
                f"The snapshot is of {given[1]} slots of {given[0]}; these are {len(self)} of {self.task_set.name}."
            )
        self.task_ids[:] = snapshot["task_ids"]
        self.physics.restore(snapshot["physics"])
        self.generators = _generators(snapshot["generators"])
        self.task_generators = _generators(snapshot["task_generators"])
        self.memory = None if snapshot["memory"] is None else self._remember(snapshot["memory"])

    def _remember(self, arrays: Sequence[np.ndarray]) -> Memory:
        """A memory with these arrays, of the kind that the family's fresh episodes have."""
        draws = np.stack([self.task_set.draw_reset(np.random.default_rng(0)) for _ in range(len(self))])
        kind = self.task_set.initial_memory(self.physics.state.rows(np.arange(len(self))), self.task_ids, draws)
        return _like(kind, [np.array(array) for array in arrays])

    def close(self) -> None:
        """End what the physics has running; the episodes are over."""
        self.physics.close()

    def _check(self, actions: np.ndarray) -> np.ndarray:
        """Actions as float64, inside the action space."""
        actions = np.asarray(actions)
        if actions.shape != self._shape:
            raise ValueError(f"{self.task_set.name} expects actions of shape {self._shape}, got {actions.shape}.")
        actions = np.minimum(np.maximum(actions, self._low), self._high)  # float64, as the limits are
        if math.isnan(np.vdot(actions, actions)):
            rows = np.flatnonzero(np.isnan(actions).any(axis=1))
            raise ValueError(f"The action contains NaN (slots {rows.tolist()}): {actions[rows].tolist()}.")
        return actions

    def _noise(self) -> np.ndarray:
        """The numbers ``(slots, noise_size)`` of one step."""
        size = self.task_set.noise_size
        if not size:
            return self._no_noise
        return np.stack([self.generators[slot].uniform(-1.0, 1.0, size) for slot in range(len(self))])

    def _observe(self, state: State, memory: Memory, task_ids: np.ndarray) -> np.ndarray:
        observations = self.task_set.observe(state, memory, task_ids)
        if self._one_hot is not None:
            observations = np.concatenate([observations, self._one_hot[task_ids]], axis=1)
        return observations


def _replaced(memory: Memory, slots: np.ndarray, fresh: Memory) -> Memory:
    """The memory with the rows of ``slots`` replaced, in new arrays: others may hold the old ones."""
    arrays = [array.copy() for array in memory]
    for array, rows in zip(arrays, fresh, strict=True):
        array[slots] = rows
    return _like(memory, arrays)


def _like(memory: Memory, arrays: Sequence[np.ndarray]) -> Memory:
    """A memory of the same kind, with other arrays."""
    return type(memory)(*arrays) if hasattr(memory, "_fields") else tuple(arrays)


def _state(generator: np.random.Generator | None) -> dict[str, Any] | None:
    return None if generator is None else deepcopy(dict(generator.bit_generator.state))


def _generators(states: Sequence[Mapping[str, Any] | None]) -> dict[int, np.random.Generator]:
    """Generators that continue from these states, by slot; none where there was none."""
    generators = {}
    for slot, state in enumerate(states):
        if state is not None:
            generators[slot] = np.random.default_rng(0)
            generators[slot].bit_generator.state = state
    return generators


def with_one_hot(space: spaces.Box, num_tasks: int) -> spaces.Box:
    """An observation space with the task id appended as a one-hot vector."""
    dtype: Any = space.dtype
    low = np.concatenate([space.low, np.zeros(num_tasks, dtype)])
    high = np.concatenate([space.high, np.ones(num_tasks, dtype)])
    return spaces.Box(low, high, dtype=dtype)


def check_options(options: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> None:
    """Refuse reset options that would be ignored."""
    for name in options or ():
        if name not in allowed:
            raise ValueError(f"Unknown reset option {name!r}; allowed are {', '.join(map(repr, allowed))}.")


def _given(options: Mapping[str, Any], name: str, drawn: np.ndarray) -> np.ndarray:
    if options.get(name) is None:
        return drawn
    given = np.asarray(options[name], np.float64)
    if given.shape not in (drawn.shape, drawn.shape[1:]):
        raise ValueError(
            f"reset option {name!r} must have shape {drawn.shape[1:]} or {drawn.shape}, got {given.shape}."
        )
    if not np.isfinite(given).all():
        raise ValueError(f"reset option {name!r} must be finite, got {given.tolist()}.")
    return np.broadcast_to(given, drawn.shape)
