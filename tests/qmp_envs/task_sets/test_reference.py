"""Recorded trajectories of the published tasks; a family joins by its files and a line in ID."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import qmp_envs

DATA = Path(__file__).parents[2] / "data"
ID = {
    "reacher": "QMP/MultistageReacher-v0",
    "walker": "QMP/Walker2D-v0",
    "maze": "QMP/Maze-v0",
    "cds": "QMP/MetaWorldCDS-v0",
    "cheetah": "QMP/HalfCheetahGravity-v0",
}
COUNT = {"reacher": 8, "walker": 10, "maze": 12, "cds": 4, "cheetah": 5}
FILES = [file for file in sorted(DATA.glob("*.npz")) if file.stem.split("_")[0] in ID]  # the kitchen's have other keys
OPTIONS: dict[str, dict[str, Any]] = {
    "maze_t0_goal_sparse": {"sparse": True},
    "walker_t2_stand": {"official_terminal": True},
}

STATE_TOLERANCE = 1e-9  # rad, m and their rates
REWARD_TOLERANCE = 1e-8
OBSERVATION_TOLERANCE = 1e-6  # relative: float32


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_trajectory(file):
    recorded = dict(np.load(file))  # all read once
    id = ID[file.stem.split("_")[0]]
    env = gym.make(id, task=int(recorded["task"]), disable_env_checker=True, **OPTIONS.get(file.stem, {})).unwrapped
    start = {name: recorded[f"start_{name}"] for name in env.task_set.start_names}
    observation, _ = env.reset(seed=0, options=start)
    np.testing.assert_allclose(observation, recorded["first_observation"], rtol=OBSERVATION_TOLERANCE, atol=1e-7)
    for step, action in enumerate(recorded["actions"]):
        observation, reward, terminated, _, info = env.step(action)
        state, at = env._episodes.physics.state, f"step {step}"
        for name in ("qpos", "qvel"):
            np.testing.assert_allclose(
                getattr(state, name)[0],
                recorded[name][step],
                rtol=0,
                atol=STATE_TOLERANCE,
                err_msg=f"{name}, {at}",
            )
        np.testing.assert_allclose(
            observation, recorded["observation"][step], rtol=OBSERVATION_TOLERANCE, atol=1e-7, err_msg=at
        )
        assert reward == pytest.approx(recorded["reward"][step], abs=REWARD_TOLERANCE), at
        assert terminated == recorded["terminated"][step], at
        assert ("success" in info) == ("success" in recorded), at
        assert "success" not in info or info["success"] == recorded["success"][step], at
        assert info.get("stages_completed", 0) == recorded["stage"][step], at


def test_all_files_are_there():
    families = [file.stem.split("_")[0] for file in FILES]
    assert {family: families.count(family) for family in ID} == COUNT
    assert set(ID.values()) <= set(qmp_envs.ids())
