"""Run directories of somebody else: no command runs code that they name or bring along, unless told to trust them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

from qmp_sb3 import presets
from qmp_sb3.cli import main
from qmp_sb3.experiments import RunDirectory, RunSpec, TrainedRun, run
from qmp_sb3.experiments.runs.run import extend
from qmp_sb3.serialization import UntrustedFile
from tests.qmp_sb3.cli.test_cli import ID, quick_spec

COMMANDS = {
    "eval": ["eval", "run", "--episodes", "1"],
    "watch": ["watch", "run", "--out", "film.gif", "--size", "16"],
    "resume": ["train", "--resume", "run"],
    "extend": ["train", "--resume", "run", "--steps", "90"],
    "report": ["report", "run", "--out", "report.html", "--films", "1"],
}
EVIL = "from pathlib import Path\nPath('executed').touch()\n"
ELSEWHERE = (
    EVIL + "import qmp_envs\nqmp_envs.register_task_set('Else/Point-v0', 'qmp_envs.task_sets.point:Point2D', 20)\n"
)
OPTIONS: dict[str, dict[str, Any]] = {
    "task set": {"env_kwargs.task_set": "evil:make", "env_kwargs.task": 0},
    "nested": {"env_kwargs": {"task_set": "evil:make", "task": 0}},
    "entry point": {"env_kwargs.vectorization_mode": "vector_entry_point"},
    "wrappers": {"env_kwargs.wrappers": ["evil:make"]},
    "vector_kwargs": {"env_kwargs.vector_kwargs": {"task_set": "evil:make"}},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "run"
    run(quick_spec(steps=60), path)
    return path


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the commands, with a run and a module whose import leaves a file."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "evil.py").write_text(ELSEWHERE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("evil", None)
    gym.registry.pop("Else/Point-v0", None)


def rewrite(path: Path, finished: bool = False, **changes: Any) -> None:
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["run"] |= changes
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    if not finished:
        RunDirectory(path).discard_result()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_of_a_run_names_code(command: str, options: str, here: Path) -> None:
    if command == "report":
        pytest.importorskip("altair", reason="reports are drawn with the extra 'report'")
    rewrite(here / "run", overrides={**quick_spec().overrides, **OPTIONS[options]})
    # in the path of modules: nothing but the refusal stands between the file and its import
    sys.path.append(str(here))
    code = main([*COMMANDS[command], "--trust"])
    assert not (here / "executed").exists() and "evil" not in sys.modules
    if command in ("resume", "extend"):
        assert code == 2, "the training environments are made with all of them"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_before_the_id_needs_trust(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if command == "report":
        pytest.importorskip("altair", reason="reports are drawn with the extra 'report'")
    rewrite(here / "run", env="evil:Else/Point-v0")
    sys.path.append(str(here))
    code = main(COMMANDS[command])
    assert not (here / "executed").exists() and "evil" not in sys.modules
    if command == "report":
        assert code == 0 and "--trust" in (here / "report.html").read_text()
    else:
        [said] = capsys.readouterr().err.splitlines()
        assert code == 2 and "'evil'" in said and "--trust" in said
    sys.path.remove(str(here))
    assert main([*COMMANDS[command], "--trust"]) == 0
    assert (here / "executed").exists(), "a module in the folder of the command is found"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_imports_from_its_folder(command: str, here: Path) -> None:
    if command == "report":
        pytest.importorskip("altair", reason="reports are drawn with the extra 'report'")
    main(COMMANDS[command])
    assert str(here) not in sys.path


@pytest.mark.parametrize("call", [TrainedRun.open, lambda path: extend(path, 90)], ids=["open", "extend"])
def test_in_python(call: Any, here: Path) -> None:
    sys.path.append(str(here))
    rewrite(here / "run", env="evil:Else/Point-v0")
    with pytest.raises(UntrustedFile, match="'evil'.*trust=True"):
        call(here / "run")
    rewrite(here / "run", env=ID, overrides={"env_kwargs.task_set": "evil:make"})
    with pytest.raises(TypeError, match="'task_set' is no option of Point2D"):
        call(here / "run")
    assert "evil" not in sys.modules


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_model_is_made_with_options_of_the_task_set_alone(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="is no option of Point2D"):
        presets.make("qmp", ID, **quick_spec().overrides, **options)


def test_options_of_the_task_set_and_the_environments_are_taken(tmp_path: Path) -> None:
    given = {"reward": "distance", "max_episode_steps": 7, "workers": 1, "envs_per_task": 2}
    overrides = {**quick_spec().overrides, **{f"env_kwargs.{name}": value for name, value in given.items()}}
    spec = quick_spec(steps=60, overrides=overrides)
    assert run(spec, tmp_path / "run").finished
    trained = TrainedRun.open(tmp_path / "run")
    assert trained.spec == spec == RunSpec.from_file(RunDirectory(tmp_path / "run").config(), "config.yaml")
    assert trained.evaluate(1, 0)["length"].max() == 7
