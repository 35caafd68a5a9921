"""Tables of the commands in pipes and narrow terminals: nothing is cut, and what is to be copied is whole."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from qmp_sb3.cli import main
from qmp_sb3.cli.bench import plan
from qmp_sb3.cli.main import parse
from qmp_sb3.cli.tables import show
from qmp_sb3.experiments.benchmarks.definitions import available, read
from qmp_sb3.methods import catalog


def words(text: str) -> set[str]:
    """Everything between spaces and the lines of a table."""
    return set(re.split(r"[\s│┃┏┓┗┛━┳┻╇┡┩╋]+", text))


@pytest.mark.parametrize("width", ["80", "40"])
def test_lists_in_a_pipe_have_every_word(
    width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main(["list"]) == 0
    shown = words(capsys.readouterr().out)
    for line in catalog.task_sets():
        assert {line.id, *words(line.summary), *words(line.missing or ", ".join(line.tasks))} <= shown
    for method in catalog.methods():
        assert {method.name, *words(method.summary)} <= shown
    assert main(["bench", "--list"]) == 0
    shown = words(capsys.readouterr().out)
    for one in map(read, available()):
        assert {one.name, *words(one.title), *words(", ".join(part.label for part in one.parts))} <= shown


def drawn(width: int, *cells: str) -> list[str]:
    """Lines of a table of one row in a terminal."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    table = Table("name", "what")
    table.columns[0].no_wrap = True
    table.add_row(*cells)
    show(console, table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_terminal_breaks_between_words_as_long_as_these_fit() -> None:
    lines = drawn(40, "qmp-figure", "Cross-task policy guidance of several kinds")
    assert max(map(len, lines)) <= 40
    assert words("Cross-task policy guidance of several kinds qmp-figure") <= words("\n".join(lines))


@pytest.mark.parametrize("width", [30, 16])
def test_a_narrow_terminal_breaks_words_and_cuts_none(width: int) -> None:
    cells = "button-press-topdown-wall", "transcendentally"
    lines = drawn(width, *cells)
    assert max(map(len, lines)) <= width
    rows = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    assert ["".join(row[place].strip() for row in rows) for place in range(2)] == list(cells)


def test_a_dry_run_has_every_folder_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "a folder [of] a long name" / "runs" / "and another folder"
    command = ["bench", "qmp-table-2", "--task-sets", "Reacher", "--dry-run", "--out", str(out)]
    assert main(command) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    _, runs = plan(parse(command))
    assert [line[line.index(str(out)) :] for line in lines if str(out) in line] == [str(path) for _, path in runs]
