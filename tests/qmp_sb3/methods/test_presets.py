"""Every method on every task set: trains, saves, loads, predicts; every hyper-parameter has a source."""

import inspect

import numpy as np
import pytest
import torch as th
from gymnasium.spaces import Box

import qmp_envs
import qmp_sb3
from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.behaviors import Proposals, QScore, parse_behavior
from qmp_sb3.common.expressions import component
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.replay.sharing import SHARING
from tests.sampling import BATCH_SHARES

SMALL = {
    "policy_kwargs.net_arch": [16],
    "batch_size": 8,
    "learning_starts": 20,
    "train_freq": 10,
    "gradient_steps": 2,
    "buffer_size": 1000,
    "device": "cpu",
}
METHODS = tuple(presets.methods())
#: presets that an id lacks, because nobody published the settings
UNPUBLISHED = {
    **{f"QMP/{name}-v0": ("ctpg-paper",) for name in ("MultistageReacher", "Maze", "Walker2D", "Kitchen")},
    "QMP/MetaWorldCDS-v0": ("ctpg-paper",),
    "QMP/Point2D-v0": ("official", "paper", "ctpg-paper"),
    "QMP/MT25-v0": ("paper", "ctpg-paper"),
    "QMP/MT50-v0": ("paper",),
    "QMP/HalfCheetahGravity-v0": ("official", "paper"),
    "QMP/HalfCheetahBody-v0": ("official", "paper"),
}
REACHER = "QMP/MultistageReacher-v0"


def small(method: str, env=REACHER, **overrides) -> MultiTaskSAC:
    """A model that is soon past its first updates, and past what its hooks wait for."""
    distills = "distill" in str(presets.method(method).parts.get("hooks"))
    hooks = {"hooks": ["distill(60, 3)"]} if distills else {}
    return presets.make(method, env, seed=0, **SMALL | hooks | overrides)


def unsuited(method: str, id: str) -> str | None:
    """Why a method cannot run on a task set: its behavior or its sharing needs to know more about the tasks."""
    if id not in presets.known_ids():
        return None
    task_set, settings = qmp_envs.make_task_set(id), presets.settings(method, id)
    try:
        parse_behavior(settings.get("behavior", "self")).bind(task_set.num_tasks, task_set)
        component("sharing", settings.get("sharing", "none"), SHARING).bind(task_set, 1)
    except ValueError as reason:
        return str(reason)
    return None


#: two methods are enough for the quick tests of an id that is costly
SUITABLE = [
    pytest.param(method, case.values[0], id=f"{method}-{case.id}", marks=case.marks)
    for case in BATCH_SHARES
    for method in METHODS
    if unsuited(method, case.values[0]) is None
    if 1.0 in case.values or method in ("no-sharing", "qmp")
]
UNSUITED = [(method, id) for method in METHODS for id in presets.known_ids() if unsuited(method, id) is not None]


@pytest.mark.parametrize("method, id", SUITABLE)
def test_trains_saves_loads_predicts(method, id, tmp_path):
    model = small(method, id)
    tasks = model.n_tasks
    model.learn(max(30 * tasks, 200))
    assert model._n_updates > 0
    assert all(np.isfinite(parameter.detach().numpy()).all() for parameter in model.policy.parameters())
    observations = model.env.reset()
    expected, _ = model.predict(observations, task=np.arange(tasks), deterministic=True)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=make_multitask_vec_env(id))
    actual, _ = loaded.predict(observations, task=np.arange(tasks), deterministic=True)
    np.testing.assert_array_equal(actual, expected)
    assert isinstance(model.action_space, Box) and model.env.action_space.contains(actual[0])
    loaded.learn(10 * tasks, reset_num_timesteps=False)


@pytest.mark.parametrize("method, id", UNSUITED)
def test_a_method_that_does_not_suit_a_task_set_says_why(method, id):
    with pytest.raises(ValueError) as refusal:
        small(method, id)
    assert str(refusal.value) == unsuited(method, id)


