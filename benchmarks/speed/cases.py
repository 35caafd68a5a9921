"""The table of everything that is measured."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import qmp_envs
from benchmarks.speed import environments, learners, methods, training
from benchmarks.speed.interleaved import Case

STEPS_PER_CALL = {1: 10, 5: 10, 10: 10, 50: 2}
"""Gradient steps in one call of ``train``, by the number of tasks."""
UPDATES = ((1, 32), (5, 32), (10, 32), (50, 32), (1, 256), (5, 256), (10, 256))  # tasks, batch
TASKS = (1, 5, 10, 50)
SLOTS = {
    "QMP/MultistageReacher-v0": (5, 10, 50),
    "QMP/Walker2D-v0": (4, 12, 48),
    "QMP/HalfCheetahGravity-v0": (5, 10, 50),
}
"""Numbers of slots that are stepped as one batch, where not one per task alone."""
TRAINING_EVERY = (1, 10)  # vector steps between updates
OVERHEAD = {"QMP/MultistageReacher-v0": 5, "QMP/Maze-v0": 10}
METHOD_TASKS = (5, 10, 50)
EPISODES = 10  # of every task, in an evaluation


def short(id: str) -> str:
    """``"QMP/Maze-v0"`` -> ``"Maze"``."""
    return id.removeprefix("QMP/").removesuffix("-v0")


def count(number: int, thing: str) -> str:
    """``"1 task"``, ``"5 tasks"``"""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def slots_of(id: str) -> tuple[int, ...]:
    """The batches that are measured of an id."""
    return SLOTS.get(id, (len(qmp_envs.task_names(id)),))


def _learner_cases() -> Iterator[Case]:
    for tasks, batch in UPDATES:
        build = partial(learners.update, tasks, batch, STEPS_PER_CALL[tasks])
        yield Case(
            "update", f"{count(tasks, 'task')}, batch {batch}", build, "gradient step of all tasks", learners.SEPARATE
        )
    for tasks in TASKS[1:]:
        build = partial(learners.q_switch, tasks)
        yield Case("q-switch", f"{tasks} tasks", build, "action of every task", learners.LOOPED)
    for tasks in TASKS:
        build = partial(learners.replay_add, tasks)
        yield Case("replay add", count(tasks, "task"), build, "transition of every task", learners.SEPARATE_BUFFERS)
    for tasks in TASKS:
        build = partial(learners.replay_sample, tasks, 32)
        yield Case(
            "replay sample",
            f"{count(tasks, 'task')}, batch 32",
            build,
            "batch of every task",
            learners.SEPARATE_BUFFERS,
        )


def _environment_cases() -> Iterator[Case]:
    ids = qmp_envs.ids()
    for id in ids:
        build = partial(environments.single_step, id)
        yield Case("env step", short(id), build, "step of one environment", environments.single_peer(id))
    for id in ids:
        for slots in slots_of(id):
            build = partial(environments.vector_step, id, slots)
            yield Case(
                "vector step", f"{short(id)}, {count(slots, 'slot')}", build, "step of all slots", environments.DUMMY
            )
    for id in ids:
        slots = slots_of(id)[0]
        build = partial(environments.construction, id, slots)
        yield Case(
            "construction", f"{short(id)}, {count(slots, 'slot')}", build, "make, reset, close", environments.DUMMY
        )


def _training_cases() -> Iterator[Case]:
    for every in TRAINING_EVERY:
        steps = "vector step" if every == 1 else f"{every} vector steps"
        build = partial(training.training, every)
        yield Case("training", f"Reacher, 1 update per {steps}", build, "vector step", training.SEPARATE)
    for id, tasks in OVERHEAD.items():
        build = partial(training.method_training, id, "qmp", methods.BASE)
        yield Case("overhead of qmp", f"{short(id)}, {tasks} tasks", build, "vector step", methods.BASE)
    name, build = f"Reacher, {EPISODES} episodes of 5 tasks", partial(training.evaluation, EPISODES)
    yield Case("evaluation", name, build, "evaluation", training.ONE_BY_ONE)


def _method_cases() -> Iterator[Case]:
    for name in methods.names():
        for tasks in METHOD_TASKS:
            build = partial(methods.action, name, tasks)
            yield Case("method action", f"{name}, {tasks} tasks", build, "action of every task", methods.BASE)
    for name in methods.names():
        for tasks in METHOD_TASKS if not methods.behaves_only(name) else ():
            build = partial(methods.update, name, tasks)
            yield Case("method update", f"{name}, {tasks} tasks", build, "gradient step of all tasks", methods.BASE)


@cache
def all_cases() -> tuple[Case, ...]:
    """Everything that can be measured; cases of one kind follow one another."""
    return (*_learner_cases(), *_environment_cases(), *_training_cases(), *_method_cases())


ON_REQUEST = ("method action", "method update")
"""Kinds that have to be asked for: they are many, and change rarely."""
KINDS = (
    *("update", "q-switch", "replay add", "replay sample", "env step", "vector step", "construction"),
    *("training", "overhead of qmp", "evaluation", *ON_REQUEST),
)
