"""One training run, from nothing or from its last checkpoint; a finished one is left alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import KVWriter, Logger

import qmp_envs
from qmp_envs.registry import entry
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.experiments.runs.event_files import EventFiles
from qmp_sb3.experiments.runs.live import Display
from qmp_sb3.experiments.runs.provenance import git_revision, machine, versions
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_evaluation import RunEvaluation, Stopwatch
from qmp_sb3.experiments.runs.run_lock import RunLock
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.experiments.runs.summary import Summary, summarize
from qmp_sb3.experiments.runs.supervisor import NewestValues, Supervisor
from qmp_sb3.experiments.runs.tracking import Tracking, tracked
from qmp_sb3.methods import presets

_LOG = logging.getLogger(__name__)


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
    path: str | os.PathLike[str] | None = None,
    display: Display | None = None,
    should_stop: Callable[[], bool] = bool,
    tracking: Sequence[Tracking] = (),
    trust: bool = False,
) -> RunStatus:
    """Bring a run to its end.

    A new one gets a folder; an unfinished one resumes from its newest intact checkpoint and ends, on the same machine
    and with the same packages, as if it had never stopped; a finished one is left alone.

    :param spec: what to train
    :param path: the run directory; None for :func:`default_path`
    :param display: is told about progress
    :param should_stop: asked before every rollout; True saves a checkpoint and returns
    :param tracking: trackers that follow the run; one that followed it before continues in the same place
    :param trust: read environments that the checkpoint holds as a pickle, which runs code: the folder must be your own.
        Without it their episodes begin anew, and a warning says so. The suite's own environments are never pickled
    :raises ValueError: before anything is written, if the spec or the folder is not usable
    :raises RunInUse: if another process is at this run
    """
    return train(prepare(spec, path, trust), display, should_stop, tracking)


def default_path(spec: RunSpec) -> Path:
    """The folder in ``runs/`` that is a run's own: its name is made from the spec and the package versions."""
    return Path("runs") / spec.directory_name(versions())


@dataclass(frozen=True)
class Prepared:
    """A run that can start or resume: everything is checked. It is locked until :func:`train` is done.

    :param model: where the newest checkpoint stands, or new; None for a run that is finished
    :param about: what else the checkpoint holds
    """

    spec: RunSpec
    directory: RunDirectory
    model: MultiTaskOffPolicyAlgorithm | None = None
    about: Mapping[str, Any] | None = None
    seconds: float = 0.0
    lock: RunLock | None = None


def prepare(spec: RunSpec, path: str | os.PathLike[str] | None = None, trust: bool = False) -> Prepared:
    """Check a run and its folder, and make or load the model; the errors of :func:`run` come from here."""
    directory = RunDirectory(default_path(spec) if path is None else path)
    check_content(directory, spec)
    if directory.result() is not None:
        return Prepared(spec, directory)
    model = make_model(spec)
    lock = directory.lock()
    try:
        check_content(directory, spec)  # which another process may have changed by now
        directory.repair()
        checkpoint = directory.latest_checkpoint()
        if checkpoint is None:
            if directory.is_run:
                _LOG.warning("%s has no checkpoint yet: it begins anew", directory.path)
            return Prepared(spec, directory, model, lock=lock)
        _compare_versions(directory)
        model, about = directory.checkpoints.restore(model, checkpoint, trust)
        return Prepared(spec, directory, model, about, checkpoint.seconds, lock)
    except BaseException:
        lock.release()
        raise


def _compare_versions(directory: RunDirectory) -> None:
    """Warn where a run resumes with other packages than it started with."""
    before = directory.config()["versions"]
    now = versions()
    changed = [f"{name} {before.get(name)} to {now[name]}" for name in now if now[name] != before.get(name)]
    if changed:
        _LOG.warning("%s resumes with other packages, so its end may differ: %s", directory.path, ", ".join(changed))


def extend(path: str | os.PathLike[str], steps: int, trust: bool = False) -> RunSpec:
    """Give the run in ``path`` a later end; a finished run becomes unfinished.

    :param steps: new total number of environment steps
    :param trust: the run may name a module to import, as for :meth:`~qmp_sb3.experiments.TrainedRun.open`
    """
    directory = RunDirectory(path)
    spec = RunSpec.from_file(directory.config(), path, trust)
    if steps == _shortest(directory.config(), steps):
        return spec
    with directory.lock():
        config = directory.config()  # which another process may have changed by now
        spec = RunSpec.from_dict({**config["run"], "steps": steps})
        if steps > _shortest(config, steps):
            # In this order: killed in between, it is an unfinished run that comes to its old end again.
            directory.discard_result()
            directory.write_config({**config, "run": spec.to_dict()})
    return spec


def _shortest(config: Mapping[str, Any], steps: int) -> int:
    """The steps that a run has, which ``steps`` must not be below."""
    least = RunSpec.from_dict(config["run"]).steps
    if steps < least:
        raise ValueError(f"the run has {least:,} steps; it cannot be shortened to {steps:,}")
    return least


def check_content(directory: RunDirectory, spec: RunSpec) -> None:
    """Raise if the folder holds anything but this run."""
    if directory.is_run:
        stored = RunSpec.from_dict(directory.config()["run"])
        different = [key for key, value in stored.to_dict().items() if spec.to_dict()[key] != value]
        if different:
            raise ValueError(f"{directory.path} holds another run ({', '.join(different)}); choose another folder")
    elif not directory.is_free:
        raise ValueError(f"{directory.path} is not empty and holds no run; choose another folder")


def make_model(spec: RunSpec) -> MultiTaskOffPolicyAlgorithm:
    """The untrained model of a run with its training environments; ValueError for an unusable spec."""
    return presets.make(spec.method, spec.env, preset=spec.preset, **{"seed": spec.seed, **spec.overrides})


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
    directory, model = prepared.directory, prepared.model
    if model is None or prepared.lock is None:
        return status_of(directory)
    with prepared.lock:
        new = not directory.is_run
        if new:
            directory.write_config(describe(prepared.spec))
        events = EventFiles(str(directory.path), None if new else model.num_timesteps)
        title = directory.path.resolve().name
        with tracked(tracking, directory, title, directory.config()) as trackers:
            return _train(prepared, model, prepared.lock, display or Display(), should_stop, [events, *trackers])


def _train(
    prepared: Prepared,
    model: MultiTaskOffPolicyAlgorithm,
    lock: RunLock,
    display: Display,
    should_stop: Callable[[], bool],
    writers: Sequence[KVWriter],
) -> RunStatus:
    spec, directory, done = prepared.spec, prepared.directory, model.num_timesteps
    newest = NewestValues()
    model.set_logger(Logger(str(directory.path), [*writers, newest]))
    evaluate = RunEvaluation(spec, directory, lock, Stopwatch(prepared.seconds))
    supervise = Supervisor(spec, directory, lock, evaluate, display, newest, should_stop)
    callbacks = CallbackList([evaluate, supervise])
    if prepared.about is not None:
        supervise.resume(model, prepared.about)
    display.start(f"{spec.method} on {spec.env}, seed {spec.seed}", model.task_names, spec.steps, done)
    try:
        if done < spec.steps:
            model.learn(spec.steps - done, callbacks, reset_num_timesteps=False)
        else:
            callbacks.init_callback(model)
        if supervise.stopped:
            return RunStatus(False, supervise.saved_at, supervise.seconds, {})
        supervise.finish()
    finally:
        display.stop()
        model.logger.close()
    lock.check()
    model.save(directory.final_model)
    assert evaluate.last is not None
    lock.check()
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
