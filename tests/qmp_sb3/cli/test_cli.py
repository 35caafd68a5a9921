"""The command line as a user meets it: real commands, real run directories, on the cheapest task set."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import yaml
from rich.console import Console

import qmp_envs
from qmp_sb3 import presets
from qmp_sb3.cli import UsageError, main
from qmp_sb3.cli.main import parse
from qmp_sb3.cli.words import override
from qmp_sb3.experiments import RunDirectory, RunSpec, TrainedRun, engines, run
from qmp_sb3.experiments.benchmarks import scales
from qmp_sb3.experiments.runs import video
from qmp_sb3.experiments.runs.live import LiveTable, PlainLines
from qmp_sb3.experiments.runs.run import extend
from qmp_sb3.experiments.tuning import samplers

ID = "QMP/Point2D-v0"
REACHER = "QMP/MultistageReacher-v0"
QUICK = ["learning_starts=40", "batch_size=8", "policy_kwargs.net_arch=[8]", "buffer_size=1000"]


def quick_spec(steps: int = 200, **changes: object) -> RunSpec:
    overrides = dict(override(word) for word in QUICK)
    values = {
        "eval_every": 100,
        "eval_episodes": 2,
        "checkpoint_every": 100,
        "overrides": overrides,
        **changes,
    }
    return RunSpec(ID, "qmp", steps, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of all five tasks of the Reacher, hardly trained."""
    path = tmp_path_factory.mktemp("runs") / "reacher"
    arguments = ["train", "--env", REACHER, "--method", "qmp", "--steps", "1000", "--eval-every", "500"]
    arguments += ["--eval-episodes", "1", "--out", str(path), *QUICK]
    assert main(arguments) == 0
    return path


# ---- arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian", "did you mean 'train'?"),
        ("train --sedd 3", "did you mean '--seed'?"),
        ("train --env QMP/MultistageReacer-v0 --method qmp", f"did you mean '{REACHER}'?"),
        (f"train --env {ID} --method qpm", "did you mean 'qmp'?"),
        (f"train --env {ID} --method qmp --preset fsat", "did you mean 'fast'?"),
        (f"train --env {ID} --method qmp learning_rat=1e-3", "did you mean 'learning_rate'?"),
        (
            f"train --env {ID} --method qmp policy_kwargs.net_arhc=[8]",
            "did you mean 'policy_kwargs.net_arch'?",
        ),
        (f"train --env {ID} --method qmp env_kwargs.rewrad=exp", "did you mean 'reward'?"),
        (f"train --env {ID} --method qmp learning_rate=fast", "learning rate"),
        (f"train --env {ID} --method qmp --steps many", "'many' is not a number"),
        (f"train --env {ID} --method qmp --steps 0.5", "not a whole number"),
        (f"train --env {ID} --method qmp word", "expected key=value, got 'word'"),
        ("train --method qmp", "--env is missing"),
        (f"train --env {ID}", "--method is missing"),
        ("train --resume nowhere", "holds no run"),
        ("eval nowhere", "holds no run"),
        ("watch nowhere", "holds no run"),
        ("watch nowhere --out film.avi", ".mp4 or .gif"),
        ("list extra", "unexpected argument 'extra'"),
        (f"train --env {ID} --method qmp policy_kwargs.net_arch=[-4]", "net_arch is [-4]; every width must be a whole"),
        (f"train --env {ID} --method qmp gamma=2", "gamma is 2; it must be a number from 0 to 1"),
        ("watch nowhere --size 100000", "100000 is too large; it must be at most 2048"),
        ("results show nowhere --policy foo", "unknown 'foo'; known: own, mixture"),
        ("results validate .", ".: a folder; a run directory has results.parquet"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.startswith("qmp ") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "known"),
    [
        ("train", presets.PRESETS),
        ("tune", presets.PRESETS),
        ("tune", samplers.SAMPLERS),
        ("tune", samplers.PRUNERS),
        ("bench", scales.SCALES),
        ("bench", engines.ENGINES),
    ],
)
def test_help_has_the_names_that_are_known(
    command: str, known: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(known, "newest", None)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = "".join(capsys.readouterr().out.split())  # argparse breaks lines
    *names, last = known
    assert f"{','.join(names)}or{last};" in shown and last == "newest"


def test_overrides_stand_anywhere() -> None:
    options = parse(["train", "gamma=0.9", "--env", ID, "tau=1e-3", "--method", "qmp", "n_steps=3", "seed=1"])
    assert options.overrides == {"gamma": 0.9, "tau": 1e-3, "n_steps": 3, "seed": 1}
    assert (options.env, options.method) == (ID, "qmp")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 0.001),
        ("1.5e6", 1.5e6),
        ("true", True),
        ("auto_0.1", "auto_0.1"),
        ("[256, 256]", [256, 256]),
        ("hold(10, argmax(q))", "hold(10, argmax(q))"),
        ("null", None),
    ],
)
def test_values_are_read_as_yaml(text: str, value: object) -> None:
    assert override(f"key={text}") == ("key", value)


