"""``qmp tune``: what is drawn, what is pruned, that a search goes on where it was, and the command that it prints."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

optuna = pytest.importorskip("optuna", reason="the search needs Optuna (extra: tune)")

from qmp_envs.evaluation import Evaluation  # noqa: E402
from qmp_sb3 import presets  # noqa: E402
from qmp_sb3.cli import main  # noqa: E402
from qmp_sb3.cli.main import parse  # noqa: E402
from qmp_sb3.cli.train import _new  # noqa: E402
from qmp_sb3.experiments import RunDirectory, RunSpec  # noqa: E402
from qmp_sb3.experiments.runs.provenance import command  # noqa: E402
from qmp_sb3.experiments.runs.run_lock import RunLock  # noqa: E402
from qmp_sb3.experiments.tuning.samplers import PRUNERS  # noqa: E402
from qmp_sb3.experiments.tuning.score import score  # noqa: E402
from qmp_sb3.experiments.tuning.search_space import SearchSpace  # noqa: E402
from qmp_sb3.experiments.tuning.tune import LostProcess, Search, search  # noqa: E402
from tests.qmp_sb3.cli.test_cli import ID, REACHER, quick_spec  # noqa: E402
from tests.qmp_sb3.experiments.synthetic_runs import evaluation_of  # noqa: E402

FIXED = {"learning_starts": 40, "policy_kwargs.net_arch": [8], "buffer_size": 1000, "batch_size": 8}
WORDS = ["learning_starts=40", "policy_kwargs.net_arch=[8]", "buffer_size=1000", "batch_size=8"]


def task(folder: Path, trials: int = 3, **changes: object) -> Search:
    spec = quick_spec(steps=120, overrides=FIXED, eval_every=40, eval_episodes=1)
    return Search(spec, folder, trials, **changes)  # type: ignore[arg-type]


def drawn(folder: Path) -> list[dict]:
    return [RunDirectory(path).config()["run"]["overrides"] for path in sorted(folder.glob("trial-*"))]


# ---- what is drawn ----


class Lowest:
    """Draws the smallest of everything."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.names.append(name)
        return low

    suggest_int = suggest_float

    def suggest_categorical(self, name: str, choices: list) -> object:
        self.names.append(name)
        return choices[0]


@pytest.mark.parametrize("method", presets.methods())
def test_every_method_can_be_searched(method: str) -> None:
    """The draws are arguments that a model accepts."""
    settings = presets.settings(method, REACHER)
    overrides = SearchSpace.read().draw(Lowest(), settings, {"policy_kwargs.net_arch": [8], "buffer_size": 100})
    assert overrides["policy_kwargs.net_arch"] == [8], "what is given stays"
    presets.make(method, REACHER, device="cpu", **overrides)


@pytest.mark.parametrize(
    ("method", "argument", "expected"),
    [
        ("qmp-hold", "behavior", "hold(1, argmax(q))"),
        ("qmp-softmax", "behavior", "softmax(0.01, q)"),
        ("cds", "sharing", "cds(0.0)"),
        ("ctpg", "behavior", "guide(steps=1)"),
        ("ta-per", "draw", "per(0.2, 0.2)"),
        ("paco", "networks", "paco(sets=2)"),
    ],
)
def test_words_of_an_expression_are_searched(method: str, argument: str, expected: str) -> None:
    space = SearchSpace.read()
    assert space.draw(Lowest(), presets.settings(method, REACHER), {})[argument] == expected


def test_a_method_without_such_a_word_keeps_its_expression() -> None:
    suggest = Lowest()
    assert "behavior" not in SearchSpace.read().draw(suggest, presets.settings("qmp", REACHER), {})
    assert suggest.names == list(SearchSpace.read().arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arguments: {learning_rat: {low: 1, high: 2}}", "did you mean 'learning_rate'"),
        ("arguments: {gamma: {low: 0.9}}", "the range of gamma"),
        ("arguments: {gamma: {low: 1, hihg: 2}}", "did you mean 'high'"),
        ("arguments: {gamma: 3}", "{low: 0.1, high: 1}"),
        ("arguments: {tau: {low: 0, high: 1, log: true}}", "log needs a low above 0"),
        ("argments: {}", "did you mean 'arguments'"),
    ],
)
def test_a_wrong_table_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        SearchSpace.read(tmp_path / "space.yaml")


# ---- what counts ----


def evaluation(success_all: float, success_any: float, stages: float, returns: float) -> Evaluation:
    """Four episodes of two tasks; shares are of all eight."""

    def share(value: float) -> np.ndarray:
        return (np.arange(8) < 8 * value).astype(float).reshape(2, 4)

    return evaluation_of(
        ("a", "b"), np.full((2, 4), returns), np.ones((2, 4)), share(success_any), share(success_all), share(stages)
    )


