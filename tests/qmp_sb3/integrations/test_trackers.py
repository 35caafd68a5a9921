"""Weights & Biases and MLflow: what they get, that a resumed run goes on in its place, and that they stop nothing."""

from __future__ import annotations

import builtins
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from stable_baselines3 import PPO

from qmp_sb3 import QMP
from qmp_sb3.cli import main
from qmp_sb3.experiments import RunDirectory, RunSpec, TrainedRun, run
from qmp_sb3.experiments.runs.run import extend
from qmp_sb3.experiments.runs.tracking import Tracking, tracked
from qmp_sb3.integrations.trackers import TRACKERS, Tracker, TrackingCallback
from tests.qmp_sb3.cli.test_cli import ID, QUICK, REACHER, quick_spec

TINY = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 40, "batch_size": 8, "buffer_size": 1000, "seed": 0}


class Recorder(Tracker):
    """A service that remembers everything."""

    name: ClassVar[str] = "recorder"
    package: ClassVar[str] = "recorder"
    calls: ClassVar[list[tuple[Any, ...]]] = []

    def _start(self, title: str, config: Mapping[str, Any], folder: Path | None) -> None:
        self.calls.append(("start", self.id, title, dict(config), self.project))
        self.id = self.id or "abc"

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append(("log", step, dict(values)))

    def _keep(self, files: Sequence[Path]) -> None:
        self.calls.append(("keep", sorted(file.name for file in files)))

    def _finish(self, outcome: str) -> None:
        self.calls.append(("finish", outcome))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.setattr(Recorder, "calls", [])
    monkeypatch.setitem(TRACKERS, "recorder", Recorder)
    return Recorder.calls


# ---- runs ----


def test_a_run_is_followed_from_its_config_to_its_files(recorder: list, tmp_path: Path) -> None:
    run(quick_spec(), tmp_path / "walk", tracking=[Tracking("recorder", "points", files=True)])
    start, *logs, keep, finish = recorder
    assert start[:3] == ("start", None, "walk") and start[4] == "points"
    config = start[3]
    assert config["run"]["env"] == ID and config["sources"]["gamma"] == "prototype" and config["versions"]["torch"]
    assert [log[1] for log in logs] == sorted(log[1] for log in logs) and logs[-1][1] == 200
    keys = {key for log in logs for key in log[2]}
    assert {"eval/reach/success_any", "rollout/ep_rew_mean", "train/critic_loss"} <= keys
    assert "time/total_timesteps" not in keys, "the x axis itself"
    assert {"final_model.zip", "result.json", "config.yaml", "best_model.zip"} <= set(keep[1])
    assert finish == ("finish", "finished")


def test_a_resumed_run_goes_on_in_the_same_place(recorder: list, tmp_path: Path) -> None:
    spec, path = quick_spec(steps=300, checkpoint_every=1000), tmp_path / "run"
    asked = iter(range(10_000))
    run(spec, path, should_stop=lambda: next(asked) >= 150, tracking=[Tracking("recorder", "points")])
    assert recorder[-1] == ("finish", "stopped")
    assert not any(call[0] == "keep" for call in recorder)
    recorder.clear()
    run(spec, path, tracking=[Tracking("recorder")])
    assert recorder[0][1] == "abc" and recorder[0][4] == "points"
    assert recorder[-1] == ("finish", "finished")
    recorder.clear()
    run(extend(path, 330), path, tracking=[Tracking("recorder", "elsewhere")])
    assert recorder[0][1] is None and recorder[0][4] == "elsewhere", "another project is another tracked run"


