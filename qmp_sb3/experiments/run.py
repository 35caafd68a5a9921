"""One training run, from nothing or from its last checkpoint. Calling it again on a finished run does nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat

import qmp_envs
from qmp_envs.evaluation import Evaluation
from qmp_envs.registry import entry
from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.evaluation import MultiTaskEvalCallback
from qmp_sb3.experiments.live import Display, mean
from qmp_sb3.experiments.provenance import git_revision, machine, versions
from qmp_sb3.experiments.run_directory import Checkpoint, RunDirectory, replace
from qmp_sb3.experiments.run_spec import RunSpec

EVALUATION_SEED_OFFSET = 1_000_003
"""Evaluation episodes are drawn from other seeds than training episodes."""


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands after :func:`run`: finished, or stopped with a checkpoint."""

    finished: bool
    steps: int
    seconds: float
    evaluation: Evaluation | None


def run(
    spec: RunSpec,
    path: str | os.PathLike[str],
    display: Display | None = None,
    should_stop: Callable[[], bool] = bool,
) -> RunStatus:
    """Bring the run ``spec`` in the folder ``path`` to its end.

    A new folder is filled; a folder with an unfinished run of the same spec goes on from its newest whole checkpoint;
    a finished one is left alone.

    :param spec: what to train
    :param path: the run directory
    :param display: is told about progress
    :param should_stop: asked before every rollout; True saves a checkpoint and returns
    :raises ValueError: before anything is written, if the spec or the folder is not usable
    """
    directory = RunDirectory(path)
    refuse_other_content(directory, spec)
    result = directory.result()
    if result is not None:
        return RunStatus(True, result["steps"], result["seconds"], None)

    model = make_model(spec)
    checkpoint = directory.latest_checkpoint()
    if checkpoint is not None:
        model = restore(model, checkpoint)
    if not directory.is_run:
        directory.write_config(describe(spec))
    return _train(spec, directory, model, checkpoint, display or Display(), should_stop)


def extend(path: str | os.PathLike[str], steps: int) -> RunSpec:
    """Give the run in ``path`` a later end; a finished run becomes unfinished.

    :param steps: new total number of environment steps
    """
    directory = RunDirectory(path)
    config = directory.config()
    spec = RunSpec.from_dict(config["run"])
    if steps < spec.steps:
        raise ValueError(f"the run has {spec.steps:,} steps; it cannot be shortened to {steps:,}")
    if steps > spec.steps:
        spec = RunSpec.from_dict({**config["run"], "steps": steps})
        directory.discard_result()
        directory.write_config({**config, "run": spec.to_dict()})
    return spec


def refuse_other_content(directory: RunDirectory, spec: RunSpec) -> None:
    """Raise if the folder holds anything else than this run."""
    if directory.is_run:
        stored = RunSpec.from_dict(directory.config()["run"])
        different = [key for key, value in stored.to_dict().items() if spec.to_dict()[key] != value]
        if different:
            raise ValueError(f"{directory.path} holds another run: {', '.join(different)} differ; choose another folder")
    elif not directory.is_free:
        raise ValueError(f"{directory.path} is not empty and holds no run; choose another folder")


def make_model(spec: RunSpec) -> MultiTaskSAC:
    """The untrained model of a run, with its training environments; raises ValueError for an unusable spec."""
    entry(spec.env)
    family, copies = split_env_options(spec.env_options)
    env = make_multitask_vec_env(spec.env, envs_per_task=copies, seed=spec.seed, **family)
    return presets.make(spec.method, env, preset=spec.preset, **{"seed": spec.seed, **spec.overrides})


def split_env_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The family's options, and the number of training environments per task."""
    family = dict(options)
    return family, int(family.pop("envs_per_task", 1))


def restore(model: MultiTaskSAC, checkpoint: Checkpoint) -> MultiTaskSAC:
    """The model of a checkpoint, with its replay buffer, on the environments of ``model``."""
    restored = type(model).load(checkpoint.model, env=model.get_env())
    restored.load_replay_buffer(checkpoint.replay)
    return restored


def describe(spec: RunSpec) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    settings = presets.settings(spec.method, spec.env, preset=spec.preset)
    return {
        "run": spec.to_dict(),
        "settings": _plain({**settings, **spec.overrides}),
        "tasks": list(qmp_envs.task_names(spec.env, **split_env_options(spec.env_options)[0])),
        "reward": entry(spec.env).reward,
        "versions": versions(),
        "git": git_revision(),
        "machine": machine(),
    }


def _train(
    spec: RunSpec,
    directory: RunDirectory,
    model: MultiTaskSAC,
    checkpoint: Checkpoint | None,
    display: Display,
    should_stop: Callable[[], bool],
) -> RunStatus:
    newest = NewestValues()
    folder = str(directory.path)
    model.set_logger(Logger(folder, [TensorBoardOutputFormat(folder), newest]))
    evaluate = make_evaluation(spec, directory, checkpoint)
    supervise = Supervisor(spec, directory, checkpoint, evaluate, display, newest, should_stop)
    done = model.num_timesteps
    display.start(f"{spec.method} on {spec.env}, seed {spec.seed}", model.task_names, spec.steps, done)
    try:
        if done < spec.steps:
            model.learn(spec.steps - done, CallbackList([evaluate, supervise]), reset_num_timesteps=False)
        supervise.save_checkpoint()
    finally:
        display.stop()
        model.logger.close()
    if supervise.stopped:
        return RunStatus(False, model.num_timesteps, supervise.seconds, evaluate.last)
    replace(directory.final_model, model.save)
    assert evaluate.last is not None
    directory.write_result(_result(spec, model.num_timesteps, supervise.seconds, evaluate.last))
    return RunStatus(True, model.num_timesteps, supervise.seconds, evaluate.last)


class NewestValues(KVWriter):
    """A log writer that remembers the newest value of every key."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.values.update((key, float(value)) for key, value in key_values.items() if np.isscalar(value))

    def close(self) -> None:
        pass


class Supervisor(BaseCallback):
    """Between rollouts, where a run can be cut: checkpoints, progress, and the wish to stop."""

    def __init__(
        self,
        spec: RunSpec,
        directory: RunDirectory,
        checkpoint: Checkpoint | None,
        evaluate: MultiTaskEvalCallback,
        display: Display,
        newest: NewestValues,
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.spec, self.directory, self.evaluate = spec, directory, evaluate
        self.display, self.newest, self.should_stop = display, newest, should_stop
        self.stopped = False
        self._seconds_before = checkpoint.seconds if checkpoint is not None else 0.0
        self._began = time.monotonic()
        self._saved_at = checkpoint.steps if checkpoint is not None else 0
        self._shown: Evaluation | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the whole run so far."""
        return self._seconds_before + time.monotonic() - self._began

    def save_checkpoint(self) -> None:
        """Save where the model stands, unless that has been done."""
        assert self.model is not None
        steps = self.model.num_timesteps
        if steps != self._saved_at:
            self.directory.save_checkpoint(steps, self.seconds, self.model.save, self.model.save_replay_buffer)
            self._saved_at = steps

    def _on_rollout_start(self) -> None:
        every = self.spec.checkpoint_every
        if self.num_timesteps // every > self._saved_at // every:
            self.save_checkpoint()
        self.stopped = self.should_stop()

    def _on_step(self) -> bool:
        self._show()
        return not self.stopped

    def _show(self) -> None:
        if self.evaluate.last is not self._shown:
            self._shown = self.evaluate.last
            self.display.evaluated(self.num_timesteps, self.evaluate.last)
        self.display.progress(self.num_timesteps, self.newest.values)
