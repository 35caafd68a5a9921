"""Reports and figures of runs: what is in them."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("altair", reason="the extra report is not installed")
pytest.importorskip("vl_convert", reason="the extra report is not installed")

from qmp_envs.results.table import Results
from qmp_sb3.cli import main
from qmp_sb3.experiments import RunDirectory, RunSpec, TrainedRun
from qmp_sb3.experiments.analysis.statistics import probability_of_improvement
from qmp_sb3.experiments.report import episode, sources, tables, write_figures, write_report
from qmp_sb3.experiments.report.page import encoded
from qmp_sb3.experiments.report.palette import DARK, LIGHT, METHODS_LIGHT, styles
from qmp_sb3.experiments.report.rerun import command
from tests.qmp_sb3.conftest import METHODS
from tests.qmp_sb3.experiments.synthetic_runs import EVIL, results_file, synthetic_run

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def report(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(runs, tmp_path_factory.mktemp("out") / "report.html", films=0)
    return path.read_text(encoding="utf-8")


def charts(html: str) -> dict[str, Any]:
    """What the charts of a page are drawn of."""
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', html, re.S)
    assert found is not None
    return json.loads(found[1])["figures"]


# ---- what is in it ----


class Outline(HTMLParser):
    """Levels of the headings and targets of everything that a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.unnamed: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.ids += [named["id"] or ""] if "id" in named else []
        if tag == "a":
            self.links.append(named.get("href") or "")
        else:
            self.loads += [named[name] or "" for name in ("src", "href") if name in named]
        if named.get("role") in ("img", "region") and not named.get("aria-label"):
            self.unnamed.append(tag)


def test_headings_are_in_order_and_links_lead_somewhere(report: str) -> None:
    page = Outline(report)
    assert page.levels[0] == 1 and page.levels.count(1) == 1
    assert all(below <= above + 1 for above, below in zip(page.levels, page.levels[1:], strict=False))
    assert len(set(page.ids)) == len(page.ids)
    assert page.links and all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not page.unnamed


def test_it_loads_nothing_and_may_not(report: str) -> None:
    assert all(target.startswith("data:") for target in Outline(report).loads)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', report)
    assert policy is not None and "default-src &#39;none&#39;" in policy[1]
    assert "unsafe-eval" not in policy[1] and "http" not in policy[1]


def test_curves_have_the_means_of_the_results(runs: list[Path], report: str) -> None:
    from qmp_sb3.experiments.analysis.results import curves

    expected = curves([Results.read(path) for path in runs[3:6]], "success_any")
    columns = charts(report)["multistagereacher-v0-success_any"]["panels"][0]
    rows = [
        (step, mean)
        for method, seed, step, mean in zip(
            columns["method"]["of"], columns["seed"], columns["step"], columns["mean"], strict=True
        )
        if columns["method"]["names"][method] == "qmp" and seed is None
    ]
    assert [step for step, _ in rows] == expected.steps.tolist()
    assert [mean for _, mean in rows] == pytest.approx(expected.values["qmp"].mean(axis=(0, 1)), abs=1e-3)


def texts(column: dict[str, list]) -> list[str]:
    """Undo what keeps each text once."""
    return [column["names"][place] for place in column["of"]]


def test_profiles_and_probabilities_are_those_of_the_scores(runs: list[Path], report: str) -> None:
    [group] = sources.read(runs)
    scores = group.scores("success_any")
    columns = charts(report)["multistagereacher-v0-success_any-profile"]["panels"][0]
    rows = zip(texts(columns["method"]), columns["level"], columns["mean"], strict=True)
    halves = {method: mean for method, level, mean in rows if level == 0.5}
    assert halves == {method: pytest.approx((scores[method] > 0.5).mean(), abs=1e-4) for method in METHODS}
    columns = charts(report)["multistagereacher-v0-success_any-improvement"]["panels"][0]
    [better], [other] = texts(columns["better"]), texts(columns["other"])
    expected = float(probability_of_improvement(scores[better], scores[other]))
    assert columns["mean"] == [pytest.approx(expected, abs=1e-4)]
    assert columns["low"][0] <= expected <= columns["high"][0]


def test_an_unfinished_run_is_named_and_not_counted(report: str) -> None:
    assert "7 runs, 2 methods, 1 task set; 1 of them unfinished" in report
    assert "Not counted, because unfinished: qmp seed 3 (40,000 of 100,000 steps)" in report
    assert "3 seeds of each method" in report


