"""What training depends on besides a saved model: replay, environments, and the generators that belong to neither."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger

from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.replay import increments
from qmp_sb3.vec_env.environment_state import EnvironmentState


def training_state(model: MultiTaskOffPolicyAlgorithm) -> dict[str, Any]:
    """Between two rollouts: what ``model.save`` leaves out, but the environments and the replay buffers' rows.

    The values are plain. ``model.save`` has the rest: parameters, optimizers, targets, counters, the model's own random
    streams, behavior, hooks and episode statistics, and the last observations.
    """
    return {"replay": increments.snapshot(model.replay_buffer), "generators": _generators(model)}


def resume(
    model: MultiTaskOffPolicyAlgorithm,
    state: Mapping[str, Any],
    rows: Iterable[increments.Rows],
    environment: EnvironmentState,
) -> bool:
    """Make a model that was loaded with ``force_reset=False`` resume as the saved one would have gone on.

    :param model: with an environment that was made like that one's
    :param state: by :func:`training_state`
    :param rows: of the replay buffers, oldest first
    :param environment: where the environment stood
    :return: whether the episodes are resumed, too; else they begin anew with the next ``learn``
    """
    assert model.env is not None
    increments.restore(model.replay_buffer, state["replay"], rows)
    resumed = environment.restore(model.env)
    if resumed:
        model.resume_episodes()
    else:
        model.begin_episodes()
    _restore_generators(model, state["generators"])
    return resumed


def pending_log(logger: Logger) -> dict[str, Any]:
    """What was recorded since the logger last wrote, as plain values."""
    known = {key: value for key, value in logger.name_to_value.items() if isinstance(value, np.ScalarType)}
    return {
        "values": known,
        "counts": {key: count for key, count in logger.name_to_count.items() if key in known},
        "excluded": {key: list(names) for key, names in logger.name_to_excluded.items() if key in known},
    }


def restore_pending_log(logger: Logger, pending: Mapping[str, Any]) -> None:
    """The reverse of :func:`pending_log`."""
    logger.name_to_value.update(pending["values"])
    logger.name_to_count.update(pending["counts"])
    logger.name_to_excluded.update({key: tuple(names) for key, names in pending["excluded"].items()})


def _generators(model: MultiTaskOffPolicyAlgorithm) -> dict[str, Any]:
    """Random actions before learning come from the action space; SB3's action noise draws from NumPy's global numbers,
    and a user's own parts may draw from the other global ones.
    """
    states: dict[str, Any] = {
        "actions": dict(model.action_space.np_random.bit_generator.state),
        "initial_weights": model.streams.initial_weights.get_state(),  # loading a model draws from it once more
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        "python": random.getstate(),
        "torch": th.get_rng_state(),
    }
    return states | ({"cuda": th.cuda.get_rng_state(model.device)} if model.device.type == "cuda" else {})


def _restore_generators(model: MultiTaskOffPolicyAlgorithm, states: Mapping[str, Any]) -> None:
    model.action_space.np_random.bit_generator.state = states["actions"]
    model.streams.initial_weights.set_state(states["initial_weights"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["python"])
    th.set_rng_state(states["torch"])
    if "cuda" in states and model.device.type == "cuda":
        th.cuda.set_rng_state(states["cuda"], model.device)
