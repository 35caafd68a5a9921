"""The scripts that draw the documentation, and the site that is built of it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qmp_envs
from qmp_envs.registry import ENTRIES
from tests.sampling import each_batch_id

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "docs"))

import make_gifs  # noqa: E402
import make_pictures  # noqa: E402
import scripted_policies  # noqa: E402

# Of Meta-World's scripted policies; actions are clipped, as it says.
pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high:UserWarning")


@each_batch_id
def test_scripted_policies_stay_inside_the_action_space(id):
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set(id), 0)
    policy = scripted_policies.make(env)
    observation, _ = env.reset(seed=0, options=scripted_policies.start(env))
    for _ in range(5):
        action = policy(observation)
        assert env.action_space.contains(action)
        observation = env.step(action)[0]


@pytest.mark.parametrize("id", ["QMP/Point2D-v0", "QMP/Maze-v0"])
def test_scripted_policies_reach_the_goal(id):
    for task in range(len(qmp_envs.task_names(id))):
        env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set(id), task)
        policy = scripted_policies.make(env)
        observation, info = env.reset(seed=0)[0], {"is_success": False}
        for _ in range(ENTRIES[id].horizon):
            if not info["is_success"]:
                observation, _, _, _, info = env.step(policy(observation))
        assert info["is_success"], task


def test_scripted_walker_stands_to_the_end():
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set("QMP/Walker2D-v0"), "balance")
    policy = scripted_policies.make(env)
    observation, _ = env.reset(seed=0, options=scripted_policies.start(env))
    for _ in range(1000):
        observation, _, terminated, _, info = env.step(policy(observation))
        assert not terminated
    assert info["is_success"]


def test_scripted_cheetah_runs_forward():
    env = qmp_envs.TaskSetEnv(qmp_envs.make_task_set("QMP/HalfCheetahGravity-v0"), 0)
    policy = scripted_policies.make(env)
    observation, _ = env.reset(seed=0)
    for _ in range(100):
        observation, _, _, _, info = env.step(policy(observation))
    assert info["x_position"] > 5.0


@pytest.mark.gl
def test_pictures_and_films_are_drawn(tmp_path):
    assert make_pictures.picture("QMP/Maze-v0", 0, 40).shape == (40, 40, 3)
    frames = make_gifs.side_by_side("QMP/Point2D-v0", None)
    assert frames.shape[2:] == (make_gifs.LARGEST_TILE, 3) and 10 < len(frames) <= make_gifs.FRAMES
    assert 1_000 < make_gifs.write(tmp_path / "film.gif", frames) <= make_gifs.LARGEST


def test_films_are_made_small_or_refused(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(256, size=(6, 60, 60, 3), dtype=np.uint8)
    monkeypatch.setattr(make_gifs, "LARGEST", 8_000)
    assert make_gifs.write(tmp_path / "film.gif", noise) <= 8_000
    monkeypatch.setattr(make_gifs, "LARGEST", 100)
    with pytest.raises(RuntimeError, match="does not fit into 100 bytes"):
        make_gifs.write(tmp_path / "film.gif", noise)


def test_grids_have_no_empty_place():
    assert [make_gifs.columns_of(tasks) for tasks in (1, 4, 5, 8, 10, 25, 50)] == [1, 4, 5, 4, 5, 5, 10]
    tiles = [np.full((2, 2, 3), i, np.uint8) for i in range(3)]
    assert make_pictures.grid(tiles, 2)[:, :, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[2, 2, 255, 255]] * 2


def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--conf-dir", str(ROOT / "docs")]
    result = subprocess.run(
        [*command, "--doctree-dir", str(tmp_path / "doctrees"), str(ROOT), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    menu = (tmp_path / "site" / "docs" / "envs" / "index.html").read_text(encoding="utf-8")
    for id in qmp_envs.ids():
        assert re.search(rf'href="[a-z0-9_]+\.html">(?:<[^>]+>)*{id}', menu), id