def test_an_agent_with_one_later_evaluation_stands_beside_curves(runs: list[Path], tmp_path: Path) -> None:
    theirs = [synthetic_run(tmp_path / f"{end}", "their-agent", end, steps=end, points=1) for end in (300_000, 300_001)]
    alone = synthetic_run(tmp_path / "alone", "qmp", 9, steps=300_000, points=1)
    given = [*runs[:6], *theirs, alone]
    html = write_report(given, tmp_path / "report.html", films=0).read_text()
    assert "At 100,000 steps (the mean of the last three evaluations)" in html
    [group] = sources.read(given)
    scored = group.scores("return")
    assert {method: len(values) for method, values in scored.items()} == {"no-sharing": 3, "qmp": 4, "their-agent": 2}
    np.testing.assert_array_equal(scored["their-agent"][0], group.curve("their-agent", "return")[1][0, :, -1])
    assert group.seeds("qmp") == [0, 1, 2], "one point is no curve"


def test_what_differs_in_more_than_the_method_is_marked_and_not_ranked(tmp_path: Path) -> None:
    made = [synthetic_run(tmp_path / method, method) for method in ("no-sharing", "qmp")]
    for method, steps, option in (
        ("qmp-hold", 200, ""),
        ("data", 100_000, "max_episode_steps=20"),
        ("cds", 100_500, ""),
    ):
        results = Results.read(synthetic_run(tmp_path / method, method, steps=steps, points=1, mixed=False))
        reward = "; ".join(filter(None, [results.about["reward"], option]))
        column = results.table.column("success_any")
        best = results.table.set_column(
            results.table.schema.get_field_index("success_any"), "success_any", pa.array([1.0] * len(column))
        )
        file = tmp_path / f"{method}.parquet"
        Results(best, {**results.about, "reward": reward}).write(file)
        made.append(file)
    [group] = sources.read(made)
    rows = {row[0].text: row for row in tables.scores(group).rows}
    assert {name: row[0].detail for name, row in rows.items()} == {
        "cds": "",  # all but there
        "qmp": "",
        "no-sharing": "",
        "qmp-hold": "at 200 steps",
        "data": "max_episode_steps=20",
    }
    assert list(rows)[0] == "cds" and set(list(rows)[3:]) == {"qmp-hold", "data"}
    for name in ("qmp-hold", "data"):
        assert rows[name][2].text == "–" and rows[name][3].text == "100%"
        assert not any(cell.best for cell in rows[name])
    assert sum(float(rows[name][2].text) for name in ("cds", "qmp", "no-sharing")) == pytest.approx(1 + 2 + 3, abs=0.03)
    assert rows["cds"][3].best
    html = write_report(made, tmp_path / "report.html", films=0).read_text()
    figures = [name for name in charts(html) if name.endswith(("-bars", "-profile", "-improvement"))]
    assert html.count("Not to be compared with the others: ") == 1 + len(figures) > 5, (
        "below the table and these figures"
    )
    assert "<small>at 200 steps</small>" in html


def test_a_method_whose_runs_differ_says_how_many(runs: list[Path], tmp_path: Path) -> None:
    alone = [synthetic_run(tmp_path / method, method, 9, steps=300_000, points=1) for method in ("qmp", "no-sharing")]
    [group] = sources.read([*runs[:6], *alone])
    table = tables.scores(group)
    assert {row[0].text: (row[0].detail, row[2].text) for row in table.rows} == dict.fromkeys(
        ("qmp", "no-sharing"), ("1 of 4 at 300,000 steps", "–")
    )
    assert not any(cell.best for row in table.rows for cell in row)


def test_a_run_without_an_evaluation_up_to_the_end_is_named_and_left_out(runs: list[Path], tmp_path: Path) -> None:
    coarse = [
        synthetic_run(tmp_path / method, method, 7, steps=800_000, points=2, mixed=False) for method in ("qmp", "data")
    ]
    html = write_report([*runs[:6], *coarse], tmp_path / "report.html", films=0).read_text()
    names = "qmp seed 7 (first evaluated at 400,000 steps) and data seed 7 (first evaluated at 400,000 steps)"
    assert f"Not counted, because they have no evaluation up to there: {names}." in html
    [group] = sources.read([*runs[:6], *coarse])
    assert {method: len(values) for method, values in group.scores("return").items()} == {"no-sharing": 3, "qmp": 3}
    assert group.seeds("qmp") == [0, 1, 2] and group.seeds("data") == [7], "its own curve is drawn"


