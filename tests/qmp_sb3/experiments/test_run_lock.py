"""One process at a time writes a run directory."""

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from qmp_envs.atomic_files import remove_parts
from qmp_sb3.experiments.runs import run_lock
from qmp_sb3.experiments.runs.run_lock import RunInUse, RunLock

ELSEWHERE = {"host": "node-7", "kernel": "another", "pid": 12, "token": "t", "beat": 3}


def left_by(path, holder, seconds_ago=0.0):
    path.write_text(holder if isinstance(holder, str) else json.dumps(holder))
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


def test_a_second_one_is_refused_by_name_until_the_first_lets_go(tmp_path):
    first = RunLock(tmp_path / "lock.json")
    with pytest.raises(RunInUse, match=f"is being written by process {os.getpid()} on "):
        RunLock(tmp_path / "lock.json")
    first.release()
    first.release()
    with RunLock(tmp_path / "lock.json"):
        assert [entry.name for entry in tmp_path.iterdir()] == ["lock.json"]
    assert not list(tmp_path.iterdir())


def hold(path, told):
    RunLock(path)
    told.set()
    time.sleep(600)


def test_a_killed_process_holds_nothing(tmp_path, caplog):
    context = multiprocessing.get_context("fork")
    told = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock.json", told))
    process.start()
    assert told.wait(60)
    with pytest.raises(RunInUse, match=f"process {process.pid} on "):
        RunLock(tmp_path / "lock.json")
    process.kill()
    process.join()
    with RunLock(tmp_path / "lock.json"):
        assert f"was left by process {process.pid} on " in caplog.text


def test_a_lost_node_s_run_is_taken_over_at_once_when_it_was_silent_for_long(tmp_path, caplog):
    left_by(tmp_path / "lock.json", ELSEWHERE, seconds_ago=run_lock.PATIENCE + 1)
    began = time.monotonic()
    with RunLock(tmp_path / "lock.json"):
        assert time.monotonic() - began < run_lock.POLL_SECONDS
    assert "was left by process 12 on node-7, which is gone" in caplog.text


def test_a_node_that_was_alive_just_now_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "POLL_SECONDS", 0.05)
    left_by(tmp_path / "lock.json", ELSEWHERE, seconds_ago=run_lock.PATIENCE - 0.5)
    with RunLock(tmp_path / "lock.json") as lock:
        lock.check()
    left_by(tmp_path / "lock.json", ELSEWHERE)
    beats = iter([ELSEWHERE, ELSEWHERE, *[ELSEWHERE | {"beat": 4}] * 3])
    monkeypatch.setattr(run_lock, "_holder", lambda path: next(beats))
    with pytest.raises(RunInUse, match="process 12 on node-7"):
        RunLock(tmp_path / "lock.json")


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_what_cannot_be_read_holds_nothing(content, tmp_path):
    left_by(tmp_path / "lock.json", content, seconds_ago=run_lock.PATIENCE + 1)
    RunLock(tmp_path / "lock.json").release()


@pytest.mark.parametrize("unreadable", ["cut", "failing"])
def test_a_disk_that_fails_for_a_moment_ends_no_signs_of_life(unreadable, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(run_lock, "BEAT", 0.02)
    failures = iter([OSError("stale"), OSError("stale")])
    beat = RunLock._beat

    def beats(lock, number):
        if unreadable == "failing" and number > 0 and (error := next(failures, None)) is not None:
            raise error
        beat(lock, number)

    monkeypatch.setattr(RunLock, "_beat", beats)
    lock = RunLock(tmp_path / "lock.json")
    if unreadable == "cut":
        os.truncate(tmp_path / "lock.json", 30)
    lock.check()
    deadline = time.monotonic() + 20
    while run_lock._holder(tmp_path / "lock.json").get("beat", 0) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ("no sign of life could be written" in caplog.text) == (unreadable == "failing")
    lock.release()


def test_a_lock_that_is_gone_is_lost(tmp_path):
    lock = RunLock(tmp_path / "lock.json")
    (tmp_path / "lock.json").unlink()  # by another machine, which has taken the run over and is done with it
    with pytest.raises(RunInUse, match="was taken over by a process that left no name"):
        lock.check()
    lock.release()


def test_the_age_does_not_depend_on_what_the_holder_removes(tmp_path, monkeypatch):
    left_by(tmp_path / "lock.json", ELSEWHERE, seconds_ago=run_lock.PATIENCE + 1)
    touch = Path.touch

    def touch_while_the_holder_tidies(path, *arguments, **options):
        touch(path, *arguments, **options)
        remove_parts(tmp_path)

    monkeypatch.setattr(Path, "touch", touch_while_the_holder_tidies)
    RunLock(tmp_path / "lock.json").release()
    assert not list(tmp_path.iterdir())


def test_signs_of_life_go_on_and_a_run_that_was_taken_over_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT", 0.02)
    lock = RunLock(tmp_path / "lock.json")
    deadline = time.monotonic() + 20
    while json.loads((tmp_path / "lock.json").read_text())["beat"] < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lock.check()
    left_by(tmp_path / "lock.json", ELSEWHERE)
    with pytest.raises(RunInUse, match="was taken over by process 12 on node-7"):
        lock.check()
    lock.release()
    assert json.loads((tmp_path / "lock.json").read_text()) == ELSEWHERE
