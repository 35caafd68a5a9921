"""The benchmarks run, compare like with like, and write whole files."""

import json

import numpy as np
import pytest
import torch as th

import qmp_envs
from benchmarks import every_set, scripted
from benchmarks.paper import point2d
from benchmarks.speed import construction, families, methods, ratios, workloads
from benchmarks.speed.test_speed import VARIANTS
from qmp_envs.registry import ENTRIES
from qmp_sb3 import make_multitask_vec_env, presets


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"STORED": 64, "HIDDEN": [8, 8], "UPDATES": 1}.items():
        monkeypatch.setattr(workloads, name, value)
    for name, value in {"STORED": 40, "HIDDEN": [8, 8], "BATCH": 8, "UPDATES": 1}.items():
        monkeypatch.setattr(methods, name, value)


@pytest.mark.parametrize("name", workloads.GROUPS)
def test_every_variant_runs_and_gets_a_row(name):
    rows = ratios.table(rounds=1, round_seconds=0.0, names=(name,)).splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == list(VARIANTS[name])
    assert rows[0].endswith("|  |  |") and all(float(row.split(" | ")[-1].rstrip(" |")) > 0 for row in rows[1:])


def test_every_method_gets_its_cost():
    assert set(presets.methods()) == {methods.BASE, *methods.names()} - set(methods.EXTRA)
    heading, _, base, *rows = methods.table(tasks=(2, 3), rounds=1, round_seconds=0.0).splitlines()
    assert heading == "| method | update, 2 tasks | update, 3 tasks | action, 2 tasks | action, 3 tasks |"
    assert base.startswith("| `no-sharing` |") and base.count(" ms |") == 4
    assert [row.split("`")[1] for row in rows] == list(methods.names())
    assert methods.table((2,), ["qmp"], 1, 0.0).splitlines()[2].count(" ms |") == 2, (
        "though qmp has no update of its own"
    )
    for row in rows:
        updates, actions = np.array_split(row.strip("| ").split(" | ")[1:], 2)
        behaves_only = set(presets.method(row.split("`")[1]).parts) == {"behavior"}
        assert all(cell == "same" if behaves_only else float(cell) > 0 for cell in updates)
        assert all(float(cell) > 0 for cell in actions)


def test_a_methods_cost_is_that_of_its_own_parts():
    """Both models of a comparison have data of all tasks, and the one has the method's parts."""
    env = make_multitask_vec_env(methods.ID, num_tasks=3)
    base, other = (methods.model(name, env) for name in (methods.BASE, "cds+qmp"))
    assert (base.replay_buffer.sizes == 40).all() and (other.replay_buffer.sizes == 40).all()
    assert repr(other.sharing) == "cds(0.8)" and repr(other.behavior) == "argmax(q)"
    groups = methods.pairs("cds+qmp", base, other)
    for group in groups.values():
        assert list(group) == ["cds+qmp", methods.BASE]
    before = base._n_updates, other._n_updates
    groups["update"]["cds+qmp"]()
    assert (base._n_updates, other._n_updates) == (before[0], before[1] + 1)


def test_steps_per_second_of_a_task_set():
    table = families.table(["QMP/MultistageReacher-v0"], rounds=1, round_seconds=0.0, upstream=False)
    rows = [row.split(" | ") for row in table.splitlines()[2:]]
    assert [row[1] for row in rows] == [families.BATCH, families.SINGLE, families.PHYSICS]
    assert all(float(row[3].replace(",", "")) > 0 for row in rows)
    assert set(families.UPSTREAM) <= set(qmp_envs.ids())


def test_time_and_memory_of_construction():
    measured = construction.measure("'QMP/Maze-v0'")
    assert measured["processes"] == 1 and measured["make, s"] > 0.0
    assert measured["peak RSS, MB"] >= measured["RSS after, MB"] > 10.0


def test_the_looped_switches_agree():
    """Both ways to write the loop, and the stacked one, choose the same policies for the same weights."""
    models = workloads.separate_models()
    ours = workloads.our_model()
    for task, model in enumerate(models):
        copy_task(ours, task, model)
    observations = np.random.default_rng(3).normal(size=(workloads.TASKS, workloads.OBSERVATIONS)).astype(np.float32)
    ours._act(observations)
    chosen = ours.behavior.counts.argmax(axis=1)
    for switch in (workloads.looped_switch, workloads.looped_switch_by_predict):
        for model in models:  # samples become means, by which one sees who acted
            with th.no_grad():
                model.actor.log_std.weight.zero_()
                model.actor.log_std.bias.fill_(-20.0)
        actions = switch(models, observations)
        means = [models[j].predict(row, deterministic=True)[0] for j, row in zip(chosen, observations, strict=True)]
        np.testing.assert_allclose(actions, means, atol=1e-4)


def copy_task(ours, task: int, model) -> None:
    """Weights of an SB3 model into one task of the stacked networks."""
    actor = [layer for layer in model.actor.latent_pi if isinstance(layer, th.nn.Linear)]
    first_critic = [layer for layer in model.critic.q_networks[0] if isinstance(layer, th.nn.Linear)]
    with th.no_grad():
        last = ours.actor.network
        for k, layer in enumerate(actor):
            last.weights[k][task].copy_(layer.weight.T)
            last.biases[k][task, 0].copy_(layer.bias)
        heads = (model.actor.mu, model.actor.log_std)
        last.weights[-1][task].copy_(th.cat([head.weight for head in heads]).T)
        last.biases[-1][task, 0].copy_(th.cat([head.bias for head in heads]))
        for k, layer in enumerate(first_critic):
            ours.critic.network.weights[k][task].copy_(layer.weight.T)
            ours.critic.network.biases[k][task, 0].copy_(layer.bias)


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
    of_metaworld = {id for id in qmp_envs.ids() if ENTRIES[id].task_set.startswith("qmp_envs.metaworld")}
    assert set(scripted.MAKERS) == of_metaworld
