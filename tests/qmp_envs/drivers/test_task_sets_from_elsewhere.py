"""Task sets of other packages: an id by ``register_task_set``, and everything that works for our own ids."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import qmp_envs
from qmp_sb3 import QMP, make_multitask_vec_env, presets
from qmp_sb3.cli import main
from qmp_sb3.experiments import RunDirectory, RunSpec, TrainedRun, run

ID = "Elsewhere/Reacher-v3"
SMALL = {"policy_kwargs": {"net_arch": [8]}, "learning_starts": 40, "batch_size": 8, "buffer_size": 1000}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    qmp_envs.register_task_set(ID, "qmp_envs.task_sets.reacher:MultistageReacher", horizon=30)
    yield
    del gym.registry[ID]


def test_it_is_found_like_ours() -> None:
    assert qmp_envs.is_task_set(ID) and qmp_envs.task_names(ID) == qmp_envs.task_names("QMP/MultistageReacher-v0")
    assert ID not in qmp_envs.ids(), "that table is of this suite"
    assert not qmp_envs.is_task_set("Pendulum-v1") and not qmp_envs.is_task_set("Elsewhere/None-v0")


def test_single_and_batched_with_its_time_limit() -> None:
    envs = gym.make_vec(ID)
    assert envs.num_envs == 5
    batch, _ = envs.reset(seed=7)
    alone, info = gym.make(ID, task=3).reset(seed=10)
    assert np.array_equal(batch[3], alone) and info["task_id"] == 3
    steps = [envs.step(envs.action_space.sample())[3] for _ in range(30)]
    assert [ended.any() for ended in steps] == [False] * 29 + [True]


def test_arguments_that_belong_to_the_id() -> None:
    qmp_envs.register_task_set("Elsewhere/Far-v0", "qmp_envs.task_sets.point:Point2D", 20, reward="distance")
    try:
        assert gym.make("Elsewhere/Far-v0").unwrapped.task_set.kind == "distance"
        assert gym.make("Elsewhere/Far-v0", reward="sparse").unwrapped.task_set.kind == "sparse"
        assert qmp_envs.make_task_set("Elsewhere/Far-v0").kind == "distance"
    finally:
        del gym.registry["Elsewhere/Far-v0"]


def test_pickling_and_specs() -> None:
    env = gym.make(ID, task="stay")
    env.reset(seed=0)
    copied, action = pickle.loads(pickle.dumps(env)), env.action_space.sample()
    assert np.array_equal(env.step(action)[0], copied.step(action)[0])
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))  # type: ignore[union-attr]
    assert np.array_equal(again.reset(seed=1)[0], env.reset(seed=1)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ID, "a:B", 10), "is taken"),
        (("Elsewhere/X-v0", "Reacher", 10), "'module:class'"),
        (("Elsewhere/X-v0", qmp_envs.make_task_set("QMP/Point2D-v0"), 10), "'module:class'"),
        (("Elsewhere/X-v0", "a:B", 0), "at least 1 step"),
    ],
)
def test_refusals(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        qmp_envs.register_task_set(*arguments)
    assert "Elsewhere/X-v0" not in gym.registry


def test_it_is_trained_and_evaluated() -> None:
    model = QMP("MlpPolicy", ID, seed=0, **SMALL)
    model.learn(300)
    assert model.task_names == qmp_envs.task_names(ID)

    def policy(observations: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        return model.predict(observations, task=tasks, deterministic=True)[0]

    assert qmp_envs.evaluate(policy, ID, episodes=1)["length"].max() == 30
    assert make_multitask_vec_env(ID, envs_per_task=2).num_envs == 10


def test_methods_bring_what_they_set_themselves() -> None:
    model = presets.make("qmp-hold", ID, **SMALL)
    assert str(model.behavior) == "hold(10, argmax(q))"
    assert model.gamma == 0.99 and model.tau == 0.005, "the constructor's defaults"
    assert "hold(10, argmax(q))" in presets.sources("qmp-hold", ID)["behavior"]


def test_a_run_of_it(tmp_path: Path) -> None:
    overrides = {"learning_starts": 40, "policy_kwargs.net_arch": [8], "batch_size": 8, "buffer_size": 1000}
    spec = RunSpec(ID, "qmp", 300, overrides=overrides, eval_every=150, eval_episodes=1)
    assert run(spec, tmp_path / "run").finished
    config = RunDirectory(tmp_path / "run").config()
    assert "qmp_envs.task_sets.reacher:MultistageReacher" in config["reward"] and len(config["tasks"]) == 5
    assert TrainedRun.open(tmp_path / "run").evaluate(1, 0)["return"].shape == (5, 1)


def test_the_command_line_imports_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # so that the folder that main() adds is taken back afterwards
    (tmp_path / "far_away.py").write_text(
        "import qmp_envs\nqmp_envs.register_task_set('Elsewhere/Cli-v0', 'qmp_envs.task_sets.point:Point2D', 20)\n"
    )
    words = ["--method", "qmp", "--steps", "60", "--eval-episodes", "1", "learning_starts=40", "buffer_size=100"]
    assert main(["train", "--env", "far_away:Elsewhere/Cli-v0", "--out", "run", *words]) == 0
    assert main(["eval", "run", "--episodes", "1", "--trust"]) == 0
    assert main(["train", "--env", "far_awa:Elsewhere/Cli-v0", *words]) == 2
    assert "cannot import 'far_awa'" in capsys.readouterr().err
    assert main(["train", "--env", "far_away:Elsewhere/Cil-v0", *words]) == 2
    assert "unknown env" in capsys.readouterr().err
    del gym.registry["Elsewhere/Cli-v0"]
