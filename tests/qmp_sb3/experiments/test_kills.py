"""Real processes, killed with SIGKILL at moments that nobody chose: all go on, and end as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qmp_sb3.cli import main
from qmp_sb3.experiments import RunDirectory
from qmp_sb3.experiments.runs.run_lock import _holder
from tests.qmp_sb3.algorithms.going_on import assert_same_end

SMALL = ["learning_starts=40", "batch_size=8", "policy_kwargs.net_arch=[8]", "train_freq=2", "gradient_steps=1"]
POINT = "--env QMP/Point2D-v0 --method qmp --steps 1500 --eval-every 150 --eval-episodes 2 --checkpoint-every 100"
REACHER = "--env QMP/MultistageReacher-v0 --method ta-per+qmp-hold --steps 5000 --eval-every 1500 --eval-episodes 1"
MT10 = "--env QMP/MT10-v0 --method qmp --steps 1200 --eval-every 600 --eval-episodes 1 --checkpoint-every 200"
RUNS = {
    "Point2D": [*POINT.split(), "buffer_size=400", *SMALL],
    "Reacher": [
        *REACHER.split(),
        "--checkpoint-every=500",
        "buffer_size=300",
        "env_kwargs.max_episode_steps=60",
        *SMALL,
    ],
    "MT10 in processes": [
        *MT10.split(),
        "buffer_size=50",
        "env_kwargs.workers=2",
        "env_kwargs.max_episode_steps=40",
        *SMALL,
    ],
}


def words(path: Path, arguments: list[str]) -> list[str]:
    """``qmp train`` of a new run, or of the one in ``path``."""
    return [
        "train",
        *(["--resume", str(path)] if (path / "config.yaml").is_file() else [*arguments, "--out", str(path)]),
    ]


def train(path: Path, arguments: list[str]) -> None:
    """The main function of a process that only trains."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os._exit(main(words(path, arguments)))


def lasts(path: Path, arguments: list[str], seconds: float | None = None) -> bool:
    """Train in a copy of this process, and kill that ``seconds`` after it has locked the run; whether it has ended by
    itself.
    """
    process = multiprocessing.get_context("fork").Process(target=train, args=(path, arguments))
    process.start()
    while seconds is not None and process.is_alive() and _holder(path / "lock.json").get("pid") != process.pid:
        time.sleep(0.002)
    process.join(seconds)
    process.kill()
    process.join()
    # 0 also where it was about to exit when it was killed.
    assert process.exitcode in ((0,) if seconds is None else (0, -signal.SIGKILL))
    return process.exitcode == 0


def what_stands_there(path: Path) -> str:
    """Of a run that was killed, for the test's output."""
    checkpoints = sorted(entry.name for entry in (path / "checkpoints").glob("0*"))
    parts = sorted(str(entry.relative_to(path)) for entry in path.rglob(".part*"))
    done = [name for name in ("final_model.zip", "result.json") if (path / name).is_file()]
    return f"checkpoints {checkpoints}, half-written {parts}, done {done}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills", "window"),
    [("Point2D", 15, (0.0, 0.25)), ("Reacher", 15, (0.0, 0.25)), ("MT10 in processes", 4, (0.5, 1.0))],
)
def test_kills_at_random_moments(name, kills, window, tmp_path):
    """Of loading, training, evaluating and writing; a run that comes to its end meanwhile is followed by another.

    :param window: how long each process lives, as a share of the whole run's time; simulators take half of MT10's
    """
    if name.startswith("MT10"):
        pytest.importorskip("metaworld")
    assert main(words(tmp_path / "first", [*RUNS[name], "--steps=100"])) == 0  # imports all that the copies need
    assert lasts(tmp_path / "whole", RUNS[name])
    result = RunDirectory(tmp_path / "whole").result()
    assert result is not None
    rng, killed, run = np.random.default_rng(0), 0, 0
    while killed < kills:
        path, ended = tmp_path / f"run-{run}", False
        while not ended:
            ended = lasts(path, RUNS[name], rng.uniform(*window) * result["seconds"] if killed < kills else None)
            killed += not ended
            print(f"{name}, kill {killed}, run {run}: {'ended' if ended else what_stands_there(path)}", flush=True)
        assert_same_end(tmp_path / "whole", path)
        RunDirectory(path).lock().release()  # what a process that is killed after its result leaves is anybody's
        assert not list(path.rglob(".part*")) and not (path / "lock.json").exists()
        run += 1


def test_a_killed_command_s_run_ends_the_same(tmp_path):
    """The command line itself, killed while it learns from its first data, and later once more."""
    arguments, path = RUNS["Point2D"], tmp_path / "run"
    assert lasts(tmp_path / "whole", arguments)
    for steps in (100, 600):
        command = [sys.executable, "-m", "qmp_sb3.cli", *words(path, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not (path / "checkpoints" / f"{steps:09d}").exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
    assert RunDirectory(path).result() is None
    assert lasts(path, arguments)
    assert_same_end(tmp_path / "whole", path)