def test_the_score_orders_as_the_rule_for_the_best_model() -> None:
    """A measure decides only where all before it are equal; the ladder is the rule, written out."""
    ladder = [
        evaluation(0, 0, 0, -500),
        evaluation(0, 0, 0, 20),
        evaluation(0, 0, 0, 500),
        evaluation(0, 0, 1 / 8, -500),
        evaluation(0, 0, 1, 500),
        evaluation(0, 1 / 8, 0, -500),
        evaluation(0, 1, 1, 500),
        evaluation(1 / 8, 1 / 8, 0, -500),
        evaluation(1, 1, 1, 500),
    ]
    values = [score(one) for one in ladder]
    assert values == sorted(values) and len(set(values)) == len(values)
    assert values[-2] == pytest.approx(1 / 8, abs=0.05), "the leading figure is success_all"


def test_without_success_the_score_is_the_return() -> None:
    nothing = np.full((2, 4), np.nan)
    assert score(evaluation_of(("a", "b"), np.full((2, 4), -7.5), np.ones((2, 4)), nothing, nothing, nothing)) == -7.5


# ---- a search ----


def test_a_search_makes_runs_and_prints_the_command_of_the_best(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["tune", "--env", ID, "--method", "qmp-hold", "--trials", "2", "--steps", "120", "--evaluations", "2"]
    assert main([*words, "--eval-episodes", "1", "--out", str(tmp_path / "t"), *WORDS]) == 0
    shown = capsys.readouterr().out.strip().splitlines()
    options = parse(shlex.split(shown[-1])[1:])
    best = RunDirectory(next(line for line in shown if line.startswith("Best")).rpartition(" in ")[2])
    assert _new(options)[0].to_dict() == best.config()["run"], "repeats the best trial"
    assert options.overrides["behavior"].startswith("hold(") and options.overrides["buffer_size"] == 1000
    assert (options.env, options.method, options.steps) == (ID, "qmp-hold", 120)
    assert [RunDirectory(path).result() is not None for path in sorted((tmp_path / "t").glob("trial-*"))] == [True] * 2


def test_a_search_is_seeded_and_an_interrupted_one_draws_the_same(tmp_path: Path) -> None:
    whole = search(task(tmp_path / "whole", 6), say=lambda line: None)
    lines: list[str] = []
    assert search(task(tmp_path / "parts", 6), say=lines.append, should_stop=lambda: len(lines) >= 4) is not None
    assert len(drawn(tmp_path / "parts")) == 4
    parts = search(task(tmp_path / "parts", 6), say=lambda line: None)
    assert whole is not None and parts is not None
    assert drawn(tmp_path / "whole") == drawn(tmp_path / "parts")
    assert (whole.value, whole.folder.name, whole.command) == (parts.value, parts.folder.name, parts.command)
    other = search(Search(**{**vars(task(tmp_path / "other", 1)), "spec": quick_spec(120, overrides=FIXED, seed=1)}))
    assert other is not None and drawn(tmp_path / "other")[0] != drawn(tmp_path / "whole")[0]


def test_a_trial_that_was_cut_goes_on_in_its_folder(tmp_path: Path) -> None:
    asked = iter(range(10**6))
    search(task(tmp_path, 2), say=lambda line: None, should_stop=lambda: next(asked) > 60)
    [cut] = drawn(tmp_path)
    assert RunDirectory(tmp_path / "trial-000").result() is None
    lines: list[str] = []
    search(task(tmp_path, 2), say=lines.append)
    assert drawn(tmp_path)[0] == cut and len(drawn(tmp_path)) == 2
    assert [line.split()[0] for line in lines] == ["trial-000", "trial-001"]


def killed(owner: type, name: str, call: int) -> pytest.MonkeyPatch:
    """Until undone, the given call of a method ends the search as a kill would."""
    patch, method, calls = pytest.MonkeyPatch(), getattr(owner, name), iter(range(1, 10**6))

    def mortal(*arguments: object, **options: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return method(*arguments, **options)

    patch.setattr(owner, name, mortal)
    return patch


def search_until_killed(task: Search, owner: type, name: str, call: int) -> None:
    patch = killed(owner, name, call)
    try:
        with pytest.raises(KeyboardInterrupt):
            search(task, say=lambda line: None)
    finally:
        patch.undo()


def test_a_kill_while_a_trial_is_drawn_loses_nothing(tmp_path: Path) -> None:
    """Before it has its folder, before it has all its values, and both again when it is taken up."""
    whole = search(task(tmp_path / "whole", 2), say=lambda line: None)
    parts = task(tmp_path / "parts", 2)
    for call in (1, 2):  # a new trial is told its folder, then what was drawn
        search_until_killed(parts, optuna.trial.Trial, "set_user_attr", call)
        assert not drawn(parts.folder)
    asked = iter(range(10**6))
    search(parts, say=lambda line: None, should_stop=lambda: next(asked) > 60)
    search_until_killed(parts, optuna.trial.Trial, "set_user_attr", 1)
    search_until_killed(parts, optuna.study.Study, "tell", 1)  # queued again, and not yet crossed out
    found = search(parts, say=lambda line: None)
    assert whole is not None and found is not None
    assert drawn(whole.folder.parent) == drawn(parts.folder)
    assert (whole.value, whole.folder.name) == (found.value, found.folder.name)


def test_a_run_that_ended_before_its_trial_has_the_same_score(tmp_path: Path) -> None:
    whole = search(task(tmp_path / "whole", 1), say=lambda line: None)
    parts = task(tmp_path / "parts", 1)
    search_until_killed(parts, optuna.study.Study, "tell", 1)
    assert RunDirectory(parts.folder / "trial-000").result() is not None
    found = search(parts, say=lambda line: None)
    assert whole is not None and found is not None and whole.value == found.value


def test_a_trial_whose_folder_is_in_use_waits_for_the_next_time(tmp_path: Path) -> None:
    lines: list[str] = []
    with RunDirectory(tmp_path / "trial-000").lock():
        search(task(tmp_path, 2), say=lines.append)
    assert lines[0].startswith("trial-000  left for the next time: ") and "being written by process" in lines[0]
    search(task(tmp_path, 2), say=lines.append)
    assert [line.split()[0] for line in lines] == ["trial-000", "trial-001", "trial-000"]
    assert len(drawn(tmp_path)) == 2


def test_one_search_at_a_time_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tune", "--env", ID, "--method", "qmp", "--out", str(tmp_path), *WORDS]
    with RunLock(tmp_path / "lock.json"):
        assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"qmp tune: {tmp_path} is being written by process") and error.count("\n") == 1
    assert not (tmp_path / "study.db").exists()


def test_a_lost_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose(*arguments: object) -> None:
        raise LostProcess("the search's processes ended with the codes -9, 0; start it again to resume")

    monkeypatch.setattr("qmp_sb3.experiments.tuning.tune._share", lose)
    words = ["tune", "--env", ID, "--method", "qmp", "--jobs", "2", "--out", str(tmp_path / "t"), *WORDS]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("qmp tune: the search's processes") and error.count("\n") == 1


def test_a_hopeless_trial_is_pruned_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRUNERS, "median", lambda spec: optuna.pruners.ThresholdPruner(lower=1.0))
    lines: list[str] = []
    assert search(task(tmp_path, 2), say=lines.append) is None
    assert all("pruned after 40 steps" in line for line in lines) and len(lines) == 2
    assert RunDirectory(tmp_path / "trial-000").latest_checkpoint() is not None