@pytest.mark.parametrize("method", METHODS)
def test_several_environments_of_a_task(method):
    model = small(method, make_multitask_vec_env(REACHER, envs_per_task=2)).learn(200)
    assert model.n_envs == 10 and model.replay_buffer.sizes.tolist() == [40] * 5
    assert model._n_updates > 0 and model.behavior.counts.sum() == (
        200 - 20 if model.warmup_actions != "policy" else 200
    )


#: constructor arguments that make a method what it is
PARTS = inspect.signature(MultiTaskSAC).parameters.keys() & {
    *("networks", "behavior", "replay", "draw", "sharing", "hooks"),
    *("task_weights", "gradients", "regularizer", "temperatures"),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_differs_from_the_core_in_its_parts_and_the_size_of_its_networks_only(method):
    """With the preset `fast`: as many steps, updates and rows per update, whatever the method."""
    row, core = presets.settings(method, REACHER), presets.settings("no-sharing", REACHER)
    changed = {key for key in row.keys() | core.keys() if row.get(key) != core.get(key)}
    parts = presets.method(method).parts
    assert changed & PARTS == set(parts)
    assert changed - PARTS <= {"policy_kwargs", "learning_rate"}
    assert not changed - PARTS or "networks" in parts, "networks that are shared may be larger"
    different = {key for key in row["policy_kwargs"] if row["policy_kwargs"][key] != core["policy_kwargs"].get(key)}
    assert different <= {"net_arch"}
    defaults = inspect.signature(MultiTaskSAC).parameters
    assert all(value != defaults[argument].default for argument, value in parts.items()), "a part says something"


@pytest.mark.parametrize("method", METHODS)
def test_a_model_has_the_parts_of_its_row(method):
    model, parts = small(method), presets.method(method).parts
    for argument in PARTS - {"hooks", "behavior"}:
        given = parts.get(argument, inspect.signature(MultiTaskSAC).parameters[argument].default)
        actual = getattr(model, argument)
        text = argument in ("replay", "draw", "sharing", "regularizer")
        assert (repr(actual) if text else actual) in (given, str(given))
    assert repr(model.behavior) == parts.get("behavior", "self").replace("softmax(1.0", "softmax(1")
    assert len(model.hooks) == len(parts.get("hooks", ()))
    assert isinstance(model, QMP) == ("behavior" in parts)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_says_what_it_is_and_where_it_comes_from(method):
    row = presets.method(method)
    assert row.name == method and row.summary and row.source


# ---- invariants, for every method that they apply to ----

WITH_POLICIES = [name for name in METHODS if "behavior" not in presets.method(name).parts and name != "fully-shared"]


@pytest.mark.parametrize("method", METHODS)
def test_the_deterministic_action_is_that_of_the_training_distribution(method):
    """Invariant 14: one tanh, for collecting, learning and predicting."""
    model = small(method)
    rows = np.random.default_rng(0).normal(size=(5, *model.observation_space.shape)).astype(np.float32)
    features = th.from_numpy(rows)[:, None]  # one row for each task
    with th.no_grad():
        expected, _ = model.actor.action_log_prob(features, th.zeros(5, 1, 6))
        collected = proposals(model, rows).act(np.arange(5), deterministic=True)
    predicted, _ = model.predict(rows, task=np.arange(5), deterministic=True)
    np.testing.assert_allclose(predicted, expected[:, 0], atol=1e-6)
    np.testing.assert_allclose(collected, expected[:, 0], atol=1e-6)


def proposals(model: MultiTaskSAC, rows: np.ndarray) -> Proposals:
    layout = TaskLayout(np.arange(len(rows)) % model.n_tasks, model.n_tasks)
    random = np.random.default_rng(0), th.Generator().manual_seed(0)
    return Proposals(model.policy, model.policy.encode(rows), layout, lambda: model.temperature, *random)


@pytest.mark.parametrize("method", WITH_POLICIES)
def test_with_qmp_the_own_critic_picks_the_best_of_the_tasks_mean_actions(method):
    """Invariants 2 and 3, by the public predictions of each task, one slot and candidate at a time."""
    model = small("qmp" if method == "no-sharing" else f"{method}+qmp").learn(200)
    rows = np.random.default_rng(0).normal(size=(10, *model.observation_space.shape)).astype(np.float32)
    given, scores = proposals(model, rows), np.zeros((10, 5))
    chosen = model.behavior(given)
    for slot, candidate in np.ndindex(10, 5):
        action, _ = model.predict(rows[slot], task=candidate, deterministic=True)
        pair = th.from_numpy(np.concatenate([rows[slot], action]))[None, None]
        with th.no_grad():
            scores[slot, candidate] = model.critic(pair, th.tensor([slot % 5]), 1).item()
    with th.no_grad():
        np.testing.assert_allclose(QScore()(given), scores, atol=1e-5)
    slots = np.arange(10)
    assert (scores[slots, chosen] >= scores.max(axis=1) - 1e-5).all()
    assert (scores[slots, chosen] >= scores[slots, slots % 5] - 1e-5).all()
    if model.actor.family not in ("onehot", "soft_modules"):  # whose policies differ by their input
        with th.no_grad():  # identical policies: no reason to prefer one of them, but for the rounding of a product
            for parameter in model.actor.parameters():
                parameter.copy_(parameter[:1].expand_as(parameter))
            assert np.ptp(QScore()(proposals(model, rows)).numpy(), axis=1).max() < 1e-5 * np.abs(scores).max()


@pytest.mark.parametrize("id", presets.known_ids())
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_value_has_a_source(id, preset):
    for method in METHODS:
        try:
            values = presets.sources(method, id, preset)
        except ValueError as error:
            assert preset in UNPUBLISHED[id] and "has no preset" in str(error)
            return
        for argument, (_, source) in values.items():
            assert isinstance(source, str) and len(source) >= 4, argument
        presets.check_overrides(values)


def test_every_registered_task_set_has_hyper_parameters():
    assert presets.known_ids() == qmp_envs.ids()


def test_the_paper_and_the_code_disagree_where_they_are_known_to():
    paper, official = (presets.settings("qmp", "QMP/MultistageReacher-v0", name) for name in ("paper", "official"))
    assert (paper["train_freq"], paper["gradient_steps"]) == (1000, 100)
    assert (official["train_freq"], official["gradient_steps"]) == (200, 200)
    assert presets.settings("qmp-hold", "QMP/Maze-v0")["behavior"] == "hold(25, argmax(q))"
    assert presets.settings("qmp-hold", "QMP/MultistageReacher-v0")["behavior"] == "hold(10, argmax(q))"


def test_the_papers_preset_has_tanh_units():
    model = presets.make("qmp", "QMP/MultistageReacher-v0", "paper", buffer_size=10)
    assert type(model.actor.network.activation).__name__ == "Tanh"


def test_make_and_overrides():
    model = qmp_sb3.make("qmp", "QMP/MultistageReacher-v0", "fast", gamma=0.9, buffer_size=10)
    assert (model.gamma, model.batch_size, repr(model.behavior)) == (0.9, 64, "argmax(q)")
    model = presets.make("no-sharing", "QMP/Maze-v0", buffer_size=10, **{"env_kwargs.num_tasks": 3})
    assert model.n_tasks == 3
    model = presets.make("qmp", make_multitask_vec_env("QMP/MultistageReacher-v0", envs_per_task=2), buffer_size=10)
    assert model.n_envs == 10


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: presets.make("qpm", "QMP/Maze-v0"), "did you mean 'qmp'"),
        (lambda: presets.make("qmp", "QMP/Maze-v1"), "did you mean 'QMP/Maze-v0'"),
        (lambda: presets.make("qmp", "QMP/Maze-v0", "quick"), "unknown"),
        (lambda: presets.make("qmp", "QMP/Maze-v0", "offical"), "did you mean 'official'"),
        (lambda: presets.make("qmp", "QMP/Maze-v0", batchsize=3), "did you mean 'batch_size'"),
        (lambda: presets.make("qmp", "QMP/Maze-v0", **{"policy_kwargs.netarch": [3]}), "policy_kwargs.net_arch"),
        (lambda: presets.make("qmp-domain", "QMP/Maze-v0", buffer_size=10), "needs the subgoals"),
        (lambda: presets.make("qmp", "QMP/Point2D-v0", "paper"), "has no preset 'paper'"),
    ],
)
def test_errors_name_the_closest(call, message):
    with pytest.raises(ValueError, match=message):
        call()
