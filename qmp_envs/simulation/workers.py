"""Worker processes that step slots, for physics written in Python, where threads would wait for one another."""

from __future__ import annotations

import os
import pickle
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qmp_envs.simulation.physics import Physics, State
from qmp_envs.simulation.shared_arrays import anonymous_file
from qmp_envs.simulation.worker_process import CALL, STEPS, Call, WorkerProcess, moments_of, publish


def in_workers(
    make: Callable[[np.ndarray], Physics],
    task_ids: np.ndarray,
    workers: int,
    task_names: Sequence[str],
    control_size: int,
) -> Physics:
    """The physics ``make(task_ids)``, in ``workers`` processes at the same time, this one among them.

    :param make: makes the physics of some slots; has to be picklable, so it lives in a module
    :param task_names: all names of the task set, for errors
    :param control_size: actuator inputs per slot
    """
    workers = min(workers, len(task_ids))
    if workers == 1 or os.name != "posix":  # elsewhere a process cannot hand its open files to a new one
        return make(task_ids)
    recipes = [partial(make, task_ids[first::workers]) for first in range(workers)]
    tasks = [[task_names[i] for i in np.unique(task_ids[first::workers])] for first in range(workers)]
    return WorkerPhysics(recipes, tasks, len(task_ids), control_size)


class WorkerPhysics:
    """Slot ``i`` is stepped by part ``i % parts``; part 0 is this process, each other part a worker process.

    So neighbors, which often cost the same, are shared out evenly, and copies of a task meet in one process when the
    number of tasks is a multiple of the number of parts. Every random number is drawn by the caller, so the results
    are the same for any number of parts.

    :param recipes: one per part, makes its physics
    :param tasks: the names of each part's tasks
    """

    def __init__(
        self,
        recipes: Sequence[Callable[[], Physics]],
        tasks: Sequence[Sequence[str]],
        slots: int,
        control_size: int,
    ) -> None:
        self._tasks, self._slots, self._control_size = tasks, slots, control_size
        self._now = 0
        self._workers: list[WorkerProcess] = []
        self._close = weakref.finalize(self, _end, self._workers)
        memory = anonymous_file()
        try:
            self._start(recipes, memory)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(memory)

    def _start(self, recipes: Sequence[Callable[[], Physics]], memory: int) -> None:
        """Build all parts at the same time, and connect them."""
        parts = len(recipes)
        self._workers.extend(WorkerProcess(names, memory) for names in self._tasks[1:])
        build: list[Call] = [("build", (recipe,)) for recipe in recipes[1:]]
        self._own: Physics = self._run(CALL, build, recipes[0])[0]
        state = {
            name: ((self._slots, *array.shape[1:]), array.dtype.str) for name, array in vars(self._own.state).items()
        }
        layouts = [{"control": ((self._slots, self._control_size), "<f8")}, state, state]
        control, *moments = moments_of(memory, layouts)
        self._control = control["control"]
        self._moments = [State(**arrays) for arrays in moments]
        self._own_rows = [{name: array[::parts] for name, array in arrays.items()} for arrays in moments]
        self._run(CALL, [("attach", (layouts, slice(part, None, parts))) for part in range(1, parts)])

    @property
    def state(self) -> State:
        return self._moments[self._now]

    def place(self, slots: np.ndarray, task_ids: np.ndarray, *start: np.ndarray) -> None:
        self._share("place", slots, lambda rows: (task_ids[rows], *(array[rows] for array in start)))

    def lead(self, slots: np.ndarray, controls: Sequence[np.ndarray]) -> None:
        self._share("lead", slots, lambda rows: ([controls[row] for row in rows],))

    def step(self, control: np.ndarray) -> State:
        following = 1 - self._now
        self._control[...] = control
        own = control[:: len(self._tasks)]
        self._run(STEPS[following], None, lambda: publish(self._own.step(own), self._own_rows[following]))
        self._now = following
        return self.state

    def snapshot(self) -> list[dict[str, Any]]:
        """In the order of the slots, however many parts they are spread over."""
        if not hasattr(self._own, "snapshot"):
            raise NotImplementedError(f"{type(self._own).__name__} has no snapshot().")
        parts = self._run(CALL, [("snapshot", ())] * len(self._workers), self._own.snapshot)
        return [parts[slot % len(parts)][slot // len(parts)] for slot in range(self._slots)]

    def restore(self, slots: Sequence[Mapping[str, Any]]) -> None:
        parts, now = len(self._tasks), self._now

        def own() -> None:
            self._own.restore(slots[::parts])
            publish(self._own.state, self._own_rows[now])

        self._run(CALL, [("restore", (now, slots[part::parts])) for part in range(1, parts)], own)

    def close(self) -> None:
        self._close()
        self._own.close()

    def _share(self, method: str, slots: np.ndarray, arguments: Callable[[np.ndarray], tuple[Any, ...]]) -> None:
        """Call a method in every part that has some of the slots, with the arguments for those rows."""
        parts, now = len(self._tasks), self._now
        rows = [np.flatnonzero(slots % parts == part) for part in range(parts)]

        def own() -> None:
            if len(rows[0]):
                getattr(self._own, method)(slots[rows[0]] // parts, *arguments(rows[0]))
                publish(self._own.state, self._own_rows[now])

        calls = [(method, (now, slots[some] // parts, *arguments(some))) if len(some) else None for some in rows[1:]]
        self._run(CALL, calls, own)

    def _run(
        self, kind: bytes, calls: Sequence[Call | None] | None, own: Callable[[], Any] = lambda: None
    ) -> list[Any]:
        """Let the workers follow an order while this process does its ``own`` part; returns all results.

        All are waited for, also when one raises; the first exception is raised then.
        """
        workers = self._workers
        if calls is None:
            for worker in workers:
                worker.order(kind)
        else:
            workers = [worker for worker, call in zip(workers, calls, strict=True) if call is not None]
            for worker, call in zip(workers, filter(None, calls), strict=True):
                worker.order(kind, call)
        results, failures = [], []
        try:
            results.append(own())
        except Exception as error:
            error.add_note(f"raised while stepping the tasks {', '.join(map(repr, self._tasks[0]))}")
            failures.append(error)
        for worker in workers:
            try:
                results.append(worker.finish())
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return results

    def __getstate__(self) -> dict[str, Any]:
        parts = self._run(CALL, [("pickled", ())] * len(self._workers), partial(pickle.dumps, self._own))
        return {
            "recipes": [partial(pickle.loads, part) for part in parts],
            "tasks": self._tasks,
            "slots": self._slots,
            "control_size": self._control_size,
            "moments": [{name: array.copy() for name, array in vars(moment).items()} for moment in self._moments],
            "now": self._now,
        }

    def __setstate__(self, saved: dict[str, Any]) -> None:
        moments, now = saved.pop("moments"), saved.pop("now")
        self.__init__(**saved)  # type: ignore[misc]
        for moment, arrays in zip(self._moments, moments, strict=True):
            publish(State(**arrays), vars(moment))
        self._now = now


def _end(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        worker.end()
