"""The table of environments: id, task set, reward version. A family joins the suite by a line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import gymnasium as gym

from qmp_envs.suggestions import closest
from qmp_envs.task_set import TaskSet


@dataclass(frozen=True)
class Entry:
    """One registered environment."""

    id: str
    task_set: str
    """``"module:class"`` of the task set."""
    horizon: int
    """Time limit in steps."""
    summary: str
    """One line for lists."""
    reward: str
    """Where the reward comes from; part of what makes results comparable."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the task set that belong to the id."""
    costly: bool = False
    """A step takes a good part of a millisecond, or a reset several: quick tests run a sample of tasks and steps."""


ENTRIES: dict[str, Entry] = {
    entry.id: entry
    for entry in (
        Entry(
            id="QMP/MultistageReacher-v0",
            task_set="qmp_envs.task_sets.reacher:MultistageReacher",
            horizon=200,
            summary="a six-joint arm touches three subgoals in order (4 tasks) or stays (1 task)",
            reward="released code of QMP",
        ),
        Entry(
            id="QMP/Walker2D-v0",
            task_set="qmp_envs.task_sets.walker:Walker2D",
            horizon=1000,
            summary="a walker on two legs goes forward, goes backward, balances, or crawls below a ceiling",
            reward="released code of QMP; no pushes",
        ),
        Entry(
            id="QMP/Maze-v0",
            task_set="qmp_envs.task_sets.maze:Maze",
            horizon=600,
            summary="a ball is pushed along ten routes through a large maze",
            reward="released code of QMP, dense",
        ),
        Entry(
            id="QMP/HalfCheetahGravity-v0",
            task_set="qmp_envs.task_sets.cheetah:HalfCheetahGravity",
            horizon=1000,
            summary="a cheetah runs under five gravities (5 tasks; results are returns)",
            reward="Gymnasium's HalfCheetah-v5, unscaled",
        ),
        Entry(
            id="QMP/HalfCheetahBody-v0",
            task_set="qmp_envs.task_sets.cheetah:HalfCheetahBody",
            horizon=1000,
            summary="a cheetah runs with eight bodies (8 tasks; results are returns)",
            reward="Gymnasium's HalfCheetah-v5, unscaled",
        ),
        Entry(
            id="QMP/Point2D-v0",
            task_set="qmp_envs.task_sets.point:Point2D",
            horizon=20,
            summary="a point crosses an empty square (1 task)",
            reward="exp(-distance), this project's choice",
        ),
        Entry(
            id="QMP/Kitchen-v0",
            task_set="qmp_envs.task_sets.kitchen.task_set:Kitchen",
            horizon=140,
            summary="a Franka arm opens, closes and switches things in a kitchen (10 tasks; extra: robotics)",
            reward="released code of QMP, dense, with its bonus for success",
            costly=True,
        ),
        Entry(
            id="QMP/MetaWorldCDS-v0",
            task_set="qmp_envs.task_sets.metaworld_cds.task_set:MetaWorldCDS",
            horizon=500,
            summary="a Sawyer arm opens and closes a door and a drawer in one scene (4 tasks; extra: metaworld)",
            reward="Meta-World 3.1.1, v2",
            costly=True,
        ),
        *(
            Entry(
                id=f"QMP/MT{tasks}-v0",
                task_set="qmp_envs.task_sets.metaworld.task_set:MetaWorld",
                horizon=500,
                summary="a Sawyer arm pushes, opens, presses and places things "
                f"(Meta-World's {tasks} tasks; extra: metaworld)",
                reward="Meta-World 3.1.1, v2",
                kwargs={"benchmark": f"MT{tasks}"},
                costly=True,
            )
            for tasks in (10, 25, 50)
        ),
    )
}


DRIVER_OPTIONS = (
    *("task", "render_mode", "camera", "width", "height", "task_one_hot"),
    *("num_envs", "max_episode_steps", "workers"),
)
"""Arguments of the environments that are not options of a task set."""


OTHER_WORDS = {"horizon": "max_episode_steps", "episode_length": "max_episode_steps", "one_hot": "task_one_hot"}
"""What other packages call some of them."""


DRIVER = "qmp_envs.drivers.env:TaskSetEnv"
BATCHED_DRIVER = "qmp_envs.drivers.vector:BatchedTaskSetEnv"


def ids() -> tuple[str, ...]:
    """Every id of this suite that ``gym.make`` and ``gym.make_vec`` accept."""
    return tuple(ENTRIES)


def entry(id: str) -> Entry:
    """The table's line for an id; for one that :func:`register_task_set` made, what Gymnasium knows of it.

    :param id: may name the module to import first, as for ``gym.make``: ``"my_tasks:Mine/Pair-v0"``
    """
    module, _, plain = id.rpartition(":")
    if module:
        import_module(module)
    if plain in ENTRIES:
        return ENTRIES[plain]
    spec = gym.registry.get(plain)
    if spec is None or spec.entry_point != DRIVER:
        what = "Unknown id" if spec is None else "No task set:"
        raise ValueError(f"{what} {id!r}; did you mean {closest(plain, ids())!r}? Ids: {', '.join(ids())}.")
    kwargs = dict(spec.kwargs)
    task_set = kwargs.pop("task_set")
    return Entry(plain, task_set, spec.max_episode_steps or 0, f"from {task_set}", f"that of {task_set}", kwargs)


