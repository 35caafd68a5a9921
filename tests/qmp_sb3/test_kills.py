"""Real processes, killed with SIGKILL at moments that nobody chose: all go on, and end as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from qmp_sb3.experiments import RunDirectory
from tests.qmp_sb3.going_on import assert_same_end

SMALL = ["learning_starts=40", "batch_size=8", "policy_kwargs.net_arch=[8]"]
POINT = ["--env", "QMP/Point2D-v0", "--method", "qmp", "--steps", "1500", "--eval-every", "150", "--eval-episodes", "2"]
POINT += ["--checkpoint-every", "100", "buffer_size=400", *SMALL]
REACHER = [
    "--env",
    "QMP/MultistageReacher-v0",
    "--method",
    "ta-per+qmp-hold",
    "--steps",
    "6000",
    "--eval-every",
    "1500",
]
REACHER += ["--eval-episodes", "1", "--checkpoint-every", "500", "buffer_size=300", *SMALL]
MT10 = ["--env", "QMP/MT10-v0", "--method", "qmp", "--steps", "3000", "--eval-every", "1500", "--eval-episodes", "1"]
MT10 += [
    "--checkpoint-every",
    "500",
    "buffer_size=200",
    "env_kwargs.workers=2",
    "env_kwargs.max_episode_steps=40",
    *SMALL,
]


def started(path: Path, arguments: list[str]) -> subprocess.Popen:
    """``qmp train`` of a new run, or of the one in ``path``."""
    words = ["--resume", str(path)] if (path / "config.yaml").is_file() else [*arguments, "--out", str(path)]
    command = [sys.executable, "-m", "qmp_sb3.cli", "train", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(path: Path, arguments: list[str]) -> None:
    process = started(path, arguments)
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output


def kill_after(path: Path, arguments: list[str], seconds: float) -> bool:
    """Begin or go on, wait until training runs and ``seconds`` more, then SIGKILL; whether it was alive until then."""
    process = started(path, arguments)
    assert process.stdout is not None
    for line in process.stdout:
        if ", seed 0" in line:  # the first line of a run, when training begins
            break
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), output
    return process.returncode != 0


def assert_survives(arguments: list[str], kills: int, tmp_path: Path, seed: int = 0) -> None:
    """``kills`` kills at random moments of a run, which goes on each time; begun anew when it has ended before them."""
    whole = tmp_path / "whole"
    began = time.monotonic()
    finish(whole, arguments)
    result = RunDirectory(whole).result()
    assert result is not None
    print(f"whole run: {time.monotonic() - began:.1f} s, of these {result['seconds']} s of training", flush=True)
    rng, done, run = np.random.default_rng(seed), 0, 0
    while done < kills:
        path = tmp_path / f"run-{run}"
        alive = True
        while alive and done < kills:
            alive = kill_after(path, arguments, float(rng.uniform(0.0, 0.4) * result["seconds"]))
            done += alive
            steps = [entry.name for entry in (path / "checkpoints").glob("0*")]
            print(
                f"kill {done}, run {run}: checkpoints {', '.join(sorted(steps)) or 'none'}, alive {alive}", flush=True
            )
        finish(path, arguments) if alive else None
        assert_same_end(whole, path)
        assert not list(path.rglob(".part*")) and not (path / "lock.json").exists()
        run += 1


def test_a_killed_process_s_run_ends_the_same(tmp_path):
    """Once before the first evaluation and once later."""
    short = [*POINT, "--steps", "600"]
    finish(tmp_path / "whole", short)
    result = RunDirectory(tmp_path / "whole").result()
    assert result is not None
    for share in (0.1, 0.4):
        kill_after(tmp_path / "run", short, share * result["seconds"])
    if RunDirectory(tmp_path / "run").result() is None:
        finish(tmp_path / "run", short)
    assert_same_end(tmp_path / "whole", tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "kills"), [(POINT, 15), (REACHER, 15), (MT10, 4)], ids=["Point2D", "Reacher", "MT10 in processes"]
)
def test_kills_at_random_moments(arguments, kills, tmp_path):
    """Of training, evaluating and writing: with a checkpoint in every fifteenth of a run, all are hit."""
    if arguments is MT10:
        pytest.importorskip("metaworld")
    assert_survives(arguments, kills, tmp_path)
