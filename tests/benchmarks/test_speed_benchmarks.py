"""The speed benchmarks run, compare like with like, and their page shows the stored numbers."""

import json
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from torch.utils.flop_counter import FlopCounterMode

import qmp_envs
from benchmarks.speed import __main__ as command
from benchmarks.speed import environments, learners, memory, methods, page, profile, results, training
from benchmarks.speed.cases import KINDS, ON_REQUEST, all_cases
from benchmarks.speed.interleaved import Case, Times, Variant, interleaved
from benchmarks.speed.plain_reacher import PlainReacher
from qmp_sb3 import make_multitask_vec_env, presets


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module in (learners, methods):
        monkeypatch.setattr(module, "STORED", 40)
    for module in (learners, methods, training):
        monkeypatch.setattr(module, "HIDDEN", [8, 8])
    for name, value in {"BATCH": 8, "UPDATES": 1}.items():
        monkeypatch.setattr(methods, name, value)
    for name, value in {"BATCH": 4, "VECTOR_STEPS": 3, "WARM_UP": 20, "CAPACITY": 300}.items():
        monkeypatch.setattr(training, name, value)
    monkeypatch.setattr(learners, "LARGE", 32)


def seconds(variants):
    """The median of one round of every variant."""
    try:
        times = interleaved(variants, 1, 0.0, "wall")
    finally:
        for variant in variants.values():
            variant.close()
    return {name: float(np.median(one.seconds)) for name, one in times.items()}


OURS = tuple(learners.BACKENDS)


@pytest.mark.parametrize(
    "build, names",
    [
        (lambda: learners.update(2, 8, 1), (*OURS, learners.SEPARATE, learners.ARITHMETIC)),
        (lambda: learners.q_switch(2), (*OURS, learners.LOOPED, learners.BY_PREDICT)),
        (lambda: learners.replay_add(2), ("ours", learners.SEPARATE_BUFFERS)),
        (lambda: learners.replay_sample(2, 8), ("ours", learners.SEPARATE_BUFFERS)),
        (lambda: learners.replay_sample_by_priority(2, 8), (learners.UNIFORM, "per", "ta-per")),
        (lambda: learners.replay_feedback(2, 8), (learners.UNIFORM, "feedback")),
        (lambda: training.training(2), (*OURS, training.SEPARATE)),
        (lambda: training.method_training("QMP/Maze-v0", "qmp", "no-sharing"), ("qmp", "no-sharing")),
        (lambda: training.evaluation(1), ("evaluate_tasks", training.ONE_BY_ONE)),
        (lambda: environments.single_step("QMP/Walker2D-v0"), ("gym.make", "Walker2d-v5")),
        (lambda: environments.single_step("QMP/Maze-v0"), ("gym.make",)),
        (
            lambda: environments.vector_step("QMP/MultistageReacher-v0", 5),
            (environments.BATCH, environments.DUMMY, environments.PLAIN, environments.PHYSICS),
        ),
        (
            lambda: environments.construction("QMP/Walker2D-v0", 4),
            (environments.BATCH, environments.DUMMY, "SyncVectorEnv of Walker2d-v5"),
        ),
        (lambda: methods.update("cds", 2), ("cds", methods.BASE)),
        (lambda: methods.action("qmp", 2), ("qmp", methods.BASE)),
    ],
    ids=lambda value: "" if callable(value) else value[0],
)
def test_every_variant_of_every_kind_runs(build, names):
    found = seconds(build())
    assert tuple(found) == names and all(value > 0.0 for value in found.values())


def test_the_table_of_cases():
    cases = all_cases()
    assert tuple(dict.fromkeys(case.group for case in cases)) == KINDS and set(ON_REQUEST) <= set(KINDS)
    names = [(case.group, case.name) for case in cases]
    assert len(set(names)) == len(names)
    stepped = {name.partition(",")[0] for kind, name in names if kind == "vector step"}
    assert stepped == {id.removeprefix("QMP/").removesuffix("-v0") for id in qmp_envs.ids()}
    assert set(environments.UPSTREAM) <= set(qmp_envs.ids())
    assert set(presets.methods()) == {methods.BASE, *methods.names()} - set(methods.EXTRA)


def test_rounds_alternate():
    calls = []
    variants = {name: Variant(lambda name=name: calls.append(name), operations=2) for name in "ab"}
    times = interleaved(variants, 3, 0.0, "wall")
    assert calls == ["a"] * 2 + ["b"] * 2 + ["a", "b"] * 3
    assert all(len(one.seconds) == 3 for one in times.values())


