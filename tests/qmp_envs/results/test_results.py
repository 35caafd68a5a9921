"""The results file as another lab meets it: filled without our algorithms, written, read, and checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

import qmp_envs
from qmp_envs.evaluation import Evaluation
from qmp_envs.results.table import ABOUT, COLUMNS, Results
from qmp_envs.results.validation import problems

ROOT = Path(__file__).resolve().parents[3]
MAZE = "QMP/Maze-v0"
CHEETAH = "QMP/HalfCheetahGravity-v0"


def evaluation(tasks: tuple[str, ...], episodes: int = 2, seed: int = 0, **measures: float) -> Evaluation:
    """Random returns; every other measure is the number given, or not defined."""
    shape = len(tasks), episodes
    arrays = {name: np.full(shape, measures.get(name, np.nan)) for name in ("success_any", "success_all", "subgoals")}
    returns = np.random.default_rng(seed).normal(size=shape)
    return Evaluation(tasks, {"return": returns, "length": np.full(shape, 20.0), **arrays})


def maze(seed: int = 0, step: int = 100, **options: Any) -> Results:
    tasks = qmp_envs.task_names(MAZE)
    measured = evaluation(tasks, success_any=1.0, success_all=0.0)
    return Results.of(measured, MAZE, "agent", seed, step, **options)


def test_rows_are_the_episodes() -> None:
    measured = evaluation(("left", "right"), episodes=3, success_any=1.0)
    results = Results.of(measured, "Lab/Arm-v1", "ours", seed=4, step=7, seconds=1.5)
    assert results.table.schema == COLUMNS
    assert results.column("task").tolist() == ["left"] * 3 + ["right"] * 3
    assert results.column("episode").tolist() == [0, 1, 2] * 2
    np.testing.assert_array_equal(results.column("return"), measured["return"].reshape(-1))
    assert results.column("success_any").tolist() == [1.0] * 6
    assert results.table["subgoals"].null_count == 6, "what is not defined is null, not a number"
    assert results.key == ("Lab/Arm-v1", "ours", 4) and results.tasks == ("left", "right")
    assert set(results.column("seconds")) == {1.5} and set(results.column("step")) == {7}


def test_the_protocol_fills_them(tmp_path: Path) -> None:
    """From ``qmp_envs.evaluate`` to a valid file, with nothing else."""
    space = qmp_envs.make_task_set(CHEETAH).action_space
    zeros = lambda observations, tasks: np.zeros((len(observations), *space.shape))  # noqa: E731
    measured = qmp_envs.evaluate(zeros, CHEETAH, episodes=1, max_episode_steps=5)
    results = Results.of(measured, CHEETAH, "zeros", seed=0, step=0)
    results.write(tmp_path / "zeros.parquet")
    assert problems(tmp_path / "zeros.parquet") == []
    assert set(results.about) == set(ABOUT)
    assert results.about["reward"] == "Gymnasium's HalfCheetah-v5, unscaled"
    assert results.about["versions"]["mujoco"] and results.about["machine"]["cpus"] >= 1


def test_they_need_no_learning_library() -> None:
    code = "import sys, qmp_envs.results.table, qmp_envs.results.validation; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["results.parquet", "results.csv"])
def test_written_and_read_it_is_the_same(name: str, tmp_path: Path) -> None:
    results = maze(about={"git": {"commit": "abc", "edited": False}, "paper": "Ünlü 2026"})
    results.write(tmp_path / name)
    read = Results.read(tmp_path / name)
    assert read.table.equals(results.table) and read.about == results.about
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_folder_stands_for_its_file(tmp_path: Path) -> None:
    maze().write(tmp_path / "results.parquet")
    assert Results.read(tmp_path).key == (MAZE, "agent", 0)
    with pytest.raises(FileNotFoundError, match="no results there"):
        Results.read(tmp_path / "elsewhere")


def test_several_runs_in_a_file_keep_their_descriptions(tmp_path: Path) -> None:
    parts = [maze(seed, seconds=float(seed)) for seed in (3, 1, 2)]
    Results.concatenate(parts).write(tmp_path / "all.parquet")
    runs = Results.read(tmp_path / "all.parquet").runs()
    assert [run.key[2] for run in runs] == [3, 1, 2]
    for run, part in zip(runs, parts, strict=True):
        assert run.table.equals(part.table) and run.about == part.about
    again = Results.concatenate([Results.concatenate(parts[:2]), parts[2]])
    assert again.about == Results.concatenate(parts).about
    with pytest.raises(ValueError, match="two runs of agent on QMP/Maze-v0 have the seed 1"):
        Results.concatenate([*parts, maze(1)])


def test_one_description_may_serve_several_runs() -> None:
    both = maze(0).with_rows(maze(1))
    assert [run.about["run"]["seed"] for run in both.runs()] == [0, 1]
    with pytest.raises(ValueError, match="hold 2 runs"):
        _ = both.key


# ---- what is wrong with a file ---------------------------------------------------------------------------


def changed(column: str, row: int, value: Any) -> Callable[[dict[str, list]], None]:
    def change(rows: dict[str, list]) -> None:
        rows[column][row] = value

    return change


def renamed(old: str, new: str) -> Callable[[dict[str, list]], None]:
    return lambda rows: rows.__setitem__(new, rows.pop(old))


def dropped(row: int) -> Callable[[dict[str, list]], None]:
    def change(rows: dict[str, list]) -> None:
        for values in rows.values():
            del values[row]

    return change


ROWS = [
    (changed("task", 4, "route-21"), ["column 'task', row 5: unknown 'route-21'; did you mean 'route-2'?"]),
    (changed("policy", 0, "owm"), ["column 'policy', row 1: unknown 'owm'; did you mean 'own'?"]),
    (changed("seed", 2, -1), ["column 'seed', row 3: -1 is not allowed; it must be 0 or more"]),
    (changed("length", 2, 0), ["column 'length', row 3: 0 is not allowed; it must be 1 or more"]),
    (changed("return", 2, float("inf")), ["column 'return', row 3: inf is not allowed; it must be a finite number"]),
    (changed("success_any", 9, 0.5), ["column 'success_any', row 10: 0.5 is not allowed; it must be 0 or 1, or null"]),
    (changed("success_all", 9, None), ["column 'success_all', row 10: null, while other rows of QMP/Maze-v0 have"]),
    (changed("task", 0, None), ["column 'task', row 1: null is not allowed"]),
    (changed("episode", 1, 0), ["row 2 is the same episode as row 1", "every task needs as many episodes"]),
    (dropped(0), ["every task needs as many episodes, there are {'route-0': 1, 'route-1': 2"]),
    (renamed("return", "retrun"), ["column 'retrun' is unknown; did you mean 'return'?", "column 'return' is missing"]),
    (renamed("task_set", "x"), ["column 'task_set' is missing; it holds string"]),
]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(("change", "expected"), ROWS)
def test_every_problem_of_the_rows_is_a_line(
    change: Callable[[dict[str, list]], None], expected: list[str], suffix: str, tmp_path: Path
) -> None:
    results, path = maze(), tmp_path / f"lab{suffix}"
    rows = results.table.to_pydict()
    change(rows)
    broken = pa.table(rows)
    Results(broken, results.about).write(path)
    found = problems(path)
    for text in expected:
        assert any(text in line for line in found), found
    assert all("\n" not in line for line in found)


def test_an_unknown_id_of_ours_is_named_and_a_stranger_is_not(tmp_path: Path) -> None:
    measured = evaluation(("left", "right"))
    for id, count in (("QMP/Maze-v1", 1), ("Lab/Arm-v1", 0)):
        Results.of(measured, id, "ours", 0, 0, about={"reward": "ours"}).write(tmp_path / "lab.parquet")
        found = problems(tmp_path / "lab.parquet")
        assert len(found) == count, found
        assert not count or "did you mean 'QMP/Maze-v0'?" in found[0]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"schema": 2}, "'schema' is 2; it must be 1"),
        ({"reward": "sparse"}, "'reward' is 'sparse'; QMP/Maze-v0 has 'released code of QMP, dense'"),
        ({"reward": None}, "'reward' is None; it must be the words"),
        ({"command": "train.py"}, "'command' is 'train.py'; it must be a list of words"),
        ({"git": {"sha": "1"}}, "'git' is"),
        ({"versions": {}}, "'versions' is {}"),
        ({"seconds": "long"}, "'seconds' is 'long'"),
        ({"runs": [{"rows": {"task_set": MAZE}}]}, "run 1: 'rows' must hold task_set, method, seed"),
        ({"runs": []}, "no run for the rows of task_set 'QMP/Maze-v0', method 'agent', seed 0"),
    ],
)
def test_every_problem_of_the_description_is_a_line(about: dict, expected: str, tmp_path: Path) -> None:
    maze(about=about).write(tmp_path / "lab.parquet")
    found = problems(tmp_path / "lab.parquet")
    assert any(expected in line for line in found), found


def test_options_are_added_to_the_reward(tmp_path: Path) -> None:
    maze(about={"reward": "released code of QMP, dense; reward=sparse"}).write(tmp_path / "lab.parquet")
    assert problems(tmp_path / "lab.parquet") == []


def test_a_missing_key_names_what_is_there_instead(tmp_path: Path) -> None:
    results = maze()
    about = {"rewrad" if key == "reward" else key: value for key, value in results.about.items()}
    Results(results.table, about).write(tmp_path / "lab.parquet")
    assert problems(tmp_path / "lab.parquet") == ["description: no key 'reward'; there is 'rewrad'"]


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "lab.parquet"
    path.write_bytes(b"PAR1 and no more")
    assert problems(path) == [f"{path} is no Parquet file, or a damaged one"]
    with pytest.raises(ValueError, match="no Parquet file"):
        Results.read(path)
    pa.parquet.write_table(maze().table, path)
    assert "there is no description" in problems(path)[0]
    with pytest.raises(ValueError, match="no description of its runs"):
        Results.read(path)
    with pytest.raises(FileNotFoundError):
        problems(tmp_path / "nothing.parquet")


def test_text_where_numbers_belong(tmp_path: Path) -> None:
    path = tmp_path / "lab.csv"
    maze().write(path)
    path.write_text(path.read_text().replace(",100,", ",soon,", 2))
    assert problems(path) == ["column 'step', rows 1, 2: 'soon' is no int64"]
    path.with_suffix(".json").write_text(json.dumps(["a list"]))
    assert "description: a JSON object is needed" in problems(path)[-1]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "results").glob("*.parquet")), ids=lambda path: path.stem
)
def test_our_own_results_are_valid(path: Path) -> None:
    assert problems(path) == []


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.parquet", tmp_path / "damaged.parquet"
    maze().write(whole)
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        damaged.write_bytes(content)
        try:
            Results.read(damaged).runs()
        except ValueError as error:
            assert not isinstance(error, UnicodeError) and str(damaged) in str(error)
