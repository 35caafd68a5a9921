"""``qmp bench`` as a user meets it, on a definition that takes seconds."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from qmp_envs.results.table import Results
from qmp_sb3.cli import main
from qmp_sb3.cli.bench import plan
from qmp_sb3.cli.main import parse
from qmp_sb3.experiments import RunDirectory, RunSpec
from qmp_sb3.experiments.benchmarks import pace
from qmp_sb3.experiments.benchmarks.definitions import available, read
from qmp_sb3.experiments.benchmarks.published import borrowed, cells, compare, reached
from qmp_sb3.experiments.benchmarks.scales import SCALES
from qmp_sb3.experiments.runs.run import describe
from tests.qmp_sb3.algorithms.going_on import assert_same_end
from tests.qmp_sb3.experiments.synthetic_runs import evaluation_of

DEFINITION = """
title: A point
source: nobody, table 0
about: Two learners cross a square.
measure: success_any
published: made up
preset: fast
seeds: 2
episodes: 2
methods:
  no-sharing: {label: alone}
  qmp: {label: together}
task_sets:
  point: {id: QMP/Point2D-v0, steps: 10_000, published: {qmp: [50, 5], no-sharing: 25}}
claims: [Points are small.]
missing: [A third learner.]
"""
QUICK = ["learning_starts=40", "batch_size=8", "policy_kwargs.net_arch=[8]"]


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(DEFINITION, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("bench", "qmp bench --list shows all"),
        ("bench qmp-tabel-2", "did you mean 'qmp-table-2'?"),
        ("bench nothing.yaml", "cannot be read"),
        ("bench qmp-table-2 --scale labtop", "did you mean 'laptop'?"),
        ("bench qmp-table-2 --engine slrum", "did you mean 'slurm'?"),
        ("bench qmp-table-2 engine.thread=2", "did you mean 'threads'?"),
        ("bench qmp-table-2 --methods qpm", "did you mean 'qmp'?"),
        ("bench qmp-table-2 --methods qmp,gama=0.9", "did you mean 'gamma'?"),
        ("bench qmp-table-2 --task-sets Reecher", "did you mean 'Reacher'?"),
        ("bench qmp-figure-5 gama=0.9", "did you mean 'gamma'?"),
        ("bench qmp-figure-5 --seeds one", "'one' is not a number"),
        ("bench qmp-figure-5 --jobs 0", "it must be at least 1"),
        ("bench --lits", "did you mean '--list'?"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    message = capsys.readouterr().err
    assert expected in message and message.startswith("qmp ") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_list_has_every_definition(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in available())
    steps = sum(one.spec.steps for one in read("qmp-table-2").runs(SCALES["full"]))
    assert f"{steps / 1e6:,.1f} M steps" in listed


def test_a_dry_run_shows_runs_folders_and_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    out = tmp_path / "runs"
    words = ["bench", "qmp-table-2", "--task-sets", "Reacher", "--seeds", "0", "7", "--dry-run", "--out", str(out)]
    assert main([*words, "gamma=0.9"]) == 0
    shown = capsys.readouterr().out
    assert not out.exists()
    assert shown.count("MultistageReacher-v0_") == 6 and "to do" in shown and "not measured" not in shown
    assert "Reacher: 400,000 steps (the authors': 2,000,000)" in shown
    assert "6 runs, 0 finished" in shown


def test_a_definition_is_run_compared_and_then_left_alone(
    definition: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "runs"
    words = ["bench", str(definition), "--scale", "smoke", "--methods", "qmp", "qmp,tau=0.1", "--out", str(out), *QUICK]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for text in ("Scale smoke", "Seeds: 1 (the authors': 2).", "together", "qmp,tau=0.1", "50 ± 5", "1 of 1"):
        assert text in shown
    assert "Published: made up." in shown and "Missing: A third learner." in shown
    folders = [RunDirectory(path) for path in out.iterdir() if path.is_dir()]
    assert len(folders) == 2 and all(one.result() is not None for one in folders)
    before = {file: file.stat().st_mtime_ns for one in folders for file in one.path.rglob("*")}
    assert main(words) == 0
    assert "2 runs, 2 of them finished before" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for one in folders for file in one.path.rglob("*")} == before


def test_a_failed_run_is_named_and_the_exit_code_tells(
    definition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    words = ["bench", str(definition), "--scale", "smoke", "--methods", "qmp", "--out", str(out), *QUICK]
    _, [(spec, path)] = plan(parse(words))
    path.mkdir(parents=True)
    RunDirectory(path).write_config(describe(spec))
    (path / "checkpoints").write_text("in the way")
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "Failed: qmp on QMP/Point2D-v0, seed 0: " in shown and str(path) in shown
    assert "Traceback" in (path / "error.txt").read_text(encoding="utf-8")


def test_what_cannot_be_compared_is_a_line_after_the_failures(
    definition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    words = ["bench", str(definition), "--scale", "smoke", "--out", str(out), *QUICK]
    assert main([*words, "--methods", "qmp"]) == 0
    _, [(_, good)] = plan(parse([*words, "--methods", "qmp"]))
    (good / "results.parquet").write_bytes(b"PAR1")
    assert main([*words, "--methods", "qmp"]) == 1, "nothing failed, but nothing was compared"
    _, [(spec, path)] = plan(parse([*words, "--methods", "no-sharing"]))
    path.mkdir(parents=True)
    RunDirectory(path).write_config(describe(spec))
    (path / "checkpoints").write_text("in the way")
    capsys.readouterr()
    assert main(words) == 1
    shown = " ".join(capsys.readouterr().out.split())
    places = [shown.index(text) for text in ("Failed: no-sharing", "No comparison: ", "No report: ")]
    assert places == sorted(places) and "Parquet" in shown[places[1] :]


@pytest.mark.slow
def test_every_engine_gives_the_same_six_runs(definition: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'cluster' is not installed")
    pytest.importorskip("submitit", reason="the extra 'cluster' is not installed")
    rows = ["--scale", "smoke", "--methods", "no-sharing", "qmp", "qmp-hold", "--seeds", "0", "1"]
    for engine, settings in {"local": [], "ray": [], "slurm": ["engine.cluster=local"]}.items():
        words = [*rows, "--engine", engine, "--out", str(tmp_path / engine), "--jobs", "2", *settings, *QUICK]
        assert main(["bench", str(definition), *words]) == 0
    runs = sorted(path.name for path in (tmp_path / "local").iterdir() if (path / "result.json").is_file())
    assert len(runs) == 6
    for name in runs:
        for engine in ("ray", "slurm"):
            assert_same_end(tmp_path / "local" / name, tmp_path / engine / name)


def test_ctrl_c_saves_every_run_and_says_how_to_go_on(definition: Path, tmp_path: Path) -> None:
    definition.write_text(DEFINITION.replace("10_000", "10_000_000"), encoding="utf-8")
    words = ["bench", str(definition), "--scale", "full", "--methods", "qmp", "--seeds", "0"]
    words += ["--out", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "qmp_sb3.cli", *words, *QUICK]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "of 10,000,000 steps" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    again = shlex.join(["qmp", *words, *QUICK])
    assert output.strip().splitlines()[-1] == f"Stopped with checkpoints; resume with: {again}"
    [path] = (tmp_path / "runs").iterdir()
    assert RunDirectory(path).latest_checkpoint() is not None and RunDirectory(path).result() is None


# ---- the comparison ----


def finished(path: Path, spec: RunSpec, success: float, seconds: float = 7200.0) -> tuple[RunSpec, Path]:
    """A run directory with three evaluations of two episodes, whose success is the same in all of them."""
    names = ("reach",)
    rows: list[Results] = []
    for step in (100, 200, 300):
        ones = np.full((1, 2), success)
        evaluation = evaluation_of(names, ones, ones.astype(int), ones, ones, ones * np.nan)
        rows.append(Results.of(evaluation, spec.env, spec.method, spec.seed, step))
    path.mkdir()
    reduce(Results.with_rows, rows).write(path / "results.parquet")
    RunDirectory(path).write_result({"run": spec.to_dict(), "steps": 300, "seconds": seconds, "tasks": {}})
    return spec, path


def test_ours_stand_beside_theirs_in_their_unit(definition: Path, tmp_path: Path) -> None:
    benchmark = read(str(definition))
    planned = benchmark.runs(SCALES["laptop"])
    success = {("no-sharing", 0): 0.0, ("no-sharing", 1): 0.5, ("qmp", 0): 1.0}
    runs = [
        finished(tmp_path / f"{key[0]}-{key[1]}", one.spec, success[key]) if key in success else (one.spec, tmp_path)
        for one in planned
        for key in [(one.arm.name, one.spec.seed)]
    ]
    alone, together = compare(benchmark, runs)
    assert (alone.mean, alone.planned, len(alone.scores), str(alone.published)) == (25.0, 2, 2, "25")
    assert alone.spread == pytest.approx(np.std([0, 50], ddof=1))
    assert (together.mean, together.planned, len(together.scores), str(together.published)) == (100.0, 2, 1, "50 ± 5")
    assert np.isnan(together.spread)
    assert cells(alone) == ("point (success_any, percent)", "alone", "2 of 2", "25.0 ± 35.4", "25.0 [0.0, 50.0]", "25")
    hours = replace(benchmark, parts=tuple(replace(one, measure="hours", unit="hours") for one in benchmark.parts))
    assert [row.mean for row in compare(hours, runs)] == [2.0, 2.0]


def test_the_best_moment_is_that_of_the_mean_over_seeds(tmp_path: Path) -> None:
    for seed, course in enumerate(([0.0, 1.0, 0.4], [0.2, 0.0, 0.4])):
        spec = RunSpec("QMP/Point2D-v0", "qmp", 300, seed)
        rows = []
        for step, value in zip((100, 200, 300), course, strict=True):
            one = np.full((1, 2), value)
            evaluation = evaluation_of(("reach",), one, one.astype(int), one, one, one)
            rows.append(Results.of(evaluation, spec.env, "qmp", seed, step))
        (tmp_path / str(seed)).mkdir()
        reduce(Results.with_rows, rows).write(tmp_path / str(seed) / "results.parquet")
    _, best = reached([tmp_path / "0", tmp_path / "1"], "success_any", "best")
    np.testing.assert_allclose(best, [[1.0], [0.0]])  # 0.5 on average, at 200 steps
    _, last = reached([tmp_path / "0", tmp_path / "1"], "success_any", "end")
    np.testing.assert_allclose(last, [[1.4 / 3], [0.2]])


def test_what_was_borrowed() -> None:
    acted = np.array([[30, 10, 0], [0, 0, 0], [5, 5, 10]])  # (tasks, candidates)
    np.testing.assert_allclose(borrowed(acted), [0.25, 1.0, 0.5])


# ---- hours ----


def test_hours_come_from_measured_runs(tmp_path: Path) -> None:
    spec = RunSpec("QMP/Point2D-v0", "qmp", 300)
    _, path = finished(tmp_path / "run", spec, 1.0, seconds=30.0)
    measured = pace.known([path, tmp_path / "nothing"])
    assert pace.hours(replace(spec, steps=3600, seed=4), measured) == pytest.approx(0.1)
    assert pace.hours(replace(spec, method="no-sharing", steps=3600), measured) == pytest.approx(0.1), "as the slowest"
    assert pace.hours(replace(spec, env="QMP/Kitchen-v0"), measured) is None
    assert pace.hours(RunSpec("QMP/Maze-v0", "qmp", 6_000_000), measured) > 0.1, "recorded by the suite"