def test_statistics_by_hand():
    found = results.statistics(Times(np.array([1.0, 2.0, 3.0, 10.0]), 5))
    expected = {
        "min": 1,
        "max": 10,
        "mean": 4,
        "median": 2.5,
        "q1": 1.75,
        "q3": 4.75,
        "iqr": 3,
        "ops": 0.25,
        "total": 80,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["stddev"] == pytest.approx(np.std([1, 2, 3, 10], ddof=1), rel=1e-5)
    assert (found["rounds"], found["iterations"], found["outliers"]) == (4, 5, "1;1")


def store(path, name="one", value=2.0):
    case = Case("update", name, dict, "step")
    times = {variant: Times(np.full(3, value * factor), 1) for variant, factor in (("torch", 1.0), ("peer", 3.0))}
    results.save(results.records(case, times, 0.0), path)


def test_a_case_measured_again_replaces_the_old_one(tmp_path):
    path = tmp_path / "new" / "speed.json"
    for name, value in (("one", 2.0), ("two", 5.0), ("one", 4.0)):
        store(path, name, value)
    cases = results.by_case(results.load(path))
    medians = [(name, variants["peer"]["stats"]["median"]) for (_, name), variants in cases.items()]
    assert medians == [("one", 12.0), ("two", 15.0)], "in its place"
    assert [file.name for file in path.parent.iterdir()] == ["speed.json"]


def test_results_of_two_machines_stay_apart(tmp_path):
    path = tmp_path / "speed.json"
    store(path)
    document = json.loads(path.read_text())
    document["machine_info"]["processor"] = "another one"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match="measured on 'another one'.*--out"):
        store(path)