def test_a_broken_value_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot read"):
        override("net_arch=[256")


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"qmp-suite {importlib.metadata.version('qmp-suite')}\n"


# ---- list ------------------------------------------------------------------------------------------------


def test_list_json_has_every_id_task_and_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {line["id"]: tuple(line["tasks"]) for line in listed["task_sets"]} == {
        id: qmp_envs.task_names(id) for id in qmp_envs.ids()
    }
    assert [line["name"] for line in listed["methods"]] == list(presets.methods())


def test_list_names_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "metaworld" else find(name))
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["list"]) == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "QMP/" in line}
    assert lines.keys() == set(qmp_envs.ids())
    assert "pip install 'qmp-suite[metaworld]'" in lines["QMP/MetaWorldCDS-v0"] and "stay" in lines[REACHER]


def test_list_shows_every_id_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert all(id in shown for id in qmp_envs.ids())
    assert all(name in shown for name in presets.methods())


# ---- train -----------------------------------------------------------------------------------------------


def test_run_directory(finished: Path) -> None:
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert config["run"]["env"] == REACHER and config["run"]["seed"] == 0
    assert config["settings"]["batch_size"] == 8 and config["settings"]["policy_kwargs.net_arch"] == [8]
    assert config["settings"]["behavior"] == "argmax(q)"
    assert config["sources"]["batch_size"] == "given on start" and config["sources"]["gamma"]
    assert {"python", "torch", "mujoco", "gymnasium", "stable-baselines3"} <= set(config["versions"])
    assert {"final_model.zip", "best_model.zip", "result.json"} <= {file.name for file in finished.iterdir()}
    assert list(finished.glob("events.out.tfevents.*"))
    assert not list(finished.rglob("*.part*"))
    with np.load(finished / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [500, 1000]
        assert saved["results"].shape == (2, 5) == saved["mixture_results"].shape
    result = json.loads((finished / "result.json").read_text())
    assert result["steps"] == 1000
    assert list(result["tasks"]) == [*qmp_envs.task_names(REACHER), "mean of tasks"]


def test_an_existing_run_is_never_overwritten(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (finished / "config.yaml").stat().st_mtime_ns
    assert main(["train", "--env", REACHER, "--method", "qmp", "--out", str(finished)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (finished / "config.yaml").stat().st_mtime_ns == before


def test_a_finished_run_is_said_to_be(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--env", REACHER, "--method", "qmp", "--out", str(finished)]) == 2
    assert "holds a finished run; see it with qmp eval" in capsys.readouterr().err


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    assert main(["train", "--env", ID, "--method", "qmp", "--out", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_without_out_the_folder_is_named_by_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--env", ID, "--method", "qmp", "--steps", "60", "--eval-episodes", "1", *QUICK]) == 0
    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("Point2D-v0_qmp_seed0_")


def test_equal_runs_share_a_name() -> None:
    spec = quick_spec()
    assert spec.directory_name({"torch": "1"}) == RunSpec.from_dict(spec.to_dict()).directory_name({"torch": "1"})
    others = [quick_spec(seed=1), quick_spec(steps=300), quick_spec(overrides={}), quick_spec(preset="paper")]
    names = {one.directory_name({"torch": "1"}) for one in (spec, *others)} | {spec.directory_name({"torch": "2"})}
    assert len(names) == 6


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    spec = quick_spec()
    first = run(spec, tmp_path / "run")
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    assert run(spec, tmp_path / "run") == first
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == files


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    run(quick_spec(steps=60), tmp_path / "run")
    with pytest.raises(ValueError, match=r"another run \(seed\)"):
        run(quick_spec(steps=60, seed=1), tmp_path / "run")


def test_stop_and_resume_keep_optimizers_and_counters(tmp_path: Path) -> None:
    spec, path = quick_spec(steps=300, checkpoint_every=1000), tmp_path / "run"
    asked = iter(range(10_000))
    status = run(spec, path, should_stop=lambda: next(asked) >= 150)
    assert not status.finished and status.steps == 150
    assert RunDirectory(path).result() is None

    checkpoint = RunDirectory(path).latest_checkpoint()
    assert checkpoint is not None and checkpoint.steps == 150
    stopped = TrainedRun.open(path).model
    assert stopped.num_timesteps == 150
    updates = stopped._n_updates
    assert updates > 0

    status = run(spec, path)
    assert status.finished and status.steps == 300
    resumed = TrainedRun.open(path).model
    assert resumed._n_updates == updates + 150
    adam = resumed.actor.optimizer.state_dict()["state"][0]
    assert int(adam["step"]) == resumed._n_updates


def test_a_finished_run_can_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run"
    run(quick_spec(steps=100), path)
    assert main(["train", "--resume", str(path), "--steps", "160"]) == 0
    assert "160 steps" in capsys.readouterr().out
    result = RunDirectory(path).result()
    assert result is not None and result["steps"] == 160
    with np.load(path / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [100, 160]
    with pytest.raises(ValueError, match="cannot be shortened"):
        extend(path, 100)


@pytest.mark.parametrize("option", ["--seed=1", "--method=qmp", "gamma=0.9"])
def test_resume_takes_no_other_settings(finished: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(finished), option]) == 2
    assert "cannot be given with --resume" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_a_usable_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "qmp_sb3.cli",
        "train",
        "--env",
        ID,
        "--method",
        "qmp",
        "--steps",
        "1000000",
    ]
    command += ["--eval-every", "100", "--eval-episodes", "1", "--out", str(path), *QUICK]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "steps/s" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    last = output.strip().splitlines()[-1]
    assert last.startswith("Stopped at ") and last.endswith(f"qmp train --resume {path}")
    assert RunDirectory(path).latest_checkpoint() is not None
    assert TrainedRun.open(path).steps >= 100


def test_envs_per_task_is_for_training_only(tmp_path: Path) -> None:
    overrides = {**quick_spec().overrides, "env_kwargs.envs_per_task": 2, "env_kwargs.reward": "distance"}
    spec = quick_spec(steps=100, overrides=overrides)
    assert spec.task_set_options == {"reward": "distance"}
    assert run(spec, tmp_path / "run").finished


# ---- what is shown ---------------------------------------------------------------------------------------


def test_plain_lines_are_one_per_evaluation(tmp_path: Path) -> None:
    stream = io.StringIO()
    run(quick_spec(), tmp_path / "run", PlainLines(Console(file=stream, width=200)))
    lines = stream.getvalue().splitlines()
    assert lines[0] == f"qmp on {ID}, seed 0"
    assert [line.split()[0] for line in lines[1:]] == ["100", "200"]
    assert "\x1b" not in stream.getvalue()


def test_a_run_that_was_taken_over_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class TakenOver(PlainLines):
        def start(self, *arguments: Any) -> None:
            super().start(*arguments)
            (tmp_path / "run" / "lock.json").write_text('{"host": "node-7", "pid": 3, "token": "t"}')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qmp_sb3.experiments.runs.live.PlainLines", TakenOver)
        words = ["train", "--env", ID, "--method", "qmp", "--steps", "100", "--out", str(tmp_path / "run"), *QUICK]
        assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert "was taken over by process 3 on node-7" in error and "Traceback" not in error and "\n" not in error


def test_live_table_shows_tasks_progress_and_speed(tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=140, height=40)
    spec = RunSpec(REACHER, "qmp", 1500, overrides=quick_spec().overrides, eval_every=500, eval_episodes=1)
    run(spec, tmp_path / "run", LiveTable(console))
    shown = stream.getvalue()
    for text in (
        *qmp_envs.task_names(REACHER),
        "/ 1,500 steps",
        "steps/s",
        "left",
        "training return",
        "own share",
    ):
        assert text in shown


# ---- eval and watch --------------------------------------------------------------------------------------


def test_eval_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(finished), "--episodes", "2", "--seed", "3", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 1000 and result["seed"] == 3
    assert result["tasks"] == list(qmp_envs.task_names(REACHER))
    assert np.shape(result["return"]) == (5, 2) == np.shape(result["success_any"])


def test_eval_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(finished), "--episodes", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(task in shown for task in (*qmp_envs.task_names(REACHER), "mean of tasks"))


@pytest.mark.parametrize("name", ["film.gif", "film.mp4"])
def test_films_have_every_frame(name: str, tmp_path: Path) -> None:
    frames = np.zeros((12, 64, 96, 3), np.uint8)
    for step, frame in enumerate(frames):
        frame[:, 8 * step : 8 * step + 8] = 255
    video.write(tmp_path / "films" / name, frames, rate=10)
    read = imageio.imread(tmp_path / "films" / name, index=None)
    assert read.shape == frames.shape
    assert [int(np.argmax(frame.mean(axis=(0, 2)) > 128)) // 8 for frame in read] == list(range(12))


def test_a_short_episode_shows_its_last_frame() -> None:
    short, long = np.full((2, 10, 10, 3), 50, np.uint8), np.full((5, 10, 10, 3), 100, np.uint8)
    short[-1] = 60
    film = video.tile([short, long, long])
    assert len(film) == 5 and film.shape[1] % 2 == film.shape[2] % 2 == 0
    assert film[:, 0, 0, 0].tolist() == [50, 60, 60, 60, 60]


@pytest.mark.gl
def test_watch_films_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(quick_spec(steps=60), tmp_path / "run")
    assert main(["watch", str(tmp_path / "run")]) == 0
    assert "21 frames of reach" in capsys.readouterr().out
    frames = imageio.imread(tmp_path / "run" / "watch.mp4")
    assert len(frames) == 21 and frames.std() > 0


def test_watch_takes_a_task(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(finished), "--task", "stya"]) == 2
    assert "did you mean 'stay'?" in capsys.readouterr().err
    trained = TrainedRun.open(finished)
    assert trained.tasks("stay") == trained.tasks("4") == [4]
    assert trained.tasks(None) == [0, 1, 2, 3, 4]