def test_a_folder_starts_no_tracker_and_uploads_nothing(
    recorder: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    run(quick_spec(steps=60), path)
    note = [{"tracker": "recorder", "project": "points", "files": True, "id": "abc"}]
    (path / "tracking.json").write_text(json.dumps(note))
    assert main(["train", "--resume", str(path), "--steps", "90"]) == 0
    assert recorder == []
    assert "--track recorder" in capsys.readouterr().out
    assert main(["train", "--resume", str(path), "--steps", "120", "--track", "recorder"]) == 0
    assert recorder[0][1] == "abc" and recorder[-1] == ("finish", "finished")
    assert not any(call[0] == "keep" for call in recorder), "only --track-files uploads"
    assert "continues there" in capsys.readouterr().out


def test_a_run_that_fails_is_ended_as_failed(recorder: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(QMP, "learn", broken)
    with pytest.raises(RuntimeError, match="out of luck"):
        run(quick_spec(), tmp_path / "run", tracking=[Tracking("recorder")])
    assert recorder[-1] == ("finish", "failed")


def test_tracking_changes_no_number(recorder: list, tmp_path: Path) -> None:
    followed = run(quick_spec(), tmp_path / "a", tracking=[Tracking("recorder")])
    alone = run(quick_spec(), tmp_path / "b")
    assert followed.summary == alone.summary
    a, b = (TrainedRun.open(tmp_path / name).model.policy.state_dict() for name in "ab")
    assert all((a[key] == b[key]).all() for key in a)


@pytest.mark.parametrize("method", ["_start", "_log", "_keep", "_finish"])
def test_a_tracker_that_fails_says_so_once_and_stops_nothing(
    method: str, recorder: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(Recorder, method, broken)
    with caplog.at_level(logging.WARNING, "qmp_sb3"):
        status = run(quick_spec(), tmp_path / "run", tracking=[Tracking("recorder", files=True)])
    assert status.finished
    [said] = [record.getMessage() for record in caplog.records]
    assert "recorder failed" in said and "no route to host" in said and "training continues" in said


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_is_named_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without(module: str, *rest: Any, **named: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(module, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING, "qmp_sb3"):
        assert run(quick_spec(steps=60), tmp_path / "run", tracking=[Tracking(name)]).finished
    [said] = [record.getMessage() for record in caplog.records]
    assert f"pip install {name}" in said


# ---- the command line ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--track", "wandbb"], "tracker='wandbb' is unknown; did you mean 'wandb'?"),
        (["--project", "p"], "--project needs --track wandb or --track mlflow"),
        (["--track-files"], "--track-files needs --track"),
    ],
)
def test_usage_errors(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    assert main(["train", "--env", ID, "--method", "qmp", "--out", str(path), *words]) == 2
    assert message in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.parametrize(
    "note",
    [
        '[{"tracker": "recor',
        "null",
        '{"a": 1}',
        "[1]",
        '[{"tracker": ["recorder"]}]',
        '[{"tracker": "recorder"}]',
        '[{"tracker": "sender", "project": "p", "id": "a"}]',
        '[{"tracker": "recorder", "project": "p", "id": "../a"}]',
    ],
)
def test_a_damaged_note_of_the_trackers_is_no_reason_to_stop(
    note: str, recorder: list, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = RunDirectory(tmp_path)
    (tmp_path / "tracking.json").write_text(note)
    with tracked([Tracking("recorder", "points")], directory, "title", {}):
        assert recorder[0][:3] == ("start", None, "title"), "it begins as if there were no note"
    [said] = [record.getMessage() for record in caplog.records]
    assert "damaged" in said and str(tmp_path) in said
    assert directory.tracking() == [{"tracker": "recorder", "project": "points", "id": "abc"}]


# ---- the services themselves ----


def test_wandb_offline_gets_keys_and_config_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="Weights & Biases is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    path = tmp_path / "run"
    words = ["--env", ID, "--method", "qmp", "--steps", "60", "--eval-episodes", "1", "--out", str(path), *QUICK]
    assert main(["train", *words, "--track", "wandb", "--project", "points"]) == 0
    [note] = json.loads((path / "tracking.json").read_text())
    [first] = (path / "wandb").glob(f"offline-run-*-{note['id']}")
    file, until = next(first.glob("*.wandb")), time.monotonic() + 30
    while b"eval/reach/success_any" not in (stored := file.read_bytes()) and time.monotonic() < until:
        time.sleep(0.1)  # a process of its own writes it, and may be behind
    for text in (b"eval/reach/success_any", b"Point2D-v0", b"prototype", b"points"):
        assert text in stored
    assert main(["train", "--resume", str(path), "--steps", "90", "--track", "wandb"]) == 0
    assert len(list((path / "wandb").glob(f"offline-run-*-{note['id']}"))) == 2


@pytest.mark.slow
def test_mlflow_keeps_one_run_with_keys_parameters_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    pytest.importorskip("sqlalchemy", reason="MLflow's local store needs SQLAlchemy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    path = tmp_path / "run"
    words = ["--env", ID, "--method", "qmp", "--steps", "60", "--eval-episodes", "1", "--out", str(path), *QUICK]
    assert main(["train", *words, "--track", "mlflow", "--project", "points", "--track-files"]) == 0
    assert main(["train", "--resume", str(path), "--steps", "90", "--track", "mlflow"]) == 0
    client = mlflow.MlflowClient()
    [tracked] = client.search_runs([client.get_experiment_by_name("points").experiment_id])
    assert tracked.info.status == "FINISHED" and tracked.info.run_name == "run"
    assert tracked.data.params["run.env"] == ID and tracked.data.params["sources.gamma"] == "prototype"
    steps = {metric.step for metric in client.get_metric_history(tracked.info.run_id, "eval/reach/success_any")}
    assert {60, 90} <= steps
    names = {file.path for file in client.list_artifacts(tracked.info.run_id)}
    assert {"config.json", "final_model.zip", "result.json"} <= names
    assert json.loads((path / "tracking.json").read_text())[0]["id"] == tracked.info.run_id


# ---- the callback ----


def test_the_callback_follows_any_model(recorder: list) -> None:
    callback = TrackingCallback("recorder", "points")
    PPO("MlpPolicy", "Pendulum-v1", n_steps=32, batch_size=16, seed=0).learn(64, callback)
    start, *logs, finish = recorder
    assert start[2] == "PPO" and start[3]["n_steps"] == 32 and finish == ("finish", "finished")
    assert any("train/loss" in log[2] for log in logs)
    assert callback.id == "abc"


def test_every_task_has_its_keys(recorder: list) -> None:
    model = QMP("MlpPolicy", REACHER, **TINY | {"learning_starts": 900})
    model.learn(1000, TrackingCallback("recorder"), log_interval=1)
    keys = {key for call in recorder if call[0] == "log" for key in call[2]}
    assert {f"rollout/{task}/success_any" for task in model.task_names} <= keys
    assert {f"mixture/stay/{task}" for task in model.task_names} <= keys


def test_the_callback_knows_the_tasks_and_goes_on(recorder: list) -> None:
    model = QMP("MlpPolicy", ID, **TINY)
    model.learn(100, TrackingCallback("recorder", title="first"), log_interval=1)
    assert recorder[0][2] == "first" and recorder[0][3]["tasks"] == ["reach"]
    recorder.clear()
    model.learn(100, TrackingCallback("recorder", id="abc"), reset_num_timesteps=False, log_interval=1)
    assert recorder[0][1] == "abc" and recorder[-2][1] == 200
    assert not any(isinstance(one, Recorder) for one in model.logger.output_formats)


def test_the_callback_names_the_closest_tracker() -> None:
    with pytest.raises(ValueError, match="did you mean 'mlflow'"):
        TrackingCallback("mlfow")


def test_a_spec_does_not_know_its_trackers(tmp_path: Path) -> None:
    """Following a run makes it no other run."""
    directory = RunDirectory(tmp_path / "run")
    run(quick_spec(steps=60), directory.path)
    assert "tracking" not in directory.config()["run"] and directory.tracking() == []
    assert RunSpec.from_dict(directory.config()["run"]) == quick_spec(steps=60)