def test_a_graphics_card_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qmp_sb3.experiments.report.tables import machine
    from qmp_sb3.experiments.runs import provenance

    cards = ["H200", "H200", "A100"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(cards))
    monkeypatch.setattr("torch.cuda.get_device_name", cards.__getitem__)
    results = Results.read(synthetic_run(tmp_path / "run"))
    found = provenance.machine()
    text = machine(sources.Run(Results(results.table, {**results.about, "machine": found}), None))
    assert text.startswith(str(found["processor"])) and text.endswith(", 2 x H200, A100")


def test_the_top_says_whether_runs_can_be_compared(runs: list[Path], tmp_path: Path) -> None:
    def described(name: str, method: str, reward: str) -> Path:
        results = Results.read(synthetic_run(tmp_path / name, method))
        file = tmp_path / f"{name}.parquet"
        Results(results.table, {**results.about, "reward": reward, "git": None}).write(file)
        return file

    html = write_report(runs[3:], tmp_path / "one.html", films=0).read_text()
    top = html[html.index("<h1") :]
    top = top[: top.index("<h2")]
    expected = (
        "Reward: released code of QMP. 100,000 steps (qmp), 40,000 steps (qmp). Seeds 0, 1, 2 and 3. Code: git c0ffee."
    )
    assert f"QMP/MultistageReacher-v0. {expected}" in top
    files = [described("a", "qmp", "dense"), described("b", "data", "sparse")]
    html = write_report(files, tmp_path / "two.html", films=0).read_text()
    assert "Reward: dense (qmp), reward: sparse (data). 100,000 steps. Seed 0. Code: qmp-suite " in html


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    html = write_report([synthetic_run(tmp_path / "run")], tmp_path / "report.html", films=0).read_text()
    assert "One seed each: no interval." in html
    columns = charts(html)["multistagereacher-v0-success_any"]["panels"][0]
    assert set(columns["low"]) == {None}


def test_a_run_without_success_shows_returns(tmp_path: Path) -> None:
    html = write_report([synthetic_run(tmp_path / "run", success=False)], tmp_path / "report.html", films=0).read_text()
    names = {name.removeprefix("multistagereacher-v0-") for name in charts(html)}
    assert "return" in names and "success_any" not in names


def test_one_task_has_no_panels_per_task_and_no_mixture(tmp_path: Path) -> None:
    path = synthetic_run(tmp_path / "run", tasks=("reach",), mixed=False)
    html = write_report([path], tmp_path / "report.html", films=0).read_text()
    assert "There is one task: nobody else could act for it." in html
    assert not [name for name in charts(html) if name.endswith("-tasks") or "mixture" in name]


def test_another_labs_file_stands_beside_run_directories(runs: list[Path], tmp_path: Path) -> None:
    theirs = [synthetic_run(tmp_path / f"{seed}", "their-agent", seed, mixed=False) for seed in range(2)]
    file = results_file(tmp_path / "theirs.parquet", theirs)
    html = write_report([*runs, file], tmp_path / "report.html", films=0).read_text()
    assert "9 runs, 3 methods" in html and "their-agent" in html


def test_a_file_alone_says_why_nothing_is_filmed(runs: list[Path], tmp_path: Path) -> None:
    file = results_file(tmp_path / "all.parquet", runs)
    assert "results files hold no model" in write_report([file], tmp_path / "report.html").read_text()


def test_settings_tell_runs_of_a_method_apart(tmp_path: Path) -> None:
    given = [synthetic_run(tmp_path / str(rate), overrides={"learning_rate": rate}) for rate in (1e-3, 1e-4)]
    [group] = sources.read(given)
    assert set(group.methods) == {"qmp learning_rate=0.001", "qmp learning_rate=0.0001"}


def test_a_run_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    given = [synthetic_run(tmp_path / name) for name in ("first", "second")]
    with pytest.raises(ValueError, match="seed 0 is in .*first and again in .*second"):
        sources.read(given)
    [group] = sources.read([given[0], given[0]])  # a path that is given twice is no second run
    assert len(group.runs) == 1


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    path = synthetic_run(tmp_path / "run", method="no-sharing", tasks=(EVIL, "stay"))
    html = write_report([path], tmp_path / "report.html", title=EVIL, films=0).read_text()
    assert "<script>alert" not in html and "<img src=x" not in html
    assert EVIL in charts(html)["multistagereacher-v0-success_any-tasks"]["titles"]


