"""What a saved replay buffer has to be: compiled code reads the table where sizes and layouts say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.preprocessing import get_action_dim, get_flattened_obs_dim

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.replay.allocations import Allocation
from qmp_sb3.replay.draws import Draw
from qmp_sb3.replay.n_step import NStepSums
from qmp_sb3.replay.priorities import Priorities
from qmp_sb3.replay.row_format import RowFormat


def checked(state: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a buffer that was saved, with what follows from them computed anew.

    :param state: attributes, and the rows in use ``_used`` ``(rows, tasks, width)``
    :raises ValueError: if they do not belong together
    """
    found = dict(state)
    features, action_dim = get_flattened_obs_dim(found["observation_space"]), get_action_dim(found["action_space"])
    form = RowFormat(features, action_dim, dict(found["columns"]))
    layout, tasks, size = found["layout"], found["n_tasks"], found["buffer_size"]
    for name, kind in (
        ("layout", TaskLayout),
        ("replay", Allocation),
        ("draw", Draw),
        ("rng", np.random.Generator),
        ("n_step_sums", NStepSums),
        ("n_tasks", int),
        ("buffer_size", int),
    ):
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} is a {type(found[name]).__name__}, not a {kind.__name__}")
    _require(tasks >= 1 and size >= 1, f"there are {size} rows of {tasks} tasks")
    _require((layout.n_tasks, len(layout.tasks)) == (tasks, found["n_envs"]), "the slots' tasks are others")
    for name, most in (("positions", size - 1), ("sizes", size)):
        numbers = _numbers(found[name], name, (tasks,), np.int64)
        _require(bool(((numbers >= 0) & (numbers <= most)).all()), f"{name} are {numbers.tolist()}, at most {most}")
    written = _numbers(found["written"], "the rows ever written", (tasks,), np.int64)
    _require(np.array_equal(np.minimum(written, size), found["sizes"]), "fewer rows were ever written than there are")
    rows = int(found["sizes"].max())
    _numbers(found["_used"], "the rows", (rows, tasks, form.width), np.float32)
    sums = found["n_step_sums"]
    _numbers(sums.rows, "the rows that wait", (found["n_envs"], found["n_steps"], form.width), np.float32)
    sums.form = form
    priorities = found["priorities"]
    if priorities is not None:
        fits = isinstance(priorities, Priorities) and (priorities.trees.rows, priorities.trees.tasks) == (size, tasks)
        _require(fits, "the priorities are of other rows")
    following: dict[str, Any] = dict(
        features=features,
        action_dim=action_dim,
        form=form,
        obs_shape=found["observation_space"].shape or (),
        _added=np.bincount(layout.tasks, minlength=tasks),
        _staged={},
    )
    return found | following


def _numbers(value: Any, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
        form = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{name} are {form}, not {np.dtype(dtype)} {shape}")
    return value


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
