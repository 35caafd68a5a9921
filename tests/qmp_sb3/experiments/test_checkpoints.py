"""Checkpoints on the disk: what they take, what is kept, and run directories that were stopped, killed or damaged."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qmp_sb3.algorithms.sac import MultiTaskSAC
from qmp_sb3.behaviors.loaded import model_file
from qmp_sb3.experiments import Checkpoints, RunDirectory, RunSpec, run
from qmp_sb3.experiments.runs.live import Display
from qmp_sb3.experiments.runs.run import default_path, extend
from qmp_sb3.experiments.runs.run_lock import PATIENCE, RunInUse
from qmp_sb3.replay import increments
from tests.qmp_sb3.algorithms.going_on import SaveAt, assert_equal, assert_same_end, state_of
from tests.qmp_sb3.cli.test_cli import ID, REACHER, quick_spec
from tests.qmp_sb3.methods.test_presets import small

SPEC = quick_spec(steps=300)  # checkpoints and evaluations every 100 steps


class Killed(Exception):
    """What stands for SIGKILL in this process: nothing is saved any more."""


class KillAt(Display):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def progress(self, steps, values) -> None:
        if steps >= self.steps:
            raise Killed


def killed(spec: RunSpec, path: Path, steps: int) -> None:
    with pytest.raises(Killed):
        run(spec, path, KillAt(steps))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    run(SPEC, path)
    return path


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run that was killed after the checkpoints at 100 and 200 steps, in the middle of an episode."""
    path = tmp_path_factory.mktemp("stopped") / "run"
    killed(SPEC, path, 237)
    assert sorted(entry.name for entry in (path / "checkpoints").iterdir()) == ["000000100", "000000200", "replay"]
    return path


# ---- runs that go on ----


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(whole, stopped, tmp_path):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    killed(SPEC, path, 237)  # again, at the same place
    killed(SPEC, path, 281)
    assert run(SPEC, path).finished
    assert_same_end(whole, path)
    assert not list(path.rglob(".part*")) and not (path / "lock.json").exists()


