"""Every snippet of the README and the docs is executed, and every generated table is up to date.

A block of ``python`` is run; the blocks of a page share their names, top to bottom. In a block of ``console`` each line
that starts with ``$`` is run by bash in an empty folder, with ``qmp`` on the path. Blocks of ``text`` and ``yaml`` are
shown only. A block of python whose first line is ``# name.py`` is that file, in the folder where the page's other
blocks run. A block without a language is an error, so nothing escapes by accident.

What would take too long is made smaller by a comment before the block, visible in the page's source:

    <!-- test: 300_000 -> 600 -->               replaces a piece of the block
    <!-- test: not run, because REASON -->      skips the block, by name and with its reason
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import qmp_envs
from docs.generators import tables
from qmp_sb3.experiments import RunSpec, run
from qmp_sb3.experiments.runs.live import Display

ID = "QMP/MultistageReacher-v0"
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?P<comments>(?:<!-- test: .*? -->\n)*)^(?P<indent> *)```(?P<language>\S*)\n(?P<code>.*?)^ *```$", re.M | re.S
)
FILE = re.compile(r"# (\w+\.py)\n")
SHOWN = ("text", "yaml", "bibtex", "make")


@dataclass
class Snippet:
    """A block of a page, as the test runs it."""

    page: Path
    line: int
    language: str
    code: str
    skipped: str | None = None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Keys(Display):
    """Collects the logged keys of a run."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def progress(self, steps: int, values: Mapping[str, float]) -> None:
        self.keys |= set(values)


def snippets(path: Path) -> Iterator[Snippet]:
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("language")) + 1
        code = re.sub(f"^{block['indent']}", "", block["code"], flags=re.M)
        snippet = Snippet(path, line, block["language"], code)
        for comment in re.findall(r"<!-- test: (.*?) -->", block["comments"]):
            if comment.startswith("not run, because "):
                snippet.skipped = comment
                continue
            old, arrow, new = comment.partition(" -> ")
            assert arrow and old in snippet.code, f"{snippet}: {comment!r} does not fit the block"
            snippet.code = snippet.code.replace(old, new)
        yield snippet


def write_files(page: Path, folder: Path) -> None:
    """The files that a page shows."""
    for snippet in ALL:
        if snippet.page == page and snippet.language == "python" and (name := FILE.match(snippet.code)):
            (folder / name[1]).write_text(snippet.code, encoding="utf-8")


ALL = [snippet for path in PAGES for snippet in snippets(path)]
PYTHON_PAGES = sorted({snippet.page for snippet in ALL if snippet.language == "python"})


@pytest.mark.parametrize("path", PYTHON_PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_files(path, tmp_path)
    names: dict[str, object] = {"__name__": "snippet"}
    for snippet in ALL:
        if snippet.page == path and snippet.language == "python" and not (snippet.skipped or FILE.match(snippet.code)):
            # Padded, so that an error names the line of the page.
            exec(compile("\n" * snippet.line + snippet.code, str(path), "exec"), names)


def marks(snippet: Snippet) -> list[pytest.MarkDecorator]:
    """What the commands of a snippet need of the machine."""
    return [pytest.mark.gl] if re.search(r"^\$ qmp watch|; qmp watch", snippet.code, re.M) else []


CONSOLE = [pytest.param(one, id=str(one), marks=marks(one)) for one in ALL if one.language == "console"]


@pytest.mark.parametrize("snippet", CONSOLE)
def test_console(snippet: Snippet, tmp_path: Path) -> None:
    if snippet.skipped:
        pytest.skip(snippet.skipped)
    commands = [line.removeprefix("$ ") for line in snippet.code.splitlines() if line.startswith("$ ")]
    assert commands, f"{snippet}: a console block needs a line that starts with '$ '"
    tools, work = tmp_path / "bin", tmp_path / "work"
    tools.mkdir()
    work.mkdir()
    write_files(snippet.page, work)
    (tools / "qmp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m qmp_sb3.cli "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "ROOT": str(ROOT)}
    script = "set -euo pipefail\n" + "\n".join(commands)
    result = subprocess.run(
        ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"{snippet}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


def test_every_block_has_a_known_language() -> None:
    for path in PAGES:
        fences = re.findall(r"^ *```", path.read_text(encoding="utf-8"), re.M)
        assert len(fences) == 2 * sum(snippet.page == path for snippet in ALL), f"{path}: a block was not understood"
    for snippet in ALL:
        assert snippet.language in ("python", "console", *SHOWN), f"{snippet}: language {snippet.language!r}"


def test_skipped_snippets_say_why() -> None:
    for snippet in ALL:
        assert snippet.skipped is None or len(snippet.skipped.split()) > 5, str(snippet)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_generated_tables_are_up_to_date(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tables.rewrite(text) == text, f"run: python -m docs.generators.tables {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_logged_key_is_explained(tmp_path: Path) -> None:
    """Of a run of several tasks with stages, the richest case."""
    overrides = {"learning_starts": 500, "policy_kwargs.net_arch": [8], "batch_size": 8}
    spec = RunSpec(ID, "qmp", 2500, overrides=overrides, eval_every=1000, eval_episodes=1)
    display = Keys()
    run(spec, tmp_path / "run", display)
    text = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`([a-z_]+/[a-z_<>/.]+)`", text))
    tasks = "|".join(map(re.escape, qmp_envs.task_names(ID)))
    for key in display.keys:
        generic = re.sub(f"/(?:{tasks})/(?:{tasks})$", "/<task>/<task>", key)
        generic = re.sub(f"/(?:{tasks})(?=/|$)", "/<task>", generic).replace("eval_mixture/", "eval/")
        assert generic in explained, f"docs/logging.md does not explain {key}"
