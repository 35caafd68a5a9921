"""What two models, or two runs, must have in common when one of them was stopped and went on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from qmp_envs.results.table import Results
from qmp_sb3 import MultiTaskSAC
from qmp_sb3.algorithms.training_state import training_state
from qmp_sb3.experiments import Checkpoints, RunDirectory, RunSpec
from qmp_sb3.experiments.runs.mixture import Mixture
from qmp_sb3.experiments.runs.run import make_model
from qmp_sb3.serialization.encoding import Encoder
from qmp_sb3.vec_env.environment_state import EnvironmentState


def assert_equal(one, other, path="value") -> None:
    """Equal to the bit, of whatever kind: NaN equals NaN, and types count."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, values in enumerate(zip(one, other, strict=True)):
            assert_equal(*values, f"{path}/{number}")
    elif isinstance(one, th.Tensor):
        assert one.dtype == other.dtype and th.equal(one, other), path
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, err_msg=path)
        assert one.dtype == other.dtype, path
    else:
        assert one == other or (one != one and other != other), f"{path}: {one!r} and {other!r}"


def state_of(model: MultiTaskSAC) -> dict:
    """Everything that a model's future depends on, and what it remembers of its past."""
    environment = EnvironmentState.of(model.env).plain
    for layer in environment or []:
        layer.pop("seconds", None)
    streams = {name: getattr(model.streams, name) for name in vars(model.streams) if name != "seed"}
    temperatures = model.log_ent_coef if model.log_ent_coef is not None else model.ent_coef_tensor
    training = training_state(model)
    for name in ("numpy", "python", "torch"):  # global: both models of a test draw from the same
        del training["generators"][name]
    return {
        "parameters": model.get_parameters(),
        "temperatures": temperatures.detach(),
        "rows": model.replay_buffer.table[: model.replay_buffer.size()],
        "training": training,
        "environment": environment,
        "streams": {
            name: one.get_state() if isinstance(one, th.Generator) else one.bit_generator.state
            for name, one in streams.items()
        },
        "observations": model._last_obs,
        "counters": (model.num_timesteps, model._n_updates, model._episode_num),
        "parts": encoded(
            [model.behavior, model._logged_counts, model.hooks, model.sharing, model.draw, model.regularizer]
        ),
        "statistics": encoded(model.statistics),
        "episodes": [(info["r"], info["l"]) for info in model.ep_info_buffer or []],
    }


def encoded(value: object) -> tuple:
    """All that an object consists of: its JSON and its arrays."""
    arrays: dict[str, np.ndarray] = {}
    return Encoder(arrays).encode(value), arrays


class SaveAt(BaseCallback):
    """Saves checkpoints before the first rollouts that begin at some steps or later."""

    def __init__(self, checkpoints: Checkpoints, *steps: int) -> None:
        super().__init__()
        self.checkpoints, self.steps, self.saved = checkpoints, list(steps), []

    def _on_rollout_start(self) -> None:
        if self.steps and self.model.num_timesteps >= self.steps[0]:
            self.steps.pop(0)
            assert isinstance(self.model, MultiTaskSAC)
            self.saved.append(self.checkpoints.save(self.model))

    def _on_step(self) -> bool:
        return True


def assert_same_end(one: Path, other: Path) -> None:
    """Two finished runs of one spec have the same end: all that they hold, but times."""
    results = [RunDirectory(path).result() for path in (one, other)]
    for result in results:
        assert result is not None
        del result["seconds"]
    assert_equal(*results, "result.json")
    with np.load(one / "evaluations.npz") as left, np.load(other / "evaluations.npz") as right:
        assert_equal(dict(left), dict(right), "evaluations.npz")
    left, right = (Results.read(path).table.drop_columns("seconds") for path in (one, other))
    assert left.equals(right), "results.parquet"
    if RunDirectory(one).mixture.is_file():
        left, right = (Mixture.read(path) for path in (one, other))
        assert_equal((left.steps, left.acted), (right.steps, right.acted), "mixture.parquet")
    for name in ("final_model.zip", "best_model.zip"):
        left, right = (MultiTaskSAC.load(path / name, device="cpu") for path in (one, other))
        assert_equal(left.get_parameters(), right.get_parameters(), name)
        assert left.num_timesteps == right.num_timesteps
    assert_equal(state_of(last_of(one)), state_of(last_of(other)), "the last checkpoint")


def last_of(path: Path) -> MultiTaskSAC:
    """The model of a run's last checkpoint, with its replay buffers and environments."""
    directory = RunDirectory(path)
    checkpoint = directory.latest_checkpoint()
    assert checkpoint is not None
    return directory.checkpoints.restore(make_model(RunSpec.from_dict(directory.config()["run"])), checkpoint)[0]
