"""The pages of the methods: one for every row of the table, with commands that mean what they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs.generators import method_pages
from qmp_sb3 import presets
from qmp_sb3.cli.main import parse
from tests.docs.test_docs import ALL

PAGES = Path(__file__).resolve().parents[2] / "docs" / "methods"
NOT_OF_METHODS = ("index", "ablations")
SECTIONS = (
    "Equation",
    "Parts",
    "Hyper-parameters",
    "Can I use it?",
    "Differences from the paper and its code",
    "What we measured",
)
COMMANDS = [
    (snippet.page.stem, line.removeprefix("$ "))
    for snippet in ALL
    if snippet.page.parent == PAGES and snippet.language == "console" and snippet.skipped
    for line in snippet.code.splitlines()
]


# ---- a page for every method ----


@pytest.mark.parametrize("name", presets.methods())
def test_every_method_has_its_page(name: str) -> None:
    text = (PAGES / f"{presets.method(name).page}.md").read_text(encoding="utf-8")
    for table in ("parts", "parameters", "can-i-use"):
        assert re.search(rf"<!-- generated: {table}(?: \S+)* {re.escape(name)}(?: \S+)* -->", text), table
    assert re.search(rf"<!-- measured:(?: \S+)* {re.escape(name)}(?: \S+)* -->", text)
    assert f"--method {name}" in text, "there is a command for it"


@pytest.mark.parametrize("page", sorted(path.stem for path in PAGES.glob("*.md") if path.stem not in NOT_OF_METHODS))
def test_every_page_is_a_methods_and_has_all_sections(page: str) -> None:
    assert page in {row.page for row in presets.methods().values()}
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert [one for one in headings if one in SECTIONS] == list(SECTIONS)
    opening = text.split("\n\n")[1]
    assert 3 <= len(re.findall(r"[.:](?:\s|$)", opening)) <= 8, "a method is said in about five sentences"


# ---- commands ----


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{page}: {command[10:]}" for page, command in COMMANDS])
def test_commands_mean_a_model(page: str, command: str) -> None:
    words = shlex.split(command)
    assert words[:2] == ["qmp", "train"]
    options = parse(words[1:])
    small = {"policy_kwargs.net_arch": [4], "buffer_size": 20, "device": "cpu"}
    model = presets.make(options.method, options.env, options.preset or "fast", **(options.overrides | small))
    for argument, value in options.overrides.items():
        if not argument.startswith("env_kwargs"):
            assert _pieces(getattr(model, argument)) == _pieces(value), "the model has what the command says"


def _pieces(value: object) -> list[str | float]:
    """Words and numbers of a value or of a part's sentence, in any order."""
    found = re.findall(r"-?\d[\d.]*(?:e\d+)?|[A-Za-z]+", str(value))
    return sorted((float(one) if one.strip("-")[0].isdigit() else one for one in found), key=str)


def test_the_ablations_of_the_paper_are_all_there() -> None:
    text = "\n".join(command for page, command in COMMANDS if page == "ablations")
    assert {int(steps) for steps in re.findall(r"hold\((\d+),", text)} == {1, 5, 10, 25, 50}
    assert set(re.findall(r"critic='(\w+)'", text)) == {"min", "mean"} and '--method qmp "behavior=argmax(q)"' in text
    assert {float(beta) for beta in re.findall(r"dnc\(([\d.]+)\)", text)} == {1e-4, 1e-3, 1e-2, 1e-1, 1.0}
    assert {float(quantile) for quantile in re.findall(r"uds\(([\d.]+)\)", text)} == {0.0, 0.8}
    assert len(set(re.findall(r"softmax\(([\d.]+),", text))) >= 3
    assert len(set(re.findall(r"target_entropy=(\S+)", text))) >= 3
    assert "num_tasks=3" in text and "layout=medium" in text
    assert {"qmp-sampled", "qmp-entropy", "qmp-uniform", "qmp-domain"} <= set(re.findall(r"--method (\S+)", text))


# ---- the tables ----


def test_the_master_table_is_the_registry() -> None:
    heading, *rows = method_pages.method_table()
    assert [row[0].split("`")[1] for row in rows] == list(presets.methods())
    table = {row[0].split("`")[1]: dict(zip(heading, row, strict=True)) for row in rows}
    assert table["no-sharing"]["actor"] == "`independent`"
    assert table["mcal-mn"]["actor"] == "`multihead`" and table["mcal-mn"]["critic"] == "·"
    assert table["dnc"]["hooks"] == "`distill(100000)`"
    for name, row in table.items():
        changed = {method_pages.PARTS[column][0] for column in heading[1:] if row[column] != "·"}
        if name != "no-sharing":
            assert changed == set(presets.method(name).parts), name


def test_parts_name_the_code_that_is_new() -> None:
    rows = {row[0]: row for row in method_pages.parts("qmp-hold", "pcgrad")}
    modules = rows["behavior"][-1]
    assert all(f"qmp_sb3.behaviors.{name}" in modules for name in ("wrappers", "rules", "scores"))
    assert rows["gradients"][2:] == ("`plain`", "**`pcgrad`**", "`qmp_sb3.objectives.gradients`")
    assert rows["sharing"][-1] == ""


def test_what_a_method_can_be_used_for_is_found_out() -> None:
    rows = {row[0]: row[1:] for row in method_pages.can_i_use("fully-shared", "cds", "qmp-domain", "dnc")}
    shared, cds, domain, dnc = range(4)
    behaviors = rows["a behavior with it: `+qmp` and the like"]
    assert behaviors[shared].startswith("no: ") and behaviors[cds] == "yes, each of them"
    assert rows["`n_steps` above 1"][cds].startswith("no: ") and rows["`n_steps` above 1"][dnc] == "yes"
    foreign = rows["other Gymnasium environments that share their spaces"]
    assert foreign[shared] == "yes" and foreign[cds].startswith("no: ")
    assert rows["the task sets of this suite"][domain] == "only `QMP/MultistageReacher-v0`"
    with_dnc = rows["other methods with it, by `+`"][dnc]
    assert "`decaf`" in with_dnc and "`parameters`" not in with_dnc and "`dnc-reg`" not in with_dnc


def test_equal_values_share_a_row() -> None:
    rows = method_pages.parameters("dnc-reg")[1:]
    assert [row[2] for row in rows] == ["`dnc(0.001)`", "`dnc(0.0001)`"]
    assert rows[1][3] == "Maze: fast, official, paper"
    all_others = ("`pcgrad`", "all others", "", "every task set", "those of [`parameters`](parameters.md)")
    assert method_pages.parameters("pcgrad")[-1] == all_others
    everything = ("`decaf`", "all", "", "every task set", "those of [`no-sharing`](no-sharing.md)")
    assert method_pages.parameters("decaf")[1:] == [everything]


@pytest.mark.parametrize(
    "name, reason", [("dnc+dnc-reg", "dnc contains dnc-reg"), ("fully-shared+dnc-reg", "no others to draw it to")]
)
def test_compositions_without_meaning_are_refused(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        presets.method(name)


@pytest.mark.parametrize("argument, words", method_pages.WORDS.items())
def test_the_guide_knows_every_word(argument: str, words: dict[str, object]) -> None:
    guide = (PAGES.parent / "guide.md").read_text(encoding="utf-8")
    [row] = [line for line in guide.splitlines() if line.startswith(f"| `{argument}` |")]
    for word in words:
        assert re.search(rf'["`]{word}[`(]', row), f"docs/guide.md does not name {word}"