def test_several_tasks_priorities_and_a_stop_by_request(tmp_path):
    overrides = dict(SPEC.overrides) | {"env_kwargs.max_episode_steps": 11, "buffer_size": 60}
    overrides |= {"train_freq": 5, "gradient_steps": 1}
    spec = RunSpec(REACHER, "ta-per+qmp-hold", 700, 3, "fast", overrides, 250, 1, 150)
    run(spec, tmp_path / "whole")
    rollouts = iter(range(10_000))
    assert run(spec, tmp_path / "run", should_stop=lambda: next(rollouts) == 11).steps == 275
    killed(spec, tmp_path / "run", 640)
    assert run(spec, tmp_path / "run").finished
    assert_same_end(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("name", ["write_result", "final_model"])
def test_killed_between_the_last_step_and_the_result(name, whole, tmp_path, monkeypatch):
    def kill(*_: object) -> None:
        raise Killed

    def save(model: MultiTaskSAC, path: Path) -> None:
        if path.stem == name:
            raise Killed
        saved(model, path)

    saved = MultiTaskSAC.save
    with monkeypatch.context() as patched:
        if name == "final_model":
            patched.setattr(MultiTaskSAC, "save", save)
        else:
            patched.setattr(RunDirectory, name, kill)
        with pytest.raises(Killed):
            run(SPEC, tmp_path / "run")
    assert RunDirectory(tmp_path / "run").result() is None
    assert run(SPEC, tmp_path / "run").finished
    assert_same_end(whole, tmp_path / "run")


def events(path: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run, but times."""
    accumulator = EventAccumulator(str(path)).Reload()
    tags = [tag for tag in accumulator.Tags()["scalars"] if not tag.startswith("time/")]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def test_tensorboard_shows_every_step_once(whole, stopped, tmp_path):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    killed(SPEC, path, 281)
    run(SPEC, path)
    shown = events(path)
    assert "rollout/ep_rew_mean" in shown and "train/critic_loss" in shown
    assert shown == events(whole)


def test_a_run_finds_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = quick_spec(steps=60)
    assert run(spec).finished
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [default_path(spec).name]
    before = RunDirectory(default_path(spec)).final_model.stat().st_mtime_ns
    assert run(spec).finished
    assert RunDirectory(default_path(spec)).final_model.stat().st_mtime_ns == before


def test_a_run_without_a_checkpoint_yet_begins_anew_and_says_so(whole, tmp_path, caplog):
    killed(SPEC, tmp_path / "run", 60)
    assert run(SPEC, tmp_path / "run").finished
    assert "has no checkpoint yet: it begins anew" in caplog.text
    assert_same_end(whole, tmp_path / "run")
    assert events(tmp_path / "run") == events(whole)


def test_other_packages_are_named(stopped, tmp_path, caplog):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    directory = RunDirectory(path)
    config = directory.config()
    directory.write_config(config | {"versions": config["versions"] | {"torch": "0.4"}})
    run(SPEC, path)
    assert "other packages, so its end may differ: torch 0.4 to" in caplog.text


def test_an_extended_run_goes_on_with_its_episodes(tmp_path):
    run(quick_spec(steps=150), tmp_path / "run")
    assert run(extend(tmp_path / "run", 300), tmp_path / "run").steps == 300
    with np.load(tmp_path / "run" / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [100, 150, 200, 300]


def test_an_extended_run_s_last_model_is_not_its_old_end(tmp_path):
    run(quick_spec(steps=150), tmp_path / "run")
    extend(tmp_path / "run", 300)
    killed(quick_spec(steps=300), tmp_path / "run", 237)
    newest = tmp_path / "run/checkpoints/000000200/model.zip"
    assert RunDirectory(tmp_path / "run").newest_model() == model_file(tmp_path / "run") == newest


@pytest.mark.parametrize("place", ["write_config", "discard_result"])
def test_a_run_that_is_killed_while_it_is_extended_is_not_finished_at_its_old_end(place, tmp_path, monkeypatch):
    path, steps = tmp_path / "run", quick_spec(steps=150)
    run(steps, path)

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, place, kill)
        with pytest.raises(Killed):
            extend(path, 300)
    directory = RunDirectory(path)
    assert (directory.result() is None) == (place == "write_config")
    assert directory.config()["run"]["steps"] == 150
    assert run(steps, path).finished and directory.final_model.is_file()
    extend(path, 300)
    directory.write_result({"run": steps.to_dict(), "steps": 150, "seconds": 1.0, "tasks": {}})
    assert directory.result() is None, "of the shorter run"
    assert run(quick_spec(steps=300), path).steps == 300


def test_an_extension_reads_the_run_under_its_lock(tmp_path, monkeypatch):
    path = tmp_path / "run"
    run(quick_spec(steps=60), path)
    lock = RunDirectory.lock

    def late(directory):
        with monkeypatch.context() as patched:
            patched.setattr(RunDirectory, "lock", lock)
            extend(path, 150)
        return lock(directory)

    monkeypatch.setattr(RunDirectory, "lock", late)
    with pytest.raises(ValueError, match="has 150 steps; it cannot be shortened to 100"):
        extend(path, 100)


@pytest.mark.parametrize("end", ["evaluation", "final model", "result"])
def test_a_process_that_lost_its_run_writes_nothing_more(end, tmp_path, monkeypatch):
    path = tmp_path / "run"
    saved = MultiTaskSAC.save

    def taken_over() -> None:
        (path / "lock.json").write_text(json.dumps({"host": "node-7", "kernel": "k", "pid": 3, "token": "t"}))

    class TakenOver(Display):
        def progress(self, steps, values) -> None:
            if end == "evaluation" and steps == 90:
                taken_over()

        def stop(self) -> None:
            if end == "final model":
                taken_over()

    def save(model: MultiTaskSAC, path: Path) -> None:
        saved(model, path)
        if end == "result" and path.stem == "final_model":
            taken_over()

    monkeypatch.setattr(MultiTaskSAC, "save", save)
    with pytest.raises(RunInUse, match="was taken over by process 3 on node-7"):
        run(SPEC, path, TakenOver())
    assert not (path / "result.json").exists()
    assert (path / "final_model.zip").exists() == (end == "result")
    assert (path / "evaluations.npz").exists() == (path / "best_model.zip").exists() == (end != "evaluation")


def test_a_run_is_written_by_one_process_only(stopped, tmp_path):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    with RunDirectory(path).lock():
        for attempt in (lambda: run(SPEC, path), lambda: extend(path, 400)):
            with pytest.raises(RunInUse, match="is being written by process"):
                attempt()
    assert run(SPEC, path).finished


# ---- damaged run directories ----


def cut(file: Path, share: float = 0.6) -> None:
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def flip(file: Path, place: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * place)] ^= 1
    file.write_bytes(data)


def newest(path: Path) -> Path:
    return path / "checkpoints" / "000000200"


def leave_half_written(path: Path) -> None:
    for name in (".part-final_model.zip", "checkpoints/replay/.part-000000300.safetensors"):
        (path / name).write_bytes(b"half")
    (path / "checkpoints" / ".part-000000300").mkdir()
    (path / "checkpoints" / ".part-000000300" / "model.zip").write_bytes(b"half")


def change_a_number(path: Path) -> None:
    note = newest(path) / "checkpoint.json"
    note.write_text(note.read_text().replace('"steps": 200', '"steps": 201'))


def lose_the_lock_s_node(path: Path) -> None:
    (path / "lock.json").write_text(json.dumps({"host": "node-7", "kernel": "k", "pid": 3, "token": "t", "beat": 9}))
    then = time.time() - PATIENCE - 5
    os.utime(path / "lock.json", (then, then))


OLDER = "; resuming from 000000100"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "model cut": (
        lambda path: cut(newest(path) / "model.zip"),
        "checkpoint 000000200 is damaged: 000000200/model.zip is not as it was written" + OLDER,
    ),
    "state with a flipped bit": (
        lambda path: flip(newest(path) / "state.safetensors"),
        "000000200/state.safetensors is not as it was written" + OLDER,
    ),
    "rows missing": (
        lambda path: (path / "checkpoints/replay/000000200.safetensors").unlink(),
        "replay/000000200.safetensors is missing" + OLDER,
    ),
    "rows with a flipped bit": (
        lambda path: flip(path / "checkpoints/replay/000000200.safetensors", 0.9),
        "replay/000000200.safetensors is not as it was written" + OLDER,
    ),
    "checkpoint.json missing": (
        lambda path: (newest(path) / "checkpoint.json").unlink(),
        "000000200/checkpoint.json is missing" + OLDER,
    ),
    "checkpoint.json garbage": (
        lambda path: (newest(path) / "checkpoint.json").write_bytes(b"\x80{not JSON"),
        "000000200/checkpoint.json is not as it was written" + OLDER,
    ),
    "checkpoint.json changed": (change_a_number, "000000200/checkpoint.json is not as it was written" + OLDER),
    "a whole checkpoint missing": (lambda path: shutil.rmtree(newest(path)), ""),
    "half-written files": (leave_half_written, ""),
    "evaluations cut": (lambda path: cut(path / "evaluations.npz"), ""),
    "results cut": (lambda path: cut(path / "results.parquet"), ""),
    "config cut": (lambda path: cut(path / "config.yaml", 0.3), "config.yaml was damaged: written again from"),
    "config garbage": (lambda path: (path / "config.yaml").write_bytes(b"\xff\xfe: ["), "was damaged: written again"),
    "a lost node's lock": (lose_the_lock_s_node, "was left by process 3 on node-7, which is gone: taking it over"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_directory_is_repaired_and_the_run_ends_the_same(damage, whole, stopped, tmp_path, caplog):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    spoil, message = DAMAGES[damage]
    spoil(path)
    assert run(SPEC, path).finished
    assert message in caplog.text and bool(message) == bool(caplog.text)
    assert_same_end(whole, path)
    assert not list(path.rglob(".part*"))


def test_a_cut_result_is_made_again(whole, tmp_path, caplog):
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    cut(path / "result.json")
    assert run(SPEC, path).finished
    assert "result.json is damaged: the end of the run is repeated" in caplog.text
    assert_same_end(whole, path)


def test_nothing_intact_to_resume_from_is_an_error_that_loses_nothing(stopped, tmp_path):
    path = Path(shutil.copytree(stopped, tmp_path / "run"))
    (path / "checkpoints/replay/000000100.safetensors").unlink()  # both checkpoints need these rows
    before = sorted(path.rglob("*"))
    with pytest.raises(
        ValueError, match="000000200 is damaged.*000000100 is damaged.*To start over, move .*checkpoints"
    ):
        run(SPEC, path)
    assert sorted(path.rglob("*")) == before
    assert RunDirectory(path).newest_model() == newest(path) / "model.zip"  # it can still be looked at
    shutil.move(path / "checkpoints", tmp_path / "away")
    assert run(SPEC, path).finished


def test_a_cut_config_without_a_checkpoint_is_an_error(tmp_path):
    killed(SPEC, tmp_path / "run", 60)
    cut(tmp_path / "run" / "config.yaml", 0.3)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged, and no checkpoint holds a copy"):
        run(SPEC, tmp_path / "run")


# ---- what they take ----


def test_checkpoints_of_an_earlier_training_are_not_dropped(tmp_path):
    small("no-sharing").learn(300, SaveAt(Checkpoints(tmp_path), 100, 200))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"checkpoints of an earlier training, newest 000000200: resume .* newest\(\)"):
        small("no-sharing").learn(100, SaveAt(Checkpoints(tmp_path), 50))
    assert sorted(tmp_path.rglob("*")) == before
    later = Checkpoints(tmp_path)
    model, _ = later.restore(small("no-sharing"), later.newest())
    model.learn(200, SaveAt(later, 300), reset_num_timesteps=False)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["000000200", "000000300", "replay"]


def test_only_new_rows_are_written_and_only_needed_ones_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save = SaveAt(checkpoints, *range(100, 1000, 100))
    model = small("no-sharing", buffer_size=50, train_freq=1, learning_starts=10_000)  # 5 tasks: 250 rows in all
    model.learn(1000, save)
    assert len(save.saved) == 9
    row, new, full = 4 * model.replay_buffer.form.width, 100, 250
    for checkpoint in save.saved:
        written = (tmp_path / "replay").joinpath(checkpoint.rows[-1]["file"])
        assert checkpoint.rows[-1]["bytes"] == pytest.approx(new * row, rel=0.05, abs=1000)
        assert len(checkpoint.rows) <= full // new + 1
        assert checkpoint.note["bytes"] < 200_000 and checkpoint.note["took"] > 0
        assert written.exists() == (checkpoint.steps >= 600)  # 800 and 900 are kept; 800 goes back to row 550
    kept = sum(file.stat().st_size for file in (tmp_path / "replay").iterdir())
    assert kept <= (full + 2 * new) * row + 4000
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["000000800", "000000900", "replay"]


def test_rings_that_a_checkpoint_has_gone_round_are_whole(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    def make():
        return small("ctpg", buffer_size=9, train_freq=1)

    model = make().learn(400, SaveAt(checkpoints, 60, 300))  # 48 rows of each task in between, for rings of 9
    last = checkpoints.newest()
    assert last is not None and len(last.rows) == 1
    restored, _ = checkpoints.restore(make(), last)
    restored.learn(100, reset_num_timesteps=False)
    assert_equal(state_of(model), state_of(restored))


def test_what_a_checkpoint_took_is_logged(stopped):
    accumulator = EventAccumulator(str(stopped)).Reload()
    assert {"time/checkpoint_seconds", "time/checkpoint_megabytes"} <= set(accumulator.Tags()["scalars"])
    note = json.loads((newest(stopped) / "checkpoint.json").read_text())
    assert note["took"] > 0 and note["bytes"] > 0 and note["config"]["run"]["env"] == ID


def test_rows_of_other_buffers_and_missing_rows_are_refused():
    model = small("no-sharing").learn(60)
    state, rows = increments.snapshot(model.replay_buffer), increments.rows_since(model.replay_buffer, np.zeros(5, int))
    with pytest.raises(ValueError, match=r"\[1000, 5, \d+\]; this one is \[20, 5, \d+\]"):
        increments.restore(small("no-sharing", buffer_size=20).replay_buffer, state, [rows])
    late = increments.rows_since(model.replay_buffer, np.full(5, 4))
    with pytest.raises(ValueError, match="miss 100 of 100 rows"):
        increments.restore(small("no-sharing").replay_buffer, state, [late])
