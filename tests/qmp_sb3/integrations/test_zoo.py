"""RL Baselines3 Zoo: its own algorithms on our environments, and our methods by its words."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from qmp_sb3 import MultiTaskSAC, presets

# Not imported here: it replaces Gymnasium's TimeLimit for the whole process.
if find_spec("rl_zoo3") is None:
    pytest.skip("RL Baselines3 Zoo is not installed (extra: zoo)", allow_module_level=True)

ID = "QMP/MultistageReacher-v0"
ROOT = Path(__file__).resolve().parents[3]
SMALL = ["learning_starts:200", "policy_kwargs:dict(net_arch=[8])", "buffer_size:1000"]


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def run_folder(folder: Path, algo: str, id: str = ID) -> Path:
    return folder / "logs" / algo / f"{id.replace('/', '-')}_1"


@pytest.mark.slow
def test_a_stock_algorithm_trains_and_plays_by_the_zoos_own_words(tmp_path: Path) -> None:
    words = ["--algo", "sac", "--env", ID, "--gym-packages", "qmp_envs"]
    options = ["-n", "400", "--eval-freq", "200", "--eval-episodes", "1", "--save-freq", "200", "--seed", "1"]
    done = call(tmp_path, "rl_zoo3.train", *words, *options, "--env-kwargs", "task:'stay'", "-params", *SMALL)
    assert done.returncode == 0, done.stderr
    run = run_folder(tmp_path, "sac")
    assert {"best_model.zip", "evaluations.npz", "rl_model_400_steps.zip", "0.monitor.csv"} <= {
        file.name for file in run.iterdir()
    }
    with np.load(run / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [200, 400] and "successes" in saved.files
    played = call(tmp_path, "rl_zoo3.enjoy", *words, "-f", "logs", "--no-render", "-n", "200")
    assert played.returncode == 0, played.stderr
    assert "Success rate" in played.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of our method by the zoo's words."""
    folder = tmp_path_factory.mktemp("zoo")
    words = ["--algo", "qmp", "--env", ID, "-n", "1000", "--eval-freq", "500", "--eval-episodes", "2", "--seed", "1"]
    done = call(folder, "qmp_sb3.integrations.rl_zoo", *words, "--save-freq", "500", "-params", *SMALL)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_our_method_has_a_slot_for_each_task_and_its_own_evaluation(trained: Path) -> None:
    run = run_folder(trained, "qmp")
    with np.load(run / "evaluations.npz") as saved:
        assert saved["timesteps"].tolist() == [500, 1000]
        assert saved["results"].shape == (2, 10) and saved["task_ids"].tolist() == np.repeat(range(5), 2).tolist()
    model = MultiTaskSAC.load(run / "best_model.zip")
    assert model.n_tasks == 5 and str(model.behavior) == "argmax(q)"
    episodes = (run / "0.monitor.csv").read_text().splitlines()[2:]
    assert len(episodes) == 5, "one of each task, 200 steps long"


@pytest.mark.slow
def test_hyperparameters_are_the_presets_and_what_the_words_say(trained: Path) -> None:
    run = run_folder(trained, "qmp")
    saved = yaml.load((run / ID.replace("/", "-") / "config.yml").read_text(), yaml.UnsafeLoader)
    preset = presets.settings("qmp", ID)
    assert saved["batch_size"] == preset["batch_size"] and saved["gamma"] == preset["gamma"]
    assert saved["learning_starts"] == 200 and saved["policy_kwargs"] == {"net_arch": [8]}
    assert saved["n_timesteps"] == presets.default_steps(ID)


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--env-kwargs", "task:'stay'"], ["--load-best"]])
def test_our_method_plays(trained: Path, words: list[str]) -> None:
    options = ["--algo", "qmp", "--env", ID, "-f", "logs", "--no-render", "-n", "200", *words]
    played = call(trained, "qmp_sb3.integrations.rl_zoo", "enjoy", *options)
    assert played.returncode == 0, played.stderr
    assert "Episode Length 200" in played.stdout


@pytest.mark.slow
def test_our_method_goes_on_with_a_saved_model(trained: Path) -> None:
    model = run_folder(trained, "qmp") / "QMP-MultistageReacher-v0.zip"
    words = ["--algo", "qmp", "--env", ID, "-n", "200", "--eval-freq", "-1", "-i", str(model), "-f", "more"]
    done = call(trained, "qmp_sb3.integrations.rl_zoo", *words, "-params", *SMALL)
    assert done.returncode == 0, done.stderr
    more = trained / "more" / "qmp" / "QMP-MultistageReacher-v0_1" / "QMP-MultistageReacher-v0.zip"
    assert MultiTaskSAC.load(more).task_names == MultiTaskSAC.load(model).task_names


@pytest.mark.slow
def test_compositions_presets_and_other_environments(tmp_path: Path) -> None:
    words = ["--algo", "parameters+qmp", "--env", ID, "--preset", "paper", "-n", "200", "--eval-freq", "-1"]
    done = call(tmp_path, "qmp_sb3.integrations.rl_zoo", *words)
    assert done.returncode == 0, done.stderr
    model = MultiTaskSAC.load(run_folder(tmp_path, "parameters+qmp") / "QMP-MultistageReacher-v0.zip")
    assert model.networks == "multihead" and model.policy_kwargs["activation_fn"].__name__ == "Tanh"
    words = ["--algo", "qmp", "--env", "Pendulum-v1", "-n", "200", "--eval-freq", "-1"]
    done = call(tmp_path, "qmp_sb3.integrations.rl_zoo", *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_zoos_search_points_to_ours(tmp_path: Path) -> None:
    done = call(tmp_path, "qmp_sb3.integrations.rl_zoo", "--algo", "qmp", "--env", ID, "-optimize")
    assert done.returncode != 0
    assert f"qmp tune --env {ID} --method qmp" in done.stderr


@pytest.mark.parametrize(
    "words, message",
    [
        (["--algo", "qpm", "--env", ID], "--algo='qpm' is unknown; did you mean 'qmp'?"),
        (
            ["--algo", "qmp", "--env", "QMP/Pont2D-v0"],
            "--env='QMP/Pont2D-v0' is unknown; did you mean 'QMP/Point2D-v0'?",
        ),
        (["--algo", "qmp", "--env", ID, "--preset", "fsat"], "--preset='fsat' is unknown; did you mean 'fast'?"),
    ],
)
def test_unknown_names_are_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = call(tmp_path, "qmp_sb3.integrations.rl_zoo", *words)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"qmp_sb3.integrations.rl_zoo: {message}"
    assert "Traceback" not in done.stderr
