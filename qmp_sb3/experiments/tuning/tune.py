"""A search of hyper-parameters with Optuna, in which every trial is a run with a directory of its own.

A study remembers its trials in a database; started again, it finishes what was interrupted and goes on. Trial i draws
from SeedSequence([seed, i]), so an interrupted search with one job draws what an uninterrupted one does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState

from qmp_envs.evaluation import Evaluation
from qmp_envs.results.table import Results
from qmp_sb3.common.validation import one_of
from qmp_sb3.experiments.runs import provenance
from qmp_sb3.experiments.runs.live import Display
from qmp_sb3.experiments.runs.run import make_model, run
from qmp_sb3.experiments.runs.run_lock import RunInUse, RunLock
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.experiments.runs.summary import Summary
from qmp_sb3.experiments.tuning.samplers import PRUNERS, SAMPLERS
from qmp_sb3.experiments.tuning.score import score
from qmp_sb3.experiments.tuning.search_space import SearchSpace
from qmp_sb3.methods import presets

NAME = "qmp"
FOLDER, DRAWN = "directory", "overrides"
"""What a trial says of itself: its folder, and, when all of it was drawn, the settings."""


class LostProcess(RuntimeError):
    """A process of the search has ended by itself."""


@dataclass(frozen=True)
class Search:
    """What is searched, where and how.

    :param spec: every trial's run, without what is drawn
    :param folder: for the runs ``trial-000``, ...
    :param trials: how many in all
    :param sampler: ``"tpe"`` or ``"random"``
    :param pruner: ``"median"`` stops a trial that is below the median of the others at the same step, ``"halving"`` all
        but the best quarter at growing steps, ``"none"`` no trial
    :param storage: SQLAlchemy's address of the database; a file in the folder by default
    :param space: YAML file with other ranges
    """

    spec: RunSpec
    folder: Path
    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "median"
    storage: str | None = None
    space: Path | None = None

    def __post_init__(self) -> None:
        one_of("sampler", self.sampler, SAMPLERS)
        one_of("pruner", self.pruner, PRUNERS)
        if self.storage is not None and "://" not in self.storage:
            raise ValueError(f"storage is {self.storage!r}; it is an address such as sqlite:///study.db")

    @property
    def address(self) -> str:
        return self.storage or f"sqlite:///{self.folder / 'study.db'}"

    def content(self) -> dict[str, Any]:
        """What a study's trials have in common; two searches that differ in it are not one."""
        space = SearchSpace.read(self.space)
        ranges = {"arguments": space.arguments, "parts": space.parts}
        return {**self.spec.to_dict(), "sampler": self.sampler, "space": yaml.safe_dump(_plain(ranges))}


@dataclass(frozen=True)
class Found:
    """The best trial: how good it was, where it is, and the command that repeats it."""

    value: float
    folder: Path
    summary: Summary
    command: str


def search(
    task: Search,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = bool,
) -> Found | None:
    """Search until there are as many trials as wanted, or until it is told to stop; the best so far, None without one.

    :param task: what is searched
    :param jobs: processes
    :param say: is told about every trial, in one line
    :param should_stop: asked before every rollout
    :raises ValueError: before any trial, if the run cannot be made or the folder's study is another one
    :raises RunInUse: if another search runs there, whose running trials would be taken for interrupted ones
    :raises LostProcess: if one of several processes was killed or failed; the same search resumes
    """
    make_model(task.spec)
    task.folder.mkdir(parents=True, exist_ok=True)
    with _quiet(), RunLock(task.folder / "lock.json"):
        study = _open(task, create=True)
        _take_up(study)
        if jobs == 1:
            _work(task, contextlib.nullcontext(), say, should_stop)
        else:
            _share(task, jobs, should_stop)
        return best(task)


def best(task: Search) -> Found | None:
    """The best trial that ran to its end; None if there is none."""
    done = _open(task).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not done:
        return None
    trial = max(done, key=lambda one: one.value)
    return Found(
        float(trial.value or 0.0),
        task.folder / trial.user_attrs[FOLDER],
        trial.user_attrs["summary"],
        shlex.join(provenance.command(replace(task.spec, overrides=trial.user_attrs[DRAWN]))),
    )


# ---- one process ----


class _Watch(Display):
    """Hands the evaluations of a run to its trial, and learns from it whether to continue."""

    def __init__(self, trial: Trial) -> None:
        self.trial, self.pruned = trial, False
        self.last: Evaluation | None = None

    def evaluated(self, steps: int, evaluation: Evaluation) -> None:
        self.last = evaluation
        self.trial.report(score(evaluation), steps)
        self.pruned = self.trial.should_prune()


