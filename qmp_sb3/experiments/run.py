"""One training run, from nothing or from its last checkpoint; a finished one is left alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

import qmp_envs
from qmp_envs.registry import entry
from qmp_sb3 import MultiTaskSAC, presets
from qmp_sb3.evaluation import MultiTaskEvalCallback
from qmp_sb3.experiments.live import Display
from qmp_sb3.experiments.provenance import git_revision, machine, versions
from qmp_sb3.experiments.run_directory import Checkpoint, RunDirectory, replace
from qmp_sb3.experiments.run_spec import RunSpec
from qmp_sb3.experiments.summary import Summary, summarize
from qmp_sb3.experiments.supervisor import NewestValues, Supervisor
from qmp_sb3.experiments.tracking import Tracking, tracked
from qmp_sb3.trackers import Tracker

EVALUATION_SEED_OFFSET = 1_000_003
"""Evaluation episodes are drawn from other seeds than training episodes."""


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands after :func:`run`: finished, or stopped with a checkpoint."""

    finished: bool
    steps: int
    seconds: float
    summary: Summary
    """Of the last evaluation; empty where the run is not finished."""


def run(
    spec: RunSpec,
    path: str | os.PathLike[str],
    display: Display | None = None,
    should_stop: Callable[[], bool] = bool,
    tracking: Sequence[Tracking] = (),
) -> RunStatus:
    """Bring the run ``spec`` in the folder ``path`` to its end.

    A new folder is filled; in a folder with an unfinished run of the same spec, that goes on from its newest
    whole checkpoint; a finished one is left alone.

    :param spec: what to train
    :param path: the run directory
    :param display: is told about progress
    :param should_stop: asked before every rollout; True saves a checkpoint and returns
    :param tracking: trackers that follow the run, besides those that its folder remembers
    :raises ValueError: before anything is written, if the spec or the folder is not usable
    """
    return train(prepare(spec, path), display, should_stop, tracking)


@dataclass(frozen=True)
class Prepared:
    """A run that can begin or go on: all is checked, nothing is written. A finished run has no model here."""

    spec: RunSpec
    directory: RunDirectory
    model: MultiTaskSAC | None
    checkpoint: Checkpoint | None


def prepare(spec: RunSpec, path: str | os.PathLike[str]) -> Prepared:
    """Check a run and its folder, and make or load the model; the errors of :func:`run` come from here."""
    directory = RunDirectory(path)
    refuse_other_content(directory, spec)
    if directory.result() is not None:
        return Prepared(spec, directory, None, None)
    model = make_model(spec)
    checkpoint = directory.latest_checkpoint()
    if checkpoint is not None:
        model = restore(model, checkpoint)
    return Prepared(spec, directory, model, checkpoint)


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
            raise ValueError(f"{directory.path} holds another run ({', '.join(different)}); choose another folder")
    elif not directory.is_free:
        raise ValueError(f"{directory.path} is not empty and holds no run; choose another folder")


def make_model(spec: RunSpec) -> MultiTaskSAC:
    """The untrained model of a run with its training environments; ValueError for an unusable spec."""
    return presets.make(spec.method, spec.env, preset=spec.preset, **{"seed": spec.seed, **spec.overrides})


def make_evaluation(spec: RunSpec, directory: RunDirectory) -> MultiTaskEvalCallback:
    """The evaluation of a run; it goes on with the ``evaluations.npz`` that is there."""
    return MultiTaskEvalCallback(
        spec.env,
        eval_freq=spec.eval_every,
        n_eval_episodes=spec.eval_episodes,
        log_path=directory.path,
        best_model_save_path=directory.path,
        seed=EVALUATION_SEED_OFFSET + spec.seed,
        env_kwargs=spec.task_set_options,
    )


def restore(model: MultiTaskSAC, checkpoint: Checkpoint) -> MultiTaskSAC:
    """The model of a checkpoint, with its replay buffer, on the environments of ``model``."""
    restored = type(model).load(checkpoint.model, env=model.get_env())
    restored.load_replay_buffer(checkpoint.replay)
    return restored


def describe(spec: RunSpec) -> dict[str, Any]:
    """The content of ``config.yaml``."""
    sourced = presets.sources(spec.method, spec.env, spec.preset)
    values = {key: value for key, (value, _) in sourced.items()}
    sources = {key: source for key, (_, source) in sourced.items()}
    return {
        "run": spec.to_dict(),
        "settings": _plain({**presets.method(spec.method).parts, **values, **spec.overrides}),
        "sources": {**sources, **dict.fromkeys(spec.overrides, "given on start")},
        "tasks": list(qmp_envs.task_names(spec.env, **spec.task_set_options)),
        "reward": entry(spec.env).reward,
        "versions": versions(),
        "git": git_revision(),
        "machine": machine(),
    }


def train(
    prepared: Prepared,
    display: Display | None = None,
    should_stop: Callable[[], bool] = bool,
    tracking: Sequence[Tracking] = (),
) -> RunStatus:
    """Train a prepared run to its end, or until it is to stop; the arguments are those of :func:`run`."""
    directory = prepared.directory
    if prepared.model is None:
        return status_of(directory)
    if not directory.is_run:
        directory.write_config(describe(prepared.spec))
    title = directory.path.resolve().name
    with tracked(tracking, directory, title, directory.config()) as trackers:
        return _train(prepared, display or Display(), should_stop, trackers)


def _train(
    prepared: Prepared, display: Display, should_stop: Callable[[], bool], trackers: Sequence[Tracker]
) -> RunStatus:
    spec, directory, model = prepared.spec, prepared.directory, prepared.model
    assert model is not None
    newest, done = NewestValues(), model.num_timesteps
    folder = str(directory.path)
    model.set_logger(Logger(folder, [TensorBoardOutputFormat(folder), newest, *trackers]))
    evaluate = make_evaluation(spec, directory)
    supervise = Supervisor(spec, directory, prepared.checkpoint, evaluate, display, newest, should_stop)
    display.start(f"{spec.method} on {spec.env}, seed {spec.seed}", model.task_names, spec.steps, done)
    try:
        if done < spec.steps:
            model.learn(spec.steps - done, CallbackList([evaluate, supervise]), reset_num_timesteps=False)
        if supervise.stopped:
            return RunStatus(False, supervise.saved_at, supervise.seconds, {})
        supervise.finish()
    finally:
        display.stop()
        model.logger.close()
    replace(directory.final_model, model.save)
    assert evaluate.last is not None
    directory.write_result(
        {
            "run": spec.to_dict(),
            "steps": model.num_timesteps,
            "seconds": round(supervise.seconds, 1),
            "tasks": summarize(evaluate.last),
        }
    )
    return status_of(directory)


def status_of(directory: RunDirectory) -> RunStatus:
    """The status of a finished run, from its result file."""
    result = directory.result()
    assert result is not None
    return RunStatus(True, result["steps"], result["seconds"], result["tasks"])


def _plain(value: Any) -> Any:
    """``value`` with containers and numbers that YAML knows; anything else as its text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