def test_pytest_benchmark_reads_the_results(tmp_path):
    store(tmp_path / "a.json")
    store(tmp_path / "b.json", value=3.0)
    compare = [str(Path(sys.executable).with_name("pytest-benchmark")), "compare", "--group-by=group"]
    done = subprocess.run([*compare, "a.json", "b.json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "update: one" in done.stdout and "torch" in done.stdout and "(1.50)" in done.stdout


def test_the_command_measures_prints_and_stores(tmp_path, capsys):
    path = tmp_path / "speed.json"
    choice = ["--only", "replay add", "--case", "1 task"]
    command.main([*choice, "--rounds", "1", "--seconds", "0", "--out", str(path)])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| replay add: 1 task")]
    assert [row.split(" | ")[1] for row in rows] == ["ours", learners.SEPARATE_BUFFERS]
    assert float(rows[0].split(" | ")[4]) > 0.0
    assert set(results.by_case(results.load(path))) == {("replay add", "1 task")}


@pytest.mark.parametrize(
    "arguments, message",
    [(["--only", "updates"], "did you mean 'update'"), (["--only", "update", "--case", "7 tasks"], "no case of")],
)
def test_a_wrong_choice_is_an_error_before_any_work(arguments, message, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


def test_floating_point_operations(monkeypatch):
    """Not more than SB3 needs, which also computes gradients that it throws away, and not much less."""
    monkeypatch.setattr(learners, "HIDDEN", [64, 64])
    (model,) = learners.separate_models(1, 16)
    model.train(1, 16)
    with FlopCounterMode(display=False) as counter:
        model.train(1, 16)
    ours = learners.floating_point_operations(1, 16)
    assert ours <= counter.get_total_flops() <= 1.5 * ours
    assert learners.floating_point_operations(5, 32) == 10 * ours


def test_a_methods_cost_is_that_of_its_own_parts():
    """Both models of a comparison have data of all tasks, and the one has the method's parts."""
    env = make_multitask_vec_env(methods.ID, num_tasks=3)
    base, other = (methods.model(name, env) for name in (methods.BASE, "cds+qmp"))
    assert (base.replay_buffer.sizes == 40).all() and (other.replay_buffer.sizes == 40).all()
    assert repr(other.sharing) == "cds(0.8)" and repr(other.behavior) == "argmax(q)"


def test_the_two_trainings_have_one_schedule():
    separate, ours = training.SeparateTraining(2), training.our_training(2)
    separate.run(40)
    ours.learn(40 * training.TASKS)
    assert ours._n_updates == pytest.approx(separate.models[0]._n_updates, abs=1)
    assert {model.replay_buffer.pos for model in separate.models} == {40} and (ours.replay_buffer.sizes == 40).all()
    separate.envs.close()
    ours.env.close()


def test_stopwatches_leave_out_what_is_inside(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(profile.time, "perf_counter", lambda: float(next(now)))

    class Both:
        def outer(self):
            return self.inner() + self.inner()

        def inner(self):
            return 1

    both, watches = Both(), profile.Stopwatches()
    watches.wrap(both, "outer", "outside")
    watches.wrap(both, "inner", "inside")
    assert both.outer() == 2
    assert watches.seconds == {"inside": 2.0, "outside": 3.0}  # of five ticks from first to last


def test_the_profile_is_complete():
    small = {"policy_kwargs.net_arch": [8, 8], "batch_size": 8, "buffer_size": 1000, "learning_starts": 100}
    found = profile.profile(steps=1000, warm_up=500, **small)
    parts = {"physics", "choosing actions", "storing", "update, drawing its batches included", profile.OTHER}
    assert parts <= set(found["shares"])
    assert sum(found["shares"].values()) == pytest.approx(1.0, abs=0.01)
    assert "environment steps per second" in profile.section(found)


def test_memory_of_a_run_and_of_construction(monkeypatch):
    found = memory.of_run("QMP/MultistageReacher-v0", capacity=2000)
    assert found["added_mb"]["imports"] > 50.0
    assert sum(found["added_mb"].values()) == pytest.approx(found["total_mb"], abs=1.0)
    assert "`QMP/MultistageReacher-v0` | 5 |" in memory.run_table([found])
    monkeypatch.setattr(memory, "CONSTRUCTIONS", {"Maze": ("qmp_envs", "gym.make_vec('QMP/Maze-v0')")})
    made = memory.of_construction("Maze")
    assert made["processes"] == 1 and made["make_s"] > 0.0 and made["pss_mb"] > 10.0
    assert memory.construction_table([made]).splitlines()[-1].startswith("| Maze |")
    with pytest.raises(RuntimeError, match="no_such_package"):
        memory.fresh(memory.CONSTRUCTION, "no_such_package", "None")


@pytest.mark.skipif(find_spec("sbx") is None, reason="the extra peers (SBX, JAX) is not installed")
def test_sbx(monkeypatch):
    from benchmarks.speed import sbx

    monkeypatch.setattr(sbx, "STEPS_PER_CALL", (1,))
    assert all(value > 0.0 for value in seconds(sbx.update(1, 8) | sbx.predict(1)).values())


# ---- the page ------------------------------------------------------------------------------------------------


def test_the_page_shows_the_stored_results():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(results.load()), "run python -m benchmarks.speed.page"


def test_the_stored_results_are_complete_and_name_no_machine():
    text = results.RESULTS.read_text(encoding="utf-8")
    assert socket.gethostname() not in text and "/home" not in text and "/work" not in text
    document = json.loads(text)
    stored, cases = set(results.by_case(document)), {(case.group, case.name): case for case in all_cases()}
    missing = {key for key in cases if key[0] not in ON_REQUEST} - stored
    assert not missing, "python -m benchmarks.speed --out measures them"
    gone = {key for key in stored - set(cases) if not key[0].startswith("SBX")}
    assert not gone, "stored cases that are measured no more"
    assert all(record["stats"]["rounds"] >= 5 and "data" not in record["stats"] for record in document["benchmarks"])


def test_a_page_says_what_is_not_measured(tmp_path):
    store(tmp_path / "speed.json")
    document = results.load(tmp_path / "speed.json")
    document["benchmarks"][0]["params"]["kind"] = document["benchmarks"][1]["params"]["kind"] = "elsewhere"
    text = page.page(document)
    assert text.count("Not measured on this machine.") == len(page.SECTIONS)
    assert "$ python -m benchmarks.speed --out --only update" in text


# ---- the peers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True])
def test_the_environment_written_by_hand_is_the_same(ends):
    """Also where the subgoals are on the hand's way, so that an episode ends."""
    ours, plain = gym.make("QMP/MultistageReacher-v0", task=0), PlainReacher()
    start = {"qpos": np.array([0.2, -0.3, 0.4, 0.1, -0.2, 0.3]), "qvel": np.zeros(6)}
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (60, 6)).astype(np.float32)
    plain.reset(seed=0)
    plain.start(**start)
    if ends:
        way = [(plain.step(action), plain.hand.copy())[1] for action in actions[:20]]
        plain.goals = ours.unwrapped.task_set.subgoals[0] = np.array(way)[[4, 9, 19]]
        plain.start(**start)
    ours.reset(seed=0, options=start)
    for action in actions:
        one, other = ours.step(action), plain.step(action)
        np.testing.assert_allclose(other[0], one[0], atol=1e-6)
        assert other[1] == pytest.approx(one[1], abs=1e-9) and other[2] == one[2]
        assert other[4] == pytest.approx({name: one[4][name] for name in other[4]}, abs=1e-9)
        if one[2]:
            break
    assert one[2] == ends
    assert not np.array_equal(plain.reset(seed=3)[0], plain.reset()[0])


def test_the_looped_switches_agree():
    """Both ways to write the loop, and the stacked one, choose the same policies for the same weights."""
    tasks = 5
    models, ours = learners.separate_models(tasks, 8), learners.our_model(tasks, 8)
    for task, model in enumerate(models):
        copy_task(ours, task, model)
    observations = np.random.default_rng(3).normal(size=(tasks, learners.OBSERVATIONS)).astype(np.float32)
    ours._act(observations)
    chosen = ours.behavior.counts.argmax(axis=1)
    for switch in (learners.looped_switch, learners.looped_switch_by_predict):
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
