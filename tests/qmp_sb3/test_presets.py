"""Every method on every task set: trains, saves, loads, predicts; every hyper-parameter has a source."""

import numpy as np
import pytest
from gymnasium.spaces import Box

import qmp_envs
from qmp_sb3 import QMP, make_multitask_vec_env, presets
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
    "QMP/Point2D-v0": ("official", "paper"),
    "QMP/MT25-v0": ("paper",),
    "QMP/MT50-v0": ("paper",),
    "QMP/HalfCheetahGravity-v0": ("official", "paper"),
    "QMP/HalfCheetahBody-v0": ("official", "paper"),
}
#: the hand-set mixture exists for the task sets that name their subgoals; two methods are enough for the quick tests
#: of an id that is costly
SUITABLE = [
    pytest.param(method, case.values[0], id=f"{method}-{case.id}", marks=case.marks)
    for case in BATCH_SHARES
    for method in METHODS
    if method != "qmp-domain" or getattr(qmp_envs.make_task_set(case.values[0]), "subgoals", None) is not None
    if 1.0 in case.values or method in ("no-sharing", "qmp")
]


@pytest.mark.parametrize("method, id", SUITABLE)
def test_trains_saves_loads_predicts(method, id, tmp_path):
    model = presets.make(method, id, seed=0, **SMALL)
    tasks = model.n_tasks
    model.learn(30 * tasks)
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


@pytest.mark.parametrize("method", METHODS)
def test_methods_differ_from_the_core_in_their_parts_only(method):
    row, core = (
        presets.settings(method, "QMP/MultistageReacher-v0"),
        presets.settings("no-sharing", "QMP/MultistageReacher-v0"),
    )
    changed = {key for key in row.keys() | core.keys() if row.get(key) != core.get(key)}
    assert changed <= {"behavior"}
    assert presets.method(method).summary and presets.method(method).source


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


def test_from_preset_and_overrides():
    model = QMP.from_preset("QMP/MultistageReacher-v0", "fast", gamma=0.9, buffer_size=10)
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
