"""Results of runs: written while they learn, put together, compared, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qmp_envs
from qmp_envs.measures import MEASURES
from qmp_envs.results.table import Results
from qmp_envs.results.validation import problems
from qmp_sb3.cli import main
from qmp_sb3.cli.main import parse
from qmp_sb3.experiments import RunDirectory, RunSpec, run
from qmp_sb3.experiments.analysis import exports
from qmp_sb3.experiments.analysis.comparison import compare
from qmp_sb3.experiments.analysis.results import common_end, curves, read_runs, scores, tell_apart
from qmp_sb3.experiments.analysis.statistics import AGGREGATES
from qmp_sb3.experiments.runs import provenance
from qmp_sb3.experiments.runs.mixture import Mixture
from tests.qmp_sb3.experiments.synthetic_runs import evaluation_of, synthetic_run

REACHER, POINT = "QMP/MultistageReacher-v0", "QMP/Point2D-v0"
QUICK = {"learning_starts": 40, "batch_size": 8, "policy_kwargs.net_arch": [8], "buffer_size": 1000}


def reacher_spec(steps: int = 1500, **changes: Any) -> RunSpec:
    values = {"eval_every": 500, "eval_episodes": 1, "overrides": {**QUICK, "train_freq": 20, "gradient_steps": 1}}
    return RunSpec(REACHER, "qmp", steps, **{**values, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "reacher"
    run(reacher_spec(), path)
    return path


def lab(method: str, seed: int, values: dict[int, list[list[float]]], task_set: str = "Lab/Arm-v1") -> Results:
    """A run with two tasks, from step -> subgoals ``(tasks, episodes)``."""
    parts = []
    for step, by_task in values.items():
        stages = np.array(by_task)
        nothing = np.full(stages.shape, np.nan)
        measured = evaluation_of(("left", "right"), stages * 10, stages * 0 + 5, nothing, nothing, stages)
        parts.append(Results.of(measured, task_set, method, seed, step, about={"reward": "ours"}))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.with_rows(part)
    return whole


CURVE = {100: [[0.0, 0.5], [0.5, 0.5]], 200: [[1.0, 0.5], [0.5, 0.5]], 300: [[1.0, 1.0], [0.0, 1.0]]}
"""Means of the tasks: (1/4, 1/2), (3/4, 1/2), (1, 1/2)."""


# ---- what a run writes -----------------------------------------------------------------------------------


def test_a_run_writes_every_episode(finished: Path) -> None:
    assert problems(RunDirectory(finished).results) == []
    results = Results.read(finished)
    tasks = qmp_envs.task_names(REACHER)
    assert results.tasks == tasks and results.unique("step") == [500, 1000, 1500]
    assert len(results) == 3 * 2 * len(tasks)
    result = RunDirectory(finished).result()
    assert result is not None
    last = results.where(policy="own", step=1500)
    for task in tasks:
        for measure, value in result["tasks"][task].items():
            assert last.where(task=task).column(measure).tolist() == [value]
    seconds = results.column("seconds")
    assert (np.diff(seconds) >= 0).all() and 0 < seconds[0] < seconds[-1] <= result["seconds"] + 1


def test_it_says_where_it_comes_from(finished: Path) -> None:
    about, config = Results.read(finished).about, RunDirectory(finished).config()
    assert about["run"] == reacher_spec().to_dict()
    assert about["versions"]["torch"] and about["versions"] == config["versions"]
    assert about["machine"]["processor"] and "gpus" in about["machine"]
    assert about["git"] == config["git"] and about["reward"] == "released code of QMP"
    assert about["settings"]["policy_kwargs.net_arch"] == [8]


@pytest.mark.parametrize(
    "overrides",
    [{}, {"gamma": 0.9, "behavior": "hold(10, argmax(q))", "policy_kwargs.net_arch": [8, 8]}, {"ent_coef": "auto"}],
)
def test_the_command_makes_the_same_run(overrides: dict[str, Any]) -> None:
    spec = RunSpec(POINT, "qmp", 200, seed=3, preset="paper", overrides=overrides, eval_every=7, eval_episodes=2)
    program, *words = provenance.command(spec)
    options = parse(words)
    assert program == "qmp"
    again = {name: getattr(options, name) for name in spec.to_dict()}
    assert RunSpec.from_dict(again) == spec


def test_options_of_the_environment_belong_to_the_reward(tmp_path: Path) -> None:
    run(
        RunSpec(POINT, "qmp", 60, overrides={**QUICK, "env_kwargs.reward": "distance"}, eval_episodes=1),
        tmp_path / "run",
    )
    assert Results.read(tmp_path / "run").about["reward"] == "exp(-distance), this project's choice; reward=distance"
    assert problems(RunDirectory(tmp_path / "run").results) == []


def test_the_mixture_counts_every_step(finished: Path) -> None:
    mixture = Mixture.read(finished)
    tasks = qmp_envs.task_names(REACHER)
    assert mixture.tasks == mixture.candidates == tasks and mixture.steps.tolist() == [500, 1000, 1500]
    np.testing.assert_array_equal(mixture.acted.sum(axis=2), np.full((3, 5), 100), "500 steps of 5 tasks each")
    np.testing.assert_allclose(mixture.shares.sum(axis=2), 1)
    assert mixture.about["run"]["method"] == "qmp"


def test_one_policy_has_no_mixture(tmp_path: Path) -> None:
    run(RunSpec(POINT, "qmp", 60, overrides=QUICK, eval_episodes=1), tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no mixture there"):
        Mixture.read(tmp_path / "run")


def without_seconds(results: Results) -> Any:
    return results.table.drop_columns(["seconds"])


def test_a_stopped_run_goes_on_with_its_results(tmp_path: Path, finished: Path) -> None:
    """Rows after the checkpoint are written anew, those before it are kept; the mixture counts on."""
    path = tmp_path / "run"
    spec = reacher_spec(checkpoint_every=10_000)
    asked = iter(range(10_000))
    assert not run(spec, path, should_stop=lambda: next(asked) >= 6).finished  # 6 rollouts of 20 x 5 steps
    assert RunDirectory(path).latest_checkpoint() is not None
    assert Results.read(path).unique("step") == [500]
    first = Results.read(path)
    late = Results.of(  # as a run leaves it that was killed after its checkpoint
        evaluation_of(first.tasks, *(np.ones((5, 1)) for _ in range(5))), REACHER, "qmp", 0, 1000
    )
    first.with_rows(late).write(RunDirectory(path).results)
    assert run(spec, path).finished
    results = Results.read(path)
    assert results.until(500).table.equals(first.table)
    assert results.table.num_rows == Results.read(finished).table.num_rows
    assert Mixture.read(path).steps.tolist() == [500, 1000, 1500]
    np.testing.assert_array_equal(Mixture.read(path).acted.sum(axis=2), np.full((3, 5), 100))


def test_damaged_results_are_written_again_from_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(reacher_spec(steps=500), path)
    results, mixture = Results.read(path), Mixture.read(path)
    directory = RunDirectory(path)
    directory.results.write_bytes(directory.results.read_bytes()[:-20])
    directory.mixture.unlink()
    assert main(["train", "--resume", str(path), "--steps", "1000"]) == 0
    assert Results.read(path).unique("step") == [500, 1000]
    assert Results.read(path).until(500).table.equals(results.table), "the wall times too"
    assert Mixture.read(path).steps.tolist() == [500, 1000]
    np.testing.assert_array_equal(Mixture.read(path).acted[:1], mixture.acted)


# ---- matrices --------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    runs = [lab("ours", 1, CURVE), lab("ours", 0, {**CURVE, 300: [[0.0, 0.0], [0.0, 0.0]]}), lab("theirs", 5, CURVE)]
    assert common_end(runs) == 300
    final = scores(runs, "subgoals")
    assert list(final) == ["ours", "theirs"]
    np.testing.assert_array_equal(final["ours"], [[0, 0], [1, 0.5]], "runs by seed")
    np.testing.assert_array_equal(scores(runs, "subgoals", at=299)["theirs"], [[0.75, 0.5]])
    np.testing.assert_array_equal(scores(runs, "subgoals", last=2)["theirs"], [[0.875, 0.5]])
    np.testing.assert_array_equal(scores(runs, "return", at=100)["theirs"], [[2.5, 5]])


def test_scores_are_taken_where_all_runs_have_been() -> None:
    runs = [lab("ours", 0, CURVE), lab("ours", 1, {100: CURVE[100], 210: CURVE[200]})]
    np.testing.assert_array_equal(scores(runs, "subgoals")["ours"], [[0.75, 0.5]] * 2)
    with pytest.raises(ValueError, match="ours on Lab/Arm-v1, seed 1, ends at step 210, before 300"):
        scores(runs, "subgoals", at=300)


def test_an_agent_with_one_evaluation_stands_beside_curves() -> None:
    runs = [lab("ours", 0, CURVE), lab("scripted", 0, {0: [[1.0, 1.0], [1.0, 1.0]]})]
    assert scores(runs, "subgoals", last=3)["scripted"].tolist() == [[1.0, 1.0]]
    assert list(curves(runs, "subgoals").values) == ["ours"]
    [ours, scripted] = compare(runs, ["subgoals"]).rows
    assert (ours.step, scripted.step) == (300, 0)


def test_curves_by_hand() -> None:
    runs = [lab("ours", 0, CURVE), lab("ours", 1, {150: CURVE[100], 300: CURVE[200]})]
    steps, values, tasks = curves(runs, "subgoals")
    assert steps.tolist() == [150, 200, 300] and tasks == ("left", "right")
    np.testing.assert_array_equal(values["ours"][0, 0], [0.25, 0.75, 1.0])
    np.testing.assert_array_equal(values["ours"][1, 0], [0.25, 0.25, 0.75])
    assert values["ours"].shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("runs", "measure", "message"),
    [
        (
            [lab("ours", 0, CURVE)],
            "success_any",
            "has no success_any of every episode; it has return, length, subgoals",
        ),
        ([lab("ours", 0, CURVE)], "subgaols", "did you mean 'subgoals'"),
        ([lab("ours", 0, CURVE), lab("ours", 0, CURVE)], "subgoals", "seed 0, is there twice"),
        ([lab("ours", 0, CURVE), lab("ours", 0, CURVE, "Lab/B-v1")], "subgoals", "several task sets"),
        ([lab("ours", 0, CURVE).where(task="left"), lab("ours", 1, CURVE)], "subgoals", "others have left"),
        ([], "subgoals", "no runs"),
    ],
)
def test_what_cannot_be_put_together(runs: list[Results], measure: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(runs, measure)


def test_settings_that_differ_are_named() -> None:
    def of(seed: int, **run: Any) -> Results:
        results = lab("qmp", seed, CURVE)
        return Results(results.table, {**results.about, "run": {"preset": "fast", "overrides": {}, **run}})

    shared = {"gamma": 0.9}
    runs = [
        of(0, overrides=shared),
        of(1, overrides={**shared, "tau": 0.1}),
        of(2, overrides={**shared, "tau": 0.2}, preset="paper"),
    ]
    assert [one.key[1] for one in tell_apart(runs)] == ["qmp", "qmp tau=0.1", "qmp preset=paper tau=0.2"]
    assert [one.key[1] for one in tell_apart(runs[:1])] == ["qmp"]


def test_rewards_that_differ_are_named() -> None:
    def of(seed: int, reward: str | None, **overrides: Any) -> Results:
        results = lab("qmp", seed, CURVE)
        return Results(results.table, {**results.about, "reward": reward, "run": {"overrides": overrides}})

    runs = [
        of(0, "theirs; dense"),
        of(1, "theirs; sparse"),
        of(2, "theirs; dense; bonus=2", **{"env_kwargs.bonus": 2}),
        of(3, None),
    ]
    named = [one.key[1] for one in tell_apart(runs)]
    dense, sparse = "qmp reward=theirs; dense", "qmp reward=theirs; sparse"
    assert named == [dense, sparse, "qmp env_kwargs.bonus=2 reward=theirs; dense", "qmp"]
    assert set(scores(tell_apart(runs[:2]), "subgoals")) == {dense, sparse}, "two rewards have no mean"
    assert [one.key[1] for one in tell_apart([runs[0], of(4, "theirs; dense")])] == ["qmp", "qmp"]


def test_runs_are_found_in_files_run_directories_and_folders(finished: Path, tmp_path: Path) -> None:
    lab("ours", 0, CURVE).write(tmp_path / "lab.csv")
    assert [one.key[:2] for one in read_runs([finished.parent, tmp_path / "lab.csv"])] == [
        (REACHER, "qmp"),
        ("Lab/Arm-v1", "ours"),
    ]
    with pytest.raises(ValueError, match="with seed 0 is in .*reacher and again in"):
        read_runs([finished, finished.parent])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="nor folders that have one"):
        read_runs([tmp_path / "empty"])


# ---- exports ---------------------------------------------------------------------------------------------


def test_exported_evaluations_are_those_that_the_run_wrote(finished: Path, tmp_path: Path) -> None:
    [file] = exports.evaluations(read_runs([finished]), tmp_path)
    assert file == tmp_path / "qmp" / "QMP-MultistageReacher-v0_0" / "evaluations.npz"
    with np.load(file) as ours, np.load(finished / "evaluations.npz") as written:
        assert set(ours.files) == set(written.files)
        for key in written.files:
            np.testing.assert_array_equal(ours[key], written[key], key)


def test_marl_eval_structure(tmp_path: Path) -> None:
    runs = [lab(method, seed, CURVE) for method in ("ours", "theirs, tuned") for seed in (0, 7)]
    [file] = exports.marl_eval(runs, tmp_path)
    tree = json.loads(file.read_text())
    assert set(tree["Lab/Arm-v1"]) == {"left", "right"}
    assert set(tree["Lab/Arm-v1"]["left"]) == {"ours", "theirs; tuned"}, "its tools refuse commas"
    evaluations = tree["Lab/Arm-v1"]["left"]["ours"]["seed_7"]
    assert list(evaluations) == ["step_0", "step_1", "step_2", "absolute_metrics"]
    assert evaluations["step_1"] == {"step_count": 200, "return": [10, 5], "length": [5, 5], "subgoals": [1, 0.5]}
    assert evaluations["absolute_metrics"] == {"return": [10, 10], "length": [5, 5], "subgoals": [1, 1]}
    with pytest.raises(ValueError, match="the same seeds of every method on Lab/Arm-v1, which has ours: 0, 7; theirs"):
        exports.marl_eval(runs[:3], tmp_path)


def test_rliable_reads_a_dictionary_of_matrices(tmp_path: Path) -> None:
    runs = [lab("ours", 0, CURVE), lab("ours", 1, CURVE), lab("theirs", 0, CURVE)]
    exports.rliable(runs, tmp_path)
    with np.load(tmp_path / "Lab-Arm-v1_subgoals_scores.npz") as file:
        assert {name: file[name].tolist() for name in file.files} == {
            "ours": [[1, 0.5], [1, 0.5]],
            "theirs": [[1, 0.5]],
        }
    with np.load(tmp_path / "Lab-Arm-v1_return_curves.npz") as file:
        assert file["ours"].shape == (2, 2, 3)
    about = json.loads((tmp_path / "Lab-Arm-v1_subgoals_about.json").read_text())
    assert about["tasks"] == ["left", "right"] and about["seeds"] == {"ours": [0, 1], "theirs": [0]}
    assert not list(tmp_path.glob("*success*")), "measures that are not defined"


# ---- the command -----------------------------------------------------------------------------------------


def test_show_as_json(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, subgoals in enumerate((0.0, 1.0)):
        lab("ours", seed, {9: [[subgoals] * 2] * 2}).write(tmp_path / f"{seed}.parquet")
    assert main(["results", "show", str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet"), "--json"]) == 0
    [compared] = json.loads(capsys.readouterr().out)
    row = next(row for row in compared["rows"] if row["measure"] == "subgoals")
    assert (row["method"], row["runs"], row["step"], row["iqm"], row["mean"]) == ("ours", 2, 9, 0.5, 0.5)
    assert row["mean_interval"] == [0.0, 1.0] and row["tasks"] == {"left": 0.5, "right": 0.5} and row["rank"] == 1


def test_show_names_unfinished_runs_and_ranks_no_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [synthetic_run(tmp_path / method, method) for method in ("no-sharing", "qmp")]
    made.append(synthetic_run(tmp_path / "unfinished", "qmp", 1, until=40_000))
    words = ["results", "show", *map(str, made)]

    def shown(*more: str) -> dict:
        assert main([*words, "--json", *more]) == 0
        [compared] = json.loads(capsys.readouterr().out)
        return compared

    who = "qmp seed 1 (40,000 of 100,000 steps)"
    compared = shown()
    assert compared["notes"] == [f"Not counted, because unfinished: {who}."]
    assert {(row["method"], row["runs"], row["step"]) for row in compared["rows"]} == {
        ("no-sharing", 1, 100_000),
        ("qmp", 1, 100_000),
    }
    ranks = {measure: [row["rank"] for row in compared["rows"] if row["measure"] == measure] for measure in MEASURES}
    assert ranks["length"] == [None, None] and sum(ranks["return"]) == 3
    at_a_step = shown("--at", "40000")
    assert at_a_step["notes"] == [f"Unfinished: {who}."] and at_a_step["rows"][1]["runs"] == 2
    assert main(words) == 0
    assert f"Not counted, because unfinished: {who}." in capsys.readouterr().out.splitlines()
    assert main(["results", "show", str(made[2])]) == 0
    assert "None of these runs reached its end." in capsys.readouterr().out


@pytest.mark.parametrize("statistic", AGGREGATES)
def test_show_any_statistic(statistic: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "lab.parquet")
    lab("ours", 0, CURVE).write(file)
    assert main(["results", "show", file, "--statistic", statistic, "--json"]) == 0
    [compared] = json.loads(capsys.readouterr().out)
    rows = {row["measure"]: row for row in compared["rows"]}
    assert rows["subgoals"][statistic] == pytest.approx(float(AGGREGATES[statistic](np.array([[1.0, 0.5]]))))
    assert ("return" in rows) == (statistic != "optimality_gap")
    assert main(["results", "show", file, "--statistic", statistic]) == 0
    assert statistic.replace("_", " ").lower() in capsys.readouterr().out.lower()
    with pytest.raises(SystemExit):
        main(["results", "show", "--help"])
    assert statistic in capsys.readouterr().out


def test_show_as_a_table(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "show", str(finished), "--tasks", "--policy", "mixture", "--at", "1000"]) == 0
    shown = capsys.readouterr().out
    for text in (REACHER, "qmp", "1,000", "one run", "subgoals", *qmp_envs.task_names(REACHER)):
        assert text in shown


def test_validate_says_all_and_fails(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = str(finished / "results.parquet"), str(tmp_path / "bad.csv")
    lab("ours", 0, {9: [[2.0, 0.0], [0.0, 0.0]]}).write(bad)
    assert main(["results", "validate", good, bad]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{good}: valid, 30 episodes of 1 run",
        f"{bad}: column 'subgoals', row 1: 2.0 is not allowed; it must be between 0 and 1, or null",
    ]


def test_collect_never_overwrites(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "all.parquet"
    assert main(["results", "collect", str(finished), "--out", str(out)]) == 0
    assert Results.read(out).about["run"] == reacher_spec().to_dict()
    assert main(["results", "collect", str(finished), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    other = tmp_path / "all.json"
    other.write_text("[]")
    assert main(["results", "collect", str(finished), "--out", str(tmp_path / "all.csv")]) == 2
    assert "all.json is there already" in capsys.readouterr().err
    assert other.read_text() == "[]" and not (tmp_path / "all.csv").exists()


def test_a_file_beside_a_csv_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "lab.json").write_text("mine")
    with pytest.raises(FileExistsError, match="lab.json is there already, without lab.csv"):
        lab("ours", 0, CURVE).write(tmp_path / "lab.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["lab.json"]
    (tmp_path / "lab.json").unlink()
    for _ in range(2):  # its own description is replaced with it
        lab("ours", 0, CURVE).write(tmp_path / "lab.csv")


@pytest.mark.parametrize("form", exports.FORMATS)
def test_export(form: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "export", str(finished), "--format", form, "--out", str(tmp_path / "out")]) == 0
    assert all(Path(line).is_file() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("results shw x", "did you mean 'show'?"),
        ("results show x --measures return", "did you mean '--measure'?"),
        ("results export x --format rlable --out y", "did you mean 'rliable'?"),
        ("results show nowhere", "nowhere: no results there"),
        ("results show FILE --statistic meen", "did you mean 'mean'?"),
        ("results show FILE --statistic optimality_gap --measure return", "return has no optimality_gap"),
        ("results validate nowhere.csv", "nowhere.csv: no such file"),
        ("results collect nowhere --out all.txt", "no results there"),
    ],
)
def test_mistakes_are_one_line(
    words: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path(__file__).parents[3] / "benchmarks" / "results" / "Maze-v0.parquet"
    assert main([str(file) if word == "FILE" else word for word in words.split()]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.startswith("qmp results") and message.count("\n") == 1
    assert not list(tmp_path.iterdir())
