"""The documentation's tables, on results made by hand, and how runs get into them."""

import json
from dataclasses import fields
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from benchmarks.paper import curves, measured, record, tables
from benchmarks.paper.curves import Curves
from benchmarks.paper.tables import minutes, reacher, summary
from qmp_envs.evaluation import Evaluation
from qmp_envs.results.table import Results
from qmp_sb3.cli.bench import plan
from qmp_sb3.cli.main import main, parse
from qmp_sb3.experiments import RunDirectory, RunSpec
from qmp_sb3.experiments.benchmarks.pace import RECORDED

ROOT = Path(__file__).parents[2]


def written(path: Path, any_of_task_3: list[float], every: int = 100) -> Curves:
    """Five tasks, two episodes: all succeed but task 3, whose two episodes do as told in each evaluation."""
    evaluations = len(any_of_task_3)
    successes_any = np.ones((evaluations, 5, 2))
    successes_any[:, 3] = np.array(any_of_task_3)[:, None]
    others = {"return": 0.0, "length": 1.0, "success_all": 0.0, "subgoals": 1 / 3}
    values = {name: np.full((5, 2), value) for name, value in others.items()}
    rows = [
        Results.of(Evaluation(tuple("abcde"), {**values, "success_any": some}), RECORDED["reacher"], "qmp", 0, step)
        for step, some in zip(range(every, every * (evaluations + 1), every), successes_any, strict=True)
    ]
    reduce(Results.with_rows, rows).write(path / "results.parquet")
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
    line = reacher({"qmp": runs}, 300).splitlines()[-1]
    assert line == "| qmp | 2 | **0.90** | 1.00 0.80 | 0.00 | 0.33 | 1 of 2 |  |"


