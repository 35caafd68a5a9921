"""The project around the packages: what is pinned, what is installed, what the make targets do."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LONGEST = 400
"""Lines of a file of code outside the tests."""
LOCKED_EXTRAS = ("dev", "docs", "metaworld", "robotics", "report", "tune")
INTEGRATIONS = ("cluster", "track", "zoo")


def locked(*names: str) -> list[str]:
    lines = [line for name in names for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if not line.startswith("#")]


LOCK, BOTH = locked("requirements.lock"), locked("requirements.lock", "requirements-integrations.lock")


# ---- the lock files ----


def test_locks_pin_exact_versions_and_nothing_else() -> None:
    for line in BOTH:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), line
    assert not [line for line in BOTH if line.startswith(("nvidia-", "cuda-", "triton"))]
    names = [line.partition("==")[0].lower().replace("_", "-") for line in BOTH]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "lock, extras", [(LOCK, LOCKED_EXTRAS), (BOTH, INTEGRATIONS)], ids=["development", "integrations"]
)
def test_lock_satisfies_every_requirement(lock: list[str], extras: tuple[str, ...]) -> None:
    versions = {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lock)}
    wanted = [*PROJECT["dependencies"]]
    for extra in extras:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        if requirement.name != "qmp-suite":
            version = versions[requirement.name.lower()]
            assert requirement.specifier.contains(version), f"{requirement} against {version}"


# ---- the packages ----


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks or would track."""
    source = tmp_path_factory.mktemp("project") / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in ("qmp_envs", "qmp_sb3", "benchmarks"):
        shutil.copytree(ROOT / package, source / package, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def wheel_file(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> list[str]:
    """The names of the files in the wheel."""
    with zipfile.ZipFile(wheel_file) as archive:
        return archive.namelist()


def test_wheel_has_code_types_models_and_settings(wheel: list[str]) -> None:
    for package in ("qmp_envs", "qmp_sb3"):
        files = {
            str(file.relative_to(ROOT))
            for file in (ROOT / package).rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        assert files <= set(wheel), files - set(wheel)
        assert f"{package}/py.typed" in wheel
    assert {name.split("/")[0] for name in wheel if ".dist-info" not in name} == {"qmp_envs", "qmp_sb3"}


def test_the_papers_tables_are_found_in_an_installed_package(wheel_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel_file) as archive:
        archive.extractall(tmp_path)
    code = "from qmp_sb3.experiments.benchmarks.definitions import available, folder; print(folder(), *available())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    folder, *names = result.stdout.split()
    assert folder == str(tmp_path / "qmp_sb3" / "definitions")
    assert names == sorted(file.stem for file in (ROOT / "benchmarks" / "paper").glob("*.yaml"))


def test_the_source_archive_has_the_papers_tables(source: Path, tmp_path: Path) -> None:
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, capture_output=True, check=True)
    [built] = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(file.relative_to(ROOT)) for file in (ROOT / "benchmarks" / "paper").glob("*.yaml")}
    assert wanted and wanted <= names
    assert "qmp_sb3/native/src/pool.c" in names


def test_console_script_exists() -> None:
    module, _, function = PROJECT["scripts"]["qmp"].partition(":")
    assert callable(getattr(import_module(module), function))


def imports(package: str) -> set[str]:
    """Top-level names of everything that a package imports, at any depth of its code."""
    found: set[str] = set()
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


def test_environments_need_no_learning_library() -> None:
    assert not imports("qmp_envs") & {"torch", "stable_baselines3", "qmp_sb3"}


def test_everything_imported_is_a_declared_dependency() -> None:
    declared = {Requirement(line).name.lower() for line in PROJECT["dependencies"]}
    for extra in ("metaworld", "robotics", "cluster", "report", "track", "tune", "zoo"):
        declared |= {Requirement(line).name.lower() for line in PROJECT["optional-dependencies"][extra]}
    names = {"yaml": "pyyaml", "stable_baselines3": "stable-baselines3", "gymnasium_robotics": "gymnasium-robotics"}
    names |= {"mlflow": "mlflow-skinny", "rl_zoo3": "rl-zoo3", "vl_convert": "vl-convert-python"}
    used = (imports("qmp_envs") | imports("qmp_sb3")) - set(sys.stdlib_module_names) - {"qmp_envs", "qmp_sb3"}
    assert {names.get(name, name) for name in used} <= declared


def test_modules_import_each_other_in_no_circle() -> None:
    """Beside the contracts of import-linter, which see circles of folders and files, not those through ``__init__``."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("qmp_envs", "qmp_sb3", exclude_type_checking_imports=False, cache_dir=None)
    TopologicalSorter({one: graph.find_modules_directly_imported_by(one) for one in graph.modules}).prepare()


def test_no_file_of_code_is_long() -> None:
    folders, kinds = ("qmp_envs", "qmp_sb3", "benchmarks", "docs"), {".py", ".c", ".h", ".js", ".css", ".html"}
    files = [file for name in folders for file in (ROOT / name).rglob("*") if file.suffix in kinds]
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert lines and not {file: count for file, count in lines.items() if count > LONGEST}


def test_importing_the_environments_is_light() -> None:
    code = "import sys, qmp_envs; print([name for name in ('torch', 'stable_baselines3') if name in sys.modules])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---- make ----


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = ["make", "-f", str(ROOT / "Makefile"), *arguments]
    # The tests may themselves run below make, whose flags are not meant for these.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


TARGETS = "train test test-all lint type bench docs pictures gifs lock help".split()


@pytest.mark.parametrize("target", [".venv", *TARGETS])
def test_targets_exist(target: str) -> None:
    result = make("-n", target)
    assert result.returncode == 0, result.stderr


def test_train_never_writes_into_an_existing_run(tmp_path: Path) -> None:
    (tmp_path / "installed").touch()
    qmp = tmp_path / "bin" / "qmp"
    qmp.parent.mkdir()
    qmp.write_text('#!/bin/sh\nfor last; do :; done\nmkdir -p "$last"\necho "$@"\n')
    qmp.chmod(0o755)
    commands = [
        make("train", "-o", "installed", "BIN=bin", "STAMP=installed", cwd=tmp_path).stdout.split() for _ in range(3)
    ]
    assert [words[-1] for words in commands] == [f"runs/reacher-qmp-0{end}" for end in ("", "-2", "-3")]
    assert " ".join(commands[0][:-1]) == (
        "train --env QMP/MultistageReacher-v0 --method qmp --steps 400000 --seed 0 --out"
    )


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "import sys; sys.version_info = (3, 9); $2"\n')
    old.chmod(0o755)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    result = make(".venv", f"PYTHON={old}", cwd=tmp_path)
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed" in result.stderr
    assert not (tmp_path / ".venv").exists()


# ---- the papers around it ----


def test_default_outputs_of_the_commands_stay_out_of_the_repository() -> None:
    from qmp_sb3.cli.main import parse

    commands = ("bench qmp-table-2", "report runs", "plot runs")
    places = {"runs/run", "tune/search", *(str(parse(words.split()).out) for words in commands)}
    kept_out = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert all(f"/{place.split('/')[0]}" in {line.rstrip("/") for line in kept_out} for place in places), places


def test_citation_file_is_valid() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert all({"type", "title", "authors"} <= set(reference) for reference in citation["references"])


def test_changelog_has_an_unreleased_section() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