def is_task_set(id: str) -> bool:
    """Whether a task set is behind an id, one of this suite or of :func:`register_task_set`."""
    try:
        entry(id)
    except (ValueError, ImportError):
        return False
    return True


def register_task_set(id: str, task_set: str, horizon: int, **kwargs: Any) -> None:
    """Give a task set of your own an id, for ``gym.make``, ``gym.make_vec``, ``qmp_envs.evaluate`` and ``qmp``.

    :param id: ``"Namespace/Name-v0"``
    :param task_set: ``"module:class"`` of a :class:`~qmp_envs.task_set.TaskSet`; a text, so that the environment can be
        pickled and made anew from its spec
    :param horizon: time limit in steps
    :param kwargs: arguments of the class that belong to the id
    :raises ValueError: if the id is taken, or ``task_set`` is not of that form
    """
    if not (isinstance(task_set, str) and all(task_set.partition(":"))):
        raise ValueError(f"task_set is {task_set!r}; it must be 'module:class', as 'my_tasks:Pair'")
    if id in gym.registry:
        raise ValueError(f"the id {id!r} is taken; choose another one or raise its version")
    if horizon < 1:
        raise ValueError(f"horizon is {horizon}; it must be at least 1 step")
    _register(id, horizon, {"task_set": task_set, **kwargs})


def make_task_set(id: str, **kwargs: Any) -> TaskSet:
    """The task set behind an id, without an environment around it.

    :param kwargs: as for ``gym.make`` and ``gym.make_vec``; what concerns the environment alone has no effect here
    """
    options = {name: value for name, value in kwargs.items() if name not in DRIVER_OPTIONS}
    about = entry(id)
    if about.id in ENTRIES:
        return build(about.id, **options)
    return build(about.task_set, **{**about.kwargs, **options})


def check_options(id: str, options: Iterable[str]) -> None:
    """Raise a TypeError unless all of these are options of the id's task set or of the environment around it.

    Gymnasium's own keywords and the task set itself are refused: they name code to import, which a settings file
    must not do.
    """
    about = entry(id)
    given = [option for option in options if option not in DRIVER_OPTIONS]
    name = about.task_set.rpartition(":")[2]
    reserved = {*inspect.signature(gym.make).parameters, *inspect.signature(gym.make_vec).parameters, "task_set"}
    for option in given:
        if option in reserved:
            raise TypeError(f"{option!r} is no option of {name}: it belongs to gym.make")
    if given:
        _refuse_unknown(name, _constructor(about.task_set), about.kwargs, given)


def task_names(id: str, **kwargs: Any) -> tuple[str, ...]:
    """The names of an id's tasks, in the order of their ids."""
    return make_task_set(id, **kwargs).task_names


def build(task_set: str | TaskSet, **options: Any) -> TaskSet:
    """A task set from an id of the suite, or its ``"module:class"``, and options of its constructor.

    A finished task set is handed back.
    """
    if isinstance(task_set, TaskSet):
        if options:
            raise TypeError(f"Options {', '.join(options)} were given together with a finished task set.")
        return task_set
    fixed: Mapping[str, Any] = {}
    if task_set in ENTRIES:
        fixed, task_set = ENTRIES[task_set].kwargs, ENTRIES[task_set].task_set
    constructor = _constructor(task_set)
    _refuse_unknown(task_set.rpartition(":")[2], constructor, fixed, options)
    return constructor(**fixed, **options)


def _constructor(task_set: str) -> Callable[..., TaskSet]:
    module, _, name = task_set.partition(":")
    return getattr(import_module(module), name)


def _refuse_unknown(
    name: str, constructor: Callable[..., TaskSet], fixed: Mapping[str, Any], options: Iterable[str]
) -> None:
    allowed = [option for option in inspect.signature(constructor).parameters if option not in fixed]
    for option in options:
        if option not in allowed:
            known = [*DRIVER_OPTIONS, *allowed]
            if option in fixed:
                raise TypeError(f"{option!r} is {fixed[option]!r} in this id: another id has another one.")
            if option in DRIVER_OPTIONS:
                raise TypeError(f"{option!r} is an option of gym.make_vec, gym.make has none of that name.")
            meant = OTHER_WORDS.get(option) or closest(option, known)
            raise TypeError(f"{name} has no option {option!r}; did you mean {meant!r}? Options: {', '.join(known)}.")


def register() -> None:
    """Make every id known to Gymnasium."""
    for one in ENTRIES.values():
        if one.id not in gym.registry:
            _register(one.id, one.horizon, {"task_set": one.id})


def _register(id: str, horizon: int, kwargs: dict[str, Any]) -> None:
    gym.register(id=id, entry_point=DRIVER, vector_entry_point=BATCHED_DRIVER, max_episode_steps=horizon, kwargs=kwargs)