def test_a_trial_that_cannot_run_does_not_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("arguments: {gamma: {choices: [0.9]}, n_steps: {choices: [-3]}}")
    lines: list[str] = []
    assert search(task(tmp_path / "t", 2, space=tmp_path / "space.yaml"), say=lines.append) is None
    assert [line.split()[:2] for line in lines] == [["trial-000", "failed:"], ["trial-001", "failed:"]]


def test_another_search_is_not_mixed_in(tmp_path: Path) -> None:
    search(task(tmp_path, 1), say=lambda line: None)
    spec = quick_spec(steps=160, overrides=FIXED)
    with pytest.raises(ValueError, match=r"another search \(steps, .*choose another --out"):
        search(Search(spec, tmp_path, 1), say=lambda line: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "tpee"], "did you mean 'tpe'?"),
        (["--pruner", "medain"], "did you mean 'median'?"),
        (["--storage", "study.db"], "sqlite:///study.db"),
        (["--method", "qpm"], "did you mean 'qmp'?"),
        (["--space", "none.yaml"], "No such file"),
        (["gama=0.9"], "did you mean 'gamma'?"),
    ],
)
def test_usage_errors(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tune", "--env", ID, "--method", "qmp", "--out", str(tmp_path / "t"), *words]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("t/trial-*"))


@pytest.mark.slow
def test_two_processes_and_sigterm(tmp_path: Path) -> None:
    """Both processes work, SIGTERM leaves checkpoints, and the same command ends the search."""
    folder = tmp_path / "t"
    words = ["tune", "--env", ID, "--method", "qmp", "--trials", "4", "--steps", "6000", "--evaluations", "4"]
    words += ["--eval-episodes", "1", "--pruner", "none", "--jobs", "2", "--out", str(folder), *WORDS]
    process = subprocess.Popen([sys.executable, "-m", "qmp_sb3.cli", *words])
    while len(list(folder.glob("trial-*/config.yaml"))) < 2:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130
    assert main(words) == 0
    assert len(drawn(folder)) == 4
    assert all(RunDirectory(path).result() is not None for path in folder.glob("trial-*"))


def test_a_command_is_read_back_as_it_was_meant() -> None:
    overrides = {"behavior": "hold(7, argmax(q))", "learning_rate": 1e-05, "policy_kwargs.net_arch": [64, 64]}
    spec = RunSpec(REACHER, "qmp-hold", 1000, 3, "paper", overrides)
    options = parse(command(spec)[1:])
    assert options.overrides == overrides and options.seed == 3 and options.preset == "paper"