def _work(
    task: Search, turn: AbstractContextManager, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> None:
    """Trial after trial, until there are enough.

    :param turn: held while a trial starts, so that two processes do not start the same one
    """
    study, space = _open(task), SearchSpace.read(task.space)
    settings = presets.settings(task.spec.method, task.spec.env, task.spec.preset)
    while not should_stop():
        with turn:
            trials = study.get_trials(deepcopy=False)
            begun = _begun(trials)
            waiting = [one for one in trials if one.state == TrialState.WAITING]
            if not waiting and len(begun) >= task.trials:
                return
            # Drawn from the trial's number: an interrupted search has more of Optuna's trials, but draws the same.
            number = int(waiting[0].user_attrs[FOLDER].partition("-")[2]) if waiting else len(begun)
            seed = np.random.SeedSequence([task.spec.seed, number]).generate_state(1)[0]
            study.sampler = SAMPLERS[task.sampler](int(seed))
            trial = study.ask()
            trial.set_user_attr(FOLDER, f"trial-{number:03d}")
            overrides = space.draw(trial, settings, task.spec.overrides)
            trial.set_user_attr(DRAWN, overrides)
        _run(task, study, trial, overrides, say, should_stop)


def _run(
    task: Search,
    study: optuna.Study,
    trial: Trial,
    overrides: dict[str, Any],
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    folder, watch, began = trial.user_attrs[FOLDER], _Watch(trial), time.monotonic()
    try:
        spec = replace(task.spec, overrides=overrides)
        status = run(spec, task.folder / folder, watch, lambda: watch.pruned or should_stop())
        # As it is stored: the run may have ended before, when the search was killed between that and the next line.
        value = score(_last_evaluation(task.folder / folder)) if status.finished else None
    except RunInUse as error:
        # A process of a killed search may still be at it. The trial stays as it is in the study, for the next time.
        say(f"{folder}  left for the next time: {error}")
        return
    except (ValueError, ArithmeticError, AssertionError, RuntimeError, FileNotFoundError) as error:
        # An unlucky draw is no reason to end the search; its values are kept.
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
        say(f"{folder}  failed: {' '.join(str(error).split())[:200]}")
        return
    if value is not None:
        trial.set_user_attr("summary", status.summary)
        study.tell(trial, value)
        say(f"{folder}  {value:.3f} after {status.steps:,} steps, {time.monotonic() - began:.0f} s  {_drawn(trial)}")
    elif watch.pruned:
        study.tell(trial, state=TrialState.PRUNED)
        assert watch.last is not None
        say(f"{folder}  {score(watch.last):.3f}, pruned after {status.steps:,} steps  {_drawn(trial)}")
    # Else it was stopped: it stays as it is in the study, for the next time.


def _last_evaluation(folder: Path) -> Evaluation:
    """The last evaluation of the tasks' own policies that a run has stored."""
    rows = Results.read(folder).where(policy="own")
    return rows.where(step=int(rows.column("step").max())).evaluation()


def _drawn(trial: Trial) -> str:
    values = {name: f"{one:.3g}" if isinstance(one, float) else str(one) for name, one in trial.params.items()}
    return " ".join(f"{name}={one}" for name, one in values.items())


# ---- several processes ----


def _share(task: Search, jobs: int, should_stop: Callable[[], bool]) -> None:
    context = multiprocessing.get_context("spawn")
    turn = context.Lock()
    workers = [context.Process(target=_worker, args=(task, turn)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    told = False
    while any(worker.is_alive() for worker in workers):
        for worker in workers:
            worker.join(0.2)
        if should_stop() and not told:
            told = True
            for worker in workers:
                worker.terminate()
    if not told and any(worker.exitcode for worker in workers):
        codes = ", ".join(str(worker.exitcode) for worker in workers)
        raise LostProcess(f"the search's processes ended with the codes {codes}; start it again to resume")


def _worker(task: Search, turn: Any) -> None:
    """The life of a process: SIGTERM, Ctrl-C and the end of the search itself end its trial with a checkpoint."""
    import signal

    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))
    parent = multiprocessing.parent_process()
    assert parent is not None
    with _quiet():
        _work(task, turn, lambda text: print(text, flush=True), lambda: bool(stop) or not parent.is_alive())


# ---- the study ----


def _open(task: Search, create: bool = False) -> optuna.Study:
    """The study of a search; ValueError where it belongs to another search."""
    pruner = PRUNERS[task.pruner](task.spec)
    if not create:
        return optuna.load_study(study_name=NAME, storage=task.address, pruner=pruner)
    try:
        study = optuna.create_study(
            study_name=NAME, storage=task.address, direction="maximize", load_if_exists=True, pruner=pruner
        )
    except ModuleNotFoundError as error:
        raise ValueError(f"storage {task.address} needs the package {error.name}") from error
    content = task.content()
    known = study.user_attrs.get("content")
    if known is None:
        study.set_user_attr("content", content)
    else:
        different = [key for key in content if known.get(key) != content[key]]
        if different:
            raise ValueError(
                f"the study in {task.address} is another search ({', '.join(different)}); choose another --out"
            )
    return study


def _begun(trials: Sequence[FrozenTrial]) -> dict[str, dict[str, Any]]:
    """Folder: what was drawn, of every trial that was drawn completely; one killed before that left nothing."""
    return {one.user_attrs[FOLDER]: one.params for one in trials if DRAWN in one.user_attrs}


def _take_up(study: optuna.Study) -> None:
    """Trials that were interrupted wait for their turn again, with the same values and the same folder."""
    trials = study.get_trials(deepcopy=False)
    drawn = _begun(trials)
    waiting = {one.user_attrs[FOLDER] for one in trials if one.state == TrialState.WAITING}
    for trial in trials:
        if trial.state != TrialState.RUNNING:
            continue
        folder = trial.user_attrs.get(FOLDER)
        if folder in drawn and folder not in waiting:
            study.enqueue_trial(drawn[folder], user_attrs={FOLDER: folder})
        study.tell(trial.number, state=TrialState.FAIL)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's own lines are left out: a search says what happens itself."""
    import warnings

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
