"""The definitions of tables, the papers' and ours: all are whole, and a wrong one is refused by one clear line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from qmp_sb3 import presets
from qmp_sb3.cli import main
from qmp_sb3.experiments import RunSpec, run
from qmp_sb3.experiments.benchmarks.benchmark import Benchmark, Published
from qmp_sb3.experiments.benchmarks.definitions import available, folder, from_dict, read
from qmp_sb3.experiments.benchmarks.scales import SCALES

NAMES = available()
WANTED = {
    *(f"qmp-figure-{number}" for number in (5, 7, 8, 9, 10, 11, 13, 16)),
    *("qmp-figure-8-appendix", "qmp-figure-9-appendix", "qmp-figure-10-appendix"),
    *("qmp-table-2", "qmp-table-3", "ctpg-main"),
    *(f"ta-per-table-{number}" for number in (1, 4, 5, 6)),
    *("ours-reacher", "ours-maze", "ours-cheetah"),
}


def published(benchmark: Benchmark) -> dict[tuple[str, str], Published]:
    return {(part.label, arm): number for part in benchmark.parts for arm, number in part.published.items()}


def test_every_table_and_figure_has_a_definition() -> None:
    assert set(NAMES) == WANTED


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_every_definition_has_settings_and_a_place(name: str) -> None:
    benchmark = read(name)
    for scale in (SCALES["laptop"], SCALES["full"]):
        planned = benchmark.runs(scale)
        assert {(one.part.label, one.arm.name) for one in planned} == {
            (part.label, arm) for part in benchmark.parts for arm in part.arms
        }
        for one in planned:
            assert benchmark.place(one.spec) == (one.part, one.arm)
            presets.settings(one.spec.method, one.spec.env, one.spec.preset)
            presets.check_overrides(one.spec.overrides)
            assert one.spec.steps >= one.spec.eval_every


@pytest.mark.parametrize("name", NAMES)
def test_full_scale_is_what_the_authors_did(name: str) -> None:
    benchmark = read(name)
    planned = benchmark.runs(SCALES["full"])
    assert {one.spec.preset for one in planned} == {benchmark.preset}
    assert {one.spec.seed for one in planned} == set(range(benchmark.seeds))
    assert all(one.spec.steps == one.part.steps and one.spec.eval_episodes == benchmark.episodes for one in planned)
    assert "authors':" not in "".join(benchmark.statement(SCALES["full"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_scale_says_what_it_leaves(name: str) -> None:
    benchmark, scale = read(name), SCALES["laptop"]
    said = "\n".join(benchmark.statement(scale))
    own = benchmark.at(scale)
    assert (f"authors': {benchmark.preset})" in said) == (own.preset != benchmark.preset)
    assert (f"(the authors': {benchmark.seeds})" in said) == (own.seeds != benchmark.seeds)
    for part in benchmark.parts:
        assert benchmark.steps(part, scale) <= part.steps
        shorter = benchmark.steps(part, scale) < part.steps
        assert (
            f"{part.label}: {benchmark.steps(part, scale):,} steps (the authors': {part.steps:,})" in said
        ) == shorter


def test_the_numbers_are_the_papers() -> None:
    """Some of each table, read from the papers by hand."""
    table_2 = published(read("qmp-table-2"))
    assert len(table_2) == 18
    assert str(table_2["Maze", "qmp"]) == "72.9 ± 0.1" and str(table_2["Walker", "qmp-hold"]) == "3310 ± 203"
    assert str(published(read("qmp-table-3"))["Reacher Multistage", "parameters+qmp"]) == "16.2"
    ctpg = published(read("ctpg-main"))
    assert len(ctpg) == 60
    assert str(ctpg["MetaWorld MT50", "paco+ctpg"]) == "68.1 ± 3.44"
    assert str(ctpg["HalfCheetah MT8", "paco+qmp"]) == "9.28 ± 0.48"
    assert str(published(read("ta-per-table-1"))["MT10-rand", "shared-unique"]) == "88.5 ± 5.3"
    assert str(published(read("ta-per-table-4"))["MT10-rand", "average"]) == "86.2 ± 4.3"
    assert str(published(read("ta-per-table-5"))["MT10-rand", "unique"]) == "85.7 ± 6.2"
    assert str(published(read("ta-per-table-6"))["MT10-rand", "soft-modules+ta-per"]) == "60.1 ± 4.9"
    for name in NAMES:
        stated = read(name).published
        if stated is None or stated.startswith("none given"):
            assert not published(read(name))
        assert (stated is None) == name.startswith("ours-")


@pytest.mark.parametrize(
    ("name", "steps", "eval_every"),
    [("ours-reacher", 300_000, 25_000), ("ours-maze", 6_000_000, 100_000), ("ours-cheetah", 1_000_000, 50_000)],
)
def test_our_own_tables_are_whole_at_every_scale_but_smoke(name: str, steps: int, eval_every: int) -> None:
    laptop, full = (read(name).runs(SCALES[scale]) for scale in ("laptop", "full"))
    assert laptop == full
    assert {(one.spec.preset, one.spec.steps, one.spec.eval_every) for one in full} == {("fast", steps, eval_every)}
    assert "Seeds: 1 (ours in full: 5)." in read("ours-reacher").statement(SCALES["smoke"])


def test_tables_share_the_runs_that_they_have_in_common() -> None:
    def names(name: str) -> set[str]:
        return {one.spec.directory_name({}) for one in read(name).runs(SCALES["laptop"], seeds=[0])}

    assert len(names("qmp-figure-7") & names("qmp-figure-8")) == 18  # six task sets with three methods each


GOOD = yaml.safe_load((folder() / "qmp-table-2.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.update(sedes=3), "mine: unknown key 'sedes'; did you mean 'seeds'?"),
        (lambda one: one.pop("source"), "mine: 'source' is missing"),
        (lambda one: one.pop("published"), "mine: 'published' is missing: where do the numbers of Reacher stand?"),
        (lambda one: one.update(measure="sucess_any"), "measure='sucess_any' is unknown; did you mean 'success_any'?"),
        (lambda one: one.update(preset="offical"), "did you mean 'official'?"),
        (lambda one: one.update(moment="last"), "moment='last' is unknown"),
        (lambda one: one.update(seeds=2.5), "mine: seeds is 2.5; it must be a whole number"),
        (
            lambda one: one["methods"].update(qpm=None),
            "mine: methods: qpm: method='qpm' is unknown; did you mean 'qmp'?",
        ),
        (lambda one: one["methods"].update(qmp={"lable": "Q"}), "unknown key 'lable'; did you mean 'label'?"),
        (lambda one: one["methods"].update(qmp={"settings": {"gama": 1}}), "did you mean 'gamma'?"),
        (lambda one: one["task_sets"]["Maze"].update(id="QMP/Maize-v0"), "did you mean 'QMP/Maze-v0'?"),
        (
            lambda one: one["task_sets"]["Maze"].update(stesp=3),
            "task_sets: Maze: unknown key 'stesp'; did you mean 'steps'?",
        ),
        (lambda one: one["task_sets"]["Maze"].update(unit="procent"), "did you mean 'percent'?"),
        (lambda one: one["task_sets"]["Maze"].update(only=["qmp-hodl"]), "did you mean 'qmp-hold'?"),
        (lambda one: one["task_sets"]["Maze"]["published"].update(qmp="73 %"), "'73 %' is not a published number"),
        (lambda one: one["scales"].update(latop={}), "scales='latop' is unknown; did you mean 'laptop'?"),
        (lambda one: one["scales"].update(laptop={"steps": 3}), "scales: laptop: unknown key 'steps'"),
    ],
)
def test_a_wrong_definition_is_one_clear_line(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    values = copy.deepcopy(GOOD)
    change(values)
    with pytest.raises(ValueError) as raised:
        from_dict("mine", values)
    assert message in str(raised.value) and str(raised.value).startswith("mine: ") and "\n" not in str(raised.value)


def test_a_file_or_a_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(GOOD, sort_keys=False), encoding="utf-8")
    assert read(str(file)).parts == read("qmp-table-2").parts
    with pytest.raises(ValueError, match="did you mean 'qmp-table-2'"):
        read("qmp-tabel-2")
    with pytest.raises(ValueError, match=r"none\.yaml cannot be read"):
        read(str(tmp_path / "none.yaml"))


def test_a_module_before_an_id_needs_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load(yaml.safe_dump(GOOD))
    next(iter(values["task_sets"].values()))["id"] = "antigravity_of_mine:QMP/Point2D-v0"
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    assert main(["bench", str(file), "--dry-run"]) == 2
    assert "to import its module runs code" in capsys.readouterr().err
    assert main(["bench", str(file), "--dry-run", "--trust"]) == 2
    assert "No module named 'antigravity_of_mine'" in capsys.readouterr().err, "now it is looked for"


def test_options_and_settings_tell_places_apart() -> None:
    benchmark = read("qmp-figure-10-appendix")
    labels = {one.part.label for one in benchmark.runs(SCALES["laptop"]) if benchmark.place(one.spec) is not None}
    assert len(labels) == 3
    assert benchmark.place(RunSpec("QMP/Kitchen-v0", "qmp", 10)) is None


SMOKE = {
    spec.directory_name({}): spec for name in NAMES for spec in [one.spec for one in read(name).runs(SCALES["smoke"])]
}


@pytest.mark.slow
@pytest.mark.parametrize("spec", SMOKE.values(), ids=list(SMOKE))
def test_every_run_works_at_smoke_scale(spec: RunSpec, tmp_path: Path) -> None:
    status = run(spec, tmp_path / "run")
    assert status.finished and status.steps >= spec.steps