def test_the_mixture_is_what_was_recorded(runs: list[Path]) -> None:
    from qmp_sb3.experiments.report.mixture import mixtures
    from qmp_sb3.experiments.runs.mixture import Mixture

    [group] = sources.read(runs[:6])
    [shares] = mixtures(group)  # nobody else acts in the runs without sharing
    recorded = np.mean([Mixture.read(path).shares for path in runs[3:6]], axis=0)
    np.testing.assert_allclose(shares.values, recorded)
    assert shares.seeds == 3 and shares.steps.tolist() == Mixture.read(runs[3]).steps.tolist()


def test_the_command_makes_the_same_run(runs: list[Path]) -> None:
    import shlex

    from qmp_sb3.cli.main import parse
    from qmp_sb3.cli.train import _new

    [group] = sources.read(runs[3:4])
    words = shlex.split(command(group.runs[0]))
    spec, _ = _new(parse([*words[1:], "--out", "elsewhere"]))
    assert spec.to_dict() == group.runs[0].spec


def test_a_color_for_each_method_and_then_dashes() -> None:
    many = styles([f"method {number}" for number in range(len(METHODS_LIGHT) + 1)])
    assert len(set(many.values())) == len(many)
    assert many["method 0"].color == many[f"method {len(METHODS_LIGHT)}"].color


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colors, after WCAG 2."""

    def luminance(color: str) -> float:
        parts = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        return float(
            np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        )

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colors_can_be_seen(palette: dict[str, str]) -> None:
    for name, color in palette.items():
        least = 4.5 if name in ("ink", "quiet", "accent") else 3.0
        if name not in ("paper", "line"):
            assert contrast(color, palette["paper"]) >= least, f"{name} {color}"


def test_texts_are_stored_once() -> None:
    assert encoded({"method": ["a", "b", "a", None], "step": [1, 2, 3, 4]}) == {
        "method": {"names": ["a", "b"], "of": [0, 1, 0, None]},
        "step": [1, 2, 3, 4],
    }


def test_ours_stand_beside_the_published_numbers(runs: list[Path]) -> None:
    from qmp_sb3.experiments.benchmarks.definitions import read
    from qmp_sb3.experiments.benchmarks.published import cells, compare
    from qmp_sb3.experiments.report.published import published

    for path in runs[:6]:
        RunDirectory(path).write_result({"run": {}, "steps": 100_000, "seconds": 100.0, "tasks": {}})
    section = published(sources.read(runs[:6]), read("qmp-table-2"))
    [table] = section.tables
    rows = {row[0].text: [cell.text for cell in row] for row in table.rows}
    assert rows["No-QMP (no-sharing)"][1] == "3 of 3" and rows["No-QMP (no-sharing)"][-1] == "80 ± 0"
    assert rows["QMP (H > 1) (qmp-hold)"][1:3] == ["0 of 0", "-"]
    assert len(section.tables[0].headings) == len(rows["No-QMP (no-sharing)"])
    benchmark, placed = read("qmp-table-2"), [(RunSpec.from_dict(Results.read(p).about["run"]), p) for p in runs[:6]]
    in_terminal = [cells(row)[2:] for row in compare(benchmark, placed) if row.part.id == "QMP/MultistageReacher-v0"]
    assert [tuple(row[1:]) for row in rows.values()] == in_terminal, "the page says what the terminal says"
    assert "100,000 steps (the authors' 2,000,000), 3 seeds (the authors' 5)" in " ".join(section.about)
    ours = published(sources.read(runs[:6]), read("ours-reacher"))
    assert [len(row) for row in ours.tables[0].rows] == [len(ours.tables[0].headings)] * 3 == [4] * 3
    assert "100,000 steps (ours in full 300,000), 3 seeds (ours in full 5)" in " ".join(ours.about)


# ---- figures as files ----


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<svg")])
def test_figures_are_files_of_their_kind(form: str, begins: bytes, runs: list[Path], tmp_path: Path) -> None:
    files = write_figures(runs, tmp_path, form, "success_any")
    assert [file.name for file in files] == [f"multistagereacher-v0-success_any.{form}"]
    content = files[0].read_bytes()
    assert content.startswith(begins) and b"var(--" not in content


def test_every_figure_can_be_a_file(runs: list[Path], tmp_path: Path) -> None:
    written = {file.stem for file in write_figures(runs[3:6], tmp_path, "svg")}
    assert {
        f"multistagereacher-v0-{name}" for name in ("success_any-tasks", "mixture-average", "return-bars")
    } <= written


@pytest.mark.parametrize(("evaluations", "points"), [(1, 1), (2, 0)])
def test_a_line_of_one_point_is_a_dot(evaluations: int, points: int, tmp_path: Path) -> None:
    run = synthetic_run(tmp_path / "run", points=evaluations)
    lines = {"success_any": 1, "success_any-tasks": 3, "mixture-curves-qmp": 9}
    for figure, count in lines.items():
        [file] = write_figures([run], tmp_path, "svg", figure)
        groups = [
            one for one in ElementTree.parse(file).iter(f"{SVG}g") if "mark-symbol role-mark" in one.get("class", "")
        ]
        dots = [dot for group in groups for dot in group.iter(f"{SVG}path") if dot.get("opacity") != "0"]
        assert len(dots) == points * count, figure


@pytest.mark.parametrize("tasks", [5, 12, 50])
def test_a_heatmap_names_every_row_and_column(tasks: int, tmp_path: Path) -> None:
    names = ["reach-0", "reach-1", "reach-2", "reach-3-sparse", "stay", *(f"button-press-{n}" for n in range(5, tasks))]
    run = synthetic_run(tmp_path / "run", tasks=names)
    [file] = write_figures([run], tmp_path, "svg", "mixture-average")
    drawn = [text for text in ElementTree.parse(file).iter(f"{SVG}text") if text.get("opacity") != "0"]
    shown = Counter(text.text for text in drawn)
    assert {name: shown[name] for name in names} == dict.fromkeys(names, 2)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("report nowhere", "no results there"),
        ("report RUN --out report.pdf", "a report ends in .html"),
        ("plot RUN --format gif", "unknown"),
        ("plot RUN --figure multistagereacher-v0-sucess_any", "did you mean 'multistagereacher-v0-success_any'?"),
    ],
)
def test_mistakes_are_one_line(
    words: str,
    expected: str,
    runs: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(runs[0]) if word == "RUN" else word for word in words.split()]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
    assert not list(tmp_path.iterdir())


# ---- an episode ----


def test_the_timeline_says_who_acted(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qmp_envs.drivers.env import TaskSetEnv
    from qmp_envs.rendering.opengl import NoRendering

    def render(self: TaskSetEnv) -> np.ndarray:
        raise NoRendering("there is nothing to draw with")

    monkeypatch.setattr(TaskSetEnv, "render", render)
    [group] = sources.read([trained])
    played = list(episode.play(group.runs[0], most=2))
    assert [one.task for one in played] == ["reach-0", "stay"]
    for one in played:
        assert one.film is None and "nothing to draw with" in one.note
        covered = np.concatenate(
            [np.full(stop - start, one.candidates.index(name)) for start, stop, name in one.stretches]
        )
        np.testing.assert_array_equal(covered, one.acted)
    again = next(episode.play(group.runs[0], most=1))
    np.testing.assert_array_equal(again.acted, played[0].acted)
    model = TrainedRun.open(trained).model
    assert played[0].candidates == model.task_names


def test_an_environment_that_breaks_costs_only_the_film(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qmp_envs.drivers.env import TaskSetEnv

    def render(self: TaskSetEnv) -> np.ndarray:
        raise AttributeError("there is no such body")

    monkeypatch.setattr(TaskSetEnv, "render", render)
    html = write_report([trained], tmp_path / "report.html", films=1).read_text()
    assert "No episode of qmp, seed 0 is shown: AttributeError: there is no such body" in html


def test_fixed_policies_have_the_names_of_the_mixture(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm

    names = ("reach-0", "reach-1", "reach-2", "stay", "a guide")
    monkeypatch.setattr(MultiTaskOffPolicyAlgorithm, "candidates", names)
    monkeypatch.setattr(episode, "_episode", lambda trained, task, candidates, seed: candidates)
    [group] = sources.read([trained])
    assert next(episode.play(group.runs[0], most=1)) == names
