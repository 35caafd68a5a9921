"""The benchmarks run, compare like with like, and write whole files."""

import json

import numpy as np
import pytest
import torch as th

import qmp_envs
from benchmarks import every_set, scripted
from benchmarks.paper import point2d
from qmp_envs.registry import ENTRIES


def test_the_arms_of_a_seed_start_alike():
    model = point2d.build(seeds=2)
    one = model.observation_space.sample()
    actions = np.stack([model.predict(one, task=learner, deterministic=True)[0] for learner in range(6)])
    np.testing.assert_allclose(actions[[0, 1]], actions[[2, 3]], rtol=1e-6)
    np.testing.assert_allclose(actions[[0, 1]], actions[[4, 5]], rtol=1e-6)
    assert not np.allclose(actions[0], actions[1])
    assert th.equal(model.critic.flat.flat, model.critic_target.flat.flat)


def test_learners_only_borrow_from_their_arms_policies(tmp_path, capsys):
    point2d.main(["--seeds", "2", "--steps", "240", "--out", str(tmp_path / "new" / "point2d.json")])
    assert "| SAC | " in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["point2d.json"]
    document = json.loads((tmp_path / "new" / "point2d.json").read_text())
    assert len(document["runs"]) == 6
    for one in document["runs"]:
        assert one["steps"] == [60, 120, 180, 240] and len(one["returns"]) == len(one["reached"]) == 4
        assert set(one["mixture"]) <= {"own", *point2d.ARMS[one["arm"]]}
        assert sum(one["mixture"].values()) == pytest.approx(1.0, abs=1e-3)


def test_the_stored_result_is_complete():
    """What docs/benchmarks.md shows was measured with all seeds and steps, and says on what."""
    document = json.loads(point2d.RESULTS.read_text())
    assert len(document["runs"]) == len(point2d.ARMS) * point2d.SEEDS
    assert all(one["steps"][-1] == point2d.STEPS for one in document["runs"])
    assert document["machine"]["versions"]["torch"] and document["machine"]["processor"]
    page = (point2d.RESULTS.parents[3] / "docs" / "benchmarks.md").read_text()
    assert point2d.table(document["runs"]) in page, "the page shows the stored numbers"


def test_first_look_at_a_set_says_what_happened(capsys):
    every_set.main(["--ids", "QMP/Point2D-v0", "--steps", "260", "--episodes", "2"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `QMP/Point2D-v0`")]
    assert rows[0] == rows[1] and rows[0].split(" | ")[2:4] == ["60", "yes"]
    assert "`reach`" in rows[-1]


def test_an_infinite_loss_is_noticed():
    logger = every_set.Finite()
    logger.record("train/actor_loss", 1.0)
    logger.record("rollout/ep_rew_mean", np.nan)
    assert logger.finite
    logger.record("train/critic_loss", np.nan)
    assert not logger.finite


def test_scripted_policies_get_a_row_per_task(capsys):
    scripted.main(["--ids", "QMP/MetaWorldCDS-v0", "--tasks", "drawer-close", "drawer-open", "--episodes", "1"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
    assert [row.split(" | ")[1:3] for row in rows] == [["`drawer-close`", "1 of 1"], ["`drawer-open`", "1 of 1"]]
    of_metaworld = {id for id in qmp_envs.ids() if ".metaworld" in ENTRIES[id].task_set}
    assert set(scripted.MAKERS) == of_metaworld
