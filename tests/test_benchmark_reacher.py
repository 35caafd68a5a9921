"""The table of the Reacher benchmark, on results made by hand, and the command on a few steps."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.paper import cheetah, curves, maze, measured, training
from benchmarks.paper.curves import Curves
from benchmarks.paper.reacher import minutes, summary, table

ROOT = Path(__file__).parent.parent


def written(path: Path, any_of_task_3: list[float]) -> Curves:
    """Five tasks, two episodes: all succeed but task 3, whose two episodes do as told in each evaluation."""
    evaluations = len(any_of_task_3)
    successes_any = np.ones((evaluations, 5, 2))
    successes_any[:, 3] = np.array(any_of_task_3)[:, None]
    path.mkdir()
    np.savez(
        path / "evaluations.npz",
        timesteps=100 * np.arange(1, evaluations + 1),
        successes_any=successes_any.reshape(evaluations, 10),
        successes=np.zeros((evaluations, 10)),
        stages=np.full((evaluations, 10), 1 / 3),
        task_names=np.array(list("abcde")),
    )
    return Curves.read(path)


def test_a_result_is_the_mean_of_the_last_three_evaluations(tmp_path):
    one = written(tmp_path / "one", [0, 0, 1, 1, 0])
    np.testing.assert_allclose(one.at("success_any", 500)[3], 2 / 3)
    np.testing.assert_allclose(one.at("success_any", 400)[3], 2 / 3)
    np.testing.assert_allclose(one.at("success_any", 200)[3], 0)
    assert np.isnan(one.at("success_any", 600)).all(), "the run is not there yet"
    other = written(tmp_path / "other", [0, 0, 0, 0, 0])
    values = summary([one, other], 500)
    np.testing.assert_allclose(values["success_any"], [(4 + 2 / 3) / 5, 0.8])
    np.testing.assert_allclose(values["subgoals"], 1 / 3)
    assert values["sparse solved"].tolist() == [1, 0]


def test_the_table_names_every_seed_and_leaves_unfinished_runs_out(tmp_path):
    solved = {"one": [1, 1, 1], "two": [0, 0, 0], "three": [1]}
    runs = [written(tmp_path / name, values) for name, values in solved.items()]
    line = table({"qmp": runs}, 300).splitlines()[-1]
    assert line == "| qmp | 2 | **0.90** | 1.00 0.80 | 0.00 | 0.33 | 1 of 2 |  |"


def test_the_time_is_that_of_the_tables_steps(tmp_path):
    for name, seconds in {"one": 600, "two": 900}.items():
        written(tmp_path / name, [1, 1, 1, 1])
        (tmp_path / name / "result.json").write_text(
            json.dumps({"run": {}, "seconds": seconds, "steps": 400, "tasks": {}})
        )
    runs = [Curves.read(tmp_path / name) for name in ("one", "two")]
    assert minutes(runs, 200) == "5.0 to 7.5" and minutes(runs[:1], 400) == "10.0"
    assert table({"parameters+qmp": runs}, 200).endswith("| 2 of 2 | 5.0 to 7.5 |")


def test_the_command(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.paper.reacher",
        "--methods",
        "no-sharing",
        "parameters+qmp",
        "qmp,gradient_steps=10",
        "--seeds",
        "0",
    ]
    options = ["--steps", "1000", "--jobs", "1", "--out", str(tmp_path / "runs")]
    result = subprocess.run(command + options, cwd=ROOT, capture_output=True, text=True, check=True)
    for method in ("no-sharing", "parameters+qmp", "qmp,gradient_steps=10"):
        [line] = [line for line in result.stdout.splitlines() if line.startswith(f"| {method} | 1 |")]
        assert float(line.split(" | ")[-1].rstrip(" |")) >= 0.0, "the minutes"
        assert (tmp_path / "runs" / f"{method}-0" / "result.json").exists()


def test_a_wrong_method_is_said_before_anything_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.paper.reacher", "--methods", "qmp", "parameters+pqm"]
    result = subprocess.run([*command, "--out", str(tmp_path / "runs")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and "did you mean 'qmp'" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_method_may_come_with_settings():
    assert training.parsed("parameters+qmp") == ("parameters+qmp", "fast", {})
    parsed = training.parsed("qmp,train_freq=2,policy_kwargs.net_arch=[64,64],preset=paper")
    assert parsed == ("qmp", "paper", {"train_freq": 2, "policy_kwargs.net_arch": [64, 64]})


def test_a_wrong_setting_is_said_before_anything_runs(tmp_path):
    for words, hint in (("qmp,train_frq=2", "train_freq"), ("qmp,preset=quick", "fast")):
        command = [sys.executable, "-m", "benchmarks.paper.maze", "--methods", words]
        result = subprocess.run([*command, "--out", str(tmp_path / "runs")], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2 and hint in result.stderr
    assert not (tmp_path / "runs").exists()


def test_recorded_curves_are_the_runs(tmp_path):
    one, other = written(tmp_path / "one", [0, 0.5, 1]), written(tmp_path / "other", [1, 1, 1])
    file = tmp_path / "new" / "results.json"
    curves.save(file, "python -m something", {("qmp", 1): one, ("mtsac", 0): other})
    curves.save(file, "python -m something", {("qmp", 0): other, ("mtsac", 0): one})
    loaded = curves.load(file)
    assert list(loaded) == ["mtsac", "qmp"]
    for read, run in zip([*loaded["qmp"], *loaded["mtsac"]], [other, one, one], strict=True):
        assert read.steps.tolist() == run.steps.tolist()
        for measure, values in run.values.items():
            np.testing.assert_allclose(read.values[measure], values, atol=0.005)
    assert "machine" in json.loads(file.read_text())


def test_the_pages_of_the_methods_show_the_recorded_runs():
    pages = sorted((ROOT / "docs").glob("**/*.md"))
    stale = [page.name for page in pages if measured.rewrite(page.read_text()) != page.read_text()]
    assert not stale, f"not up to date: {stale}; python -m benchmarks.paper.measured docs/results.md docs/methods/*.md"


def test_a_method_without_runs_is_said_to_have_none(tmp_path, monkeypatch):
    page = "text\n<!-- measured: decaf qmp -->\nold\n<!-- end -->\nmore\n"
    monkeypatch.setattr(curves, "load", lambda path: {"qmp": [written(tmp_path / "one", [1] * 12)]})
    monkeypatch.setattr(measured.reacher, "STUDY", replace(measured.reacher.STUDY, steps=1200))
    new = measured.rewrite(page)
    assert "| qmp | 1 | **1.00** |" in new and "Not trained to a result yet: `decaf`." in new
    assert new.startswith("text\n") and new.endswith("<!-- end -->\nmore\n") and "old" not in new


def test_returns_are_shown_over_time_and_by_task():
    returns = np.array([[100.0, 300.0, 0.0, 0.0, 0.0], [1000.0, 2000.0, 0.0, 0.0, 7000.0]])  # (evaluations, tasks)
    one = curves.Curves(np.array([1000, 2000]), {"returns": returns}, pace=0.06)
    assert cheetah.over_time({"paco": [one]}).splitlines()[-1] == "| paco | 1 | 80 | 2,000 | 1000.0 |"
    assert cheetah.by_task({"paco": [one, one]}).splitlines()[-1] == "| paco | 1,040 | 550 | 1,150 | 0 | 0 | 3,500 |"


def test_the_maze_says_when_a_route_was_found():
    success = np.array([[0.0, 0.6], [0.4, 0.2], [1.0, 1.0]])  # (evaluations, routes)
    one = curves.Curves(np.array([1000, 2000, 3000]), {"success_all": success}, pace=0.06)
    assert maze.found({"qmp": [one]}).splitlines()[-1] == "| qmp | 3k | 1k | 3k |"
    assert maze.over_time({"qmp": [one, one]}).splitlines()[-1] == "| qmp | 2 | 0.30 | 0.30 | 1.00 | 1000.0 |"
    never = curves.Curves(one.steps, {"success_all": np.zeros((3, 2))})
    assert maze.found({"qmp": [never]}).splitlines()[-1] == "| qmp | never | never | 3k |"
    short = curves.Curves(one.steps[:2], {"success_all": success[:2]}, pace=0.03)
    assert maze.over_time({"short": [short], "qmp": [one]}).splitlines()[-2:] == [
        "| short | 1 | 0.30 | 0.30 |  | 500.0 |",
        "| qmp | 1 | 0.30 | 0.30 | 1.00 | 1000.0 |",
    ]