def test_the_time_is_that_of_the_tables_steps(tmp_path):
    for name, seconds in {"one": 600, "two": 900}.items():
        written(tmp_path / name, [1, 1, 1, 1])
        (tmp_path / name / "result.json").write_text(
            json.dumps({"run": {}, "seconds": seconds, "steps": 400, "tasks": {}})
        )
    runs = [Curves.read(tmp_path / name) for name in ("one", "two")]
    assert minutes(runs, 200) == "5.0 to 7.5" and minutes(runs[:1], 400) == "10.0"
    assert reacher({"parameters+qmp": runs}, 200).endswith("| 2 of 2 | 5.0 to 7.5 |")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs of ``ours-reacher`` at the smoke scale: separate learners, and QMP with settings."""
    out = tmp_path_factory.mktemp("runs")
    methods = ["no-sharing", "qmp,train_freq=2,policy_kwargs.net_arch=[8,8]"]
    words = ["bench", "ours-reacher", "--scale", "smoke", "--methods", *methods, "--jobs", "1", "--out", str(out)]
    assert main(words) == 0
    return [path for _, path in plan(parse(words))[1]]


def test_what_a_definition_trained_is_recorded(trained, tmp_path, capsys):
    record.main([str(path) for path in trained], tmp_path / "results")
    loaded = curves.load(tmp_path / "results" / "reacher.json")
    smoke = "learning_starts=10,train_freq={},gradient_steps=2,buffer_size=1000,env_kwargs.max_episode_steps=20"
    names = [f"no-sharing,{smoke.format(10)}", f"qmp,{smoke.format(2)},policy_kwargs.net_arch=[8,8]"]
    assert list(loaded) == names
    assert capsys.readouterr().out.splitlines() == [f"{name}, seed 0: 200 of 200 steps" for name in names]
    for name, path in zip(names, trained, strict=True):
        np.testing.assert_allclose(loaded[name][0].values["return"], Curves.read(path).values["return"], atol=0.005)
    [first, _] = json.loads((tmp_path / "results" / "reacher.json").read_text())["runs"]
    assert parse(first["command"].split()[1:]).method == "no-sharing" and first["machine"] and first["versions"]


def test_a_name_says_what_a_run_is():
    spec = RunSpec(RECORDED["reacher"], "qmp", 10, overrides={"train_freq": 2, "gradient_steps": 1})
    assert record.name(spec) == "qmp,train_freq=2,gradient_steps=1"
    assert record.name(RunSpec(RECORDED["cheetah"], "mtsac", 10, preset="ctpg-paper")) == "mtsac,preset=ctpg-paper"


def unfinished(path: Path, env: str = RECORDED["reacher"]) -> Path:
    """A run of 400 steps that ends at 300."""
    written(path, [0, 1, 1])
    parts = ("settings", "sources", "tasks", "reward", "versions", "git", "machine")
    RunDirectory(path).write_config({"run": RunSpec(env, "qmp", 400).to_dict()} | dict.fromkeys(parts))
    return path


def test_what_cannot_be_recorded_is_one_line_and_writes_nothing(trained, tmp_path, capsys):
    cases = {
        "is not finished: its curves end at 300 of 400 steps": unfinished(tmp_path / "part"),
        "task set='QMP/Point2D-v0' is unknown": unfinished(tmp_path / "point", "QMP/Point2D-v0"),
        "holds no run": tmp_path / "nothing",
        "as another of the runs is": trained[0],
    }
    for message, path in cases.items():
        with pytest.raises(SystemExit) as stopped:
            record.main([str(trained[0]), str(path)], tmp_path / "results")
        assert stopped.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert message in line and str(path) in line
    assert not (tmp_path / "results").exists()


def test_an_unfinished_run_is_recorded_where_that_is_wanted(tmp_path, capsys):
    record.main(["--unfinished", str(unfinished(tmp_path / "part"))], tmp_path / "results")
    assert capsys.readouterr().out == "qmp, seed 0: 300 of 400 steps\n"
    [run] = curves.load(tmp_path / "results" / "reacher.json")["qmp"]
    assert run.steps.tolist() == [100, 200, 300] and np.isnan(run.pace)


def test_the_recorded_commands_exist_and_make_the_runs():
    """The Reacher's and the Maze's are those of their definitions, for every method and seed."""
    for name, env in RECORDED.items():
        for run in json.loads((curves.RESULTS / f"{name}.json").read_text())["runs"]:
            given = vars(parse(run["command"].split()[1:]))
            spec = RunSpec(**{field.name: given[field.name] for field in fields(RunSpec)})
            assert (spec.env, record.name(spec), spec.seed) == (env, run["method"], run["seed"])
            if name != "cheetah" and spec.steps != 2_000_000:  # docs/results.md says how these differ
                rest = ["--task-sets", env, "--methods", run["method"], "--seeds", str(spec.seed)]
                planned = [plan(parse(["bench", table, *rest]))[1] for table in (f"ours-{name}", "qmp-table-2")]
                assert spec in [one for runs in planned for one, _ in runs]


def test_recorded_curves_are_the_runs(tmp_path):
    one, other = written(tmp_path / "one", [0, 0.5, 1]), written(tmp_path / "other", [1, 1, 1])
    file = tmp_path / "new" / "results.json"
    for runs in ({("qmp", 1): one, ("mtsac", 0): other}, {("qmp", 0): other, ("mtsac", 0): one}):
        curves.save(file, [{"method": key[0], "seed": key[1], **run.record()} for key, run in runs.items()])
    loaded = curves.load(file)
    assert list(loaded) == ["mtsac", "qmp"]
    for read, run in zip([*loaded["qmp"], *loaded["mtsac"]], [other, one, one], strict=True):
        assert read.steps.tolist() == run.steps.tolist()
        for measure, values in run.values.items():
            np.testing.assert_allclose(read.values[measure], values, atol=0.005)


def test_the_pages_of_the_methods_show_the_recorded_runs():
    pages = sorted((ROOT / "docs").glob("**/*.md"))
    stale = [page.name for page in pages if measured.rewrite(page.read_text()) != page.read_text()]
    assert not stale, f"not up to date: {stale}; python -m benchmarks.paper.measured docs/results.md docs/methods/*.md"


def test_a_method_without_runs_is_said_to_have_none(tmp_path, monkeypatch):
    page = "text\n<!-- measured: decaf qmp -->\nold\n<!-- end -->\nmore\n"
    monkeypatch.setattr(measured, "load", lambda path: {"qmp": [written(tmp_path / "one", [1] * 12, every=25_000)]})
    new = measured.rewrite(page)
    assert "| qmp | 1 | **1.00** |" in new and "Not trained to a result yet: `decaf`." in new
    assert new.startswith("text\n") and new.endswith("<!-- end -->\nmore\n") and "old" not in new


def test_returns_are_shown_over_time_and_by_task():
    returns = np.array([[100.0, 300.0, 0.0, 0.0, 0.0], [1000.0, 2000.0, 0.0, 0.0, 7000.0]])  # (evaluations, tasks)
    one = curves.Curves(np.array([1000, 2000]), {"return": returns}, pace=0.06)
    over_time = tables.over_time({"paco": [one]}, "return", "mean return at", ",.0f")
    assert over_time.splitlines()[-1] == "| paco | 1 | 80 | 2,000 | 1000.0 |"
    by_task = tables.returns({"paco": [one, one]}, list("abcde"))
    assert by_task.splitlines()[-1] == "| paco | 1,040 | 550 | 1,150 | 0 | 0 | 3,500 |"


def over_time(by_method: dict[str, list[Curves]]) -> list[str]:
    """The lines of the Maze's table."""
    return tables.over_time(by_method, "success_all", "mean success at").splitlines()


def test_the_maze_says_when_a_route_was_found():
    success = np.array([[0.0, 0.6], [0.4, 0.2], [1.0, 1.0]])  # (evaluations, routes)
    one = curves.Curves(np.array([1000, 2000, 3000]), {"success_all": success}, pace=0.06)
    assert tables.found({"qmp": [one]}).splitlines()[-1] == "| qmp | 3k | 1k | 3k |"
    assert over_time({"qmp": [one, one]})[-1] == "| qmp | 2 | 0.30 | 0.30 | 1.00 | 1000.0 |"
    never = curves.Curves(one.steps, {"success_all": np.zeros((3, 2))})
    assert tables.found({"qmp": [never]}).splitlines()[-1] == "| qmp | never | never | 3k |"
    short = curves.Curves(one.steps[:2], {"success_all": success[:2]}, pace=0.03)
    assert over_time({"short": [short], "qmp": [one]})[-2:] == [
        "| short | 1 | 0.30 | 0.30 |  | 500.0 |",
        "| qmp | 1 | 0.30 | 0.30 | 1.00 | 1000.0 |",
    ]
