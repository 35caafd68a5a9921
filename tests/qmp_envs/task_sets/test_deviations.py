"""The script that prints the deviations from the recordings measures them, and the page shows all of them."""

from dataclasses import replace

import numpy as np
import pytest

from tests.qmp_envs.task_sets import deviations
from tests.qmp_envs.task_sets.test_reference import DATA

ROOT = DATA.parents[1]
ALL = list(deviations.recordings(DATA))
FIRST = {one.id: one for one in reversed(ALL)}
"""id -> its first recording"""


def cut(one, steps):
    """The first steps of a recording; arrays that start before the first step keep that row."""

    def rows(array):
        every = 1 if len(array) == len(one.actions) else len(one.actions) // (len(array) - 1)
        return array[: steps // every + (len(array) != len(one.actions))]

    state = {name: rows(array) for name, array in one.state.items()}
    seen = None if one.observation is None else rows(one.observation)
    return replace(one, actions=one.actions[:steps], reward=one.reward[:steps], state=state, observation=seen)


@pytest.mark.parametrize("id", FIRST)
def test_a_wrong_number_is_seen(id):
    """In the last row, so that all before were compared too."""
    one = cut(FIRST[id], 20)
    assert np.nanmax(deviations.deviations(one)) < 1e-12
    spoiled = replace(one, reward=one.reward.copy(), state={name: array.copy() for name, array in one.state.items()})
    spoiled.reward[-1] += 0.5
    spoiled.state["qpos"][-1, 0] += 0.25
    state, _, reward = deviations.deviations(spoiled)
    assert (state, reward) == (pytest.approx(0.25), pytest.approx(0.5))
    if one.observation is not None:
        seen = one.observation.copy()
        seen[-1, 0] += 0.125
        assert deviations.deviations(replace(one, observation=seen))[1] == pytest.approx(0.125, rel=1e-5)


def test_no_recording_is_forgotten():
    names = {one.name.split(", ")[0] for one in ALL}
    assert names == {path.stem for path in DATA.glob("*.npz")} - {"mt10_vector"}


def test_whole_recordings_of_other_names(tmp_path):
    """Several trajectories per file, and the random vectors of all tasks in one array."""
    ours = np.load(DATA / "mt10_reach.npz")
    copied = {"actions": "actions", "observation": "obs", "qpos": "qpos", "reward": "reward"}
    file = {f"t0_{kind}_{new}": ours[f"{kind}_{old}"] for old, new in copied.items() for kind in ["script"]}
    np.savez(tmp_path / "mt10_reach_v3.npz", task="reach-v3", all_rand_vecs=ours["script_random_vector"][None], **file)
    (row,) = deviations.table(tmp_path).splitlines()[2:]
    assert row == "| `QMP/MT10-v0` | `mt10_reach_v3, t0_script` | 52 | 0 | 0 | 0 |"


def test_the_page_shows_every_recording():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert [one.name for one in ALL if f"| `{one.id}` | `{one.name}` | {len(one.actions)} |" not in page] == []
