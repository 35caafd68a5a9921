"""The regime of CTPG's released code: clipped gradients, capped temperatures, scaled rewards, shorter episodes."""

import math

import numpy as np
import pytest
import torch as th

from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.networks.flat_parameters import clip_gradient_
from tests.qmp_sb3.methods.test_presets import SMALL
from tests.qmp_sb3.small_models import drifts, equal, make, weights

REGIME = "ctpg-paper"
IDS = {
    "QMP/MT10-v0": (10, [400] * 5, 1_000_000),
    "QMP/MT50-v0": (50, [400] * 5, 10_000_000),
    "QMP/HalfCheetahGravity-v0": (5, [400] * 2, 500_000),
    "QMP/HalfCheetahBody-v0": (8, [400] * 2, 1_000_000),
}


# ---- gradient clipping ----


@pytest.mark.parametrize("length", [0.05, 0.1, 0.5, 40.0])
def test_a_gradient_is_shortened_as_pytorch_does(length):
    gradient = th.randn(1000, generator=th.Generator().manual_seed(0))
    gradient *= length / gradient.norm()
    parameter = th.nn.Parameter(th.zeros(1000))
    parameter.grad = gradient.clone()
    th.nn.utils.clip_grad_norm_([parameter], 0.1)
    clip_gradient_(gradient, 0.1)
    th.testing.assert_close(gradient, parameter.grad)


def steps_of(model: MultiTaskSAC, monkeypatch) -> dict[str, list[float]]:
    """Lengths of the gradients that each optimizer steps with, during some updates."""
    lengths: dict[str, list[float]] = {"actor": [], "critic": [], "ent_coef": []}
    for name, optimizer in (
        ("actor", model.actor.optimizer),
        ("critic", model.critic.optimizer),
        ("ent_coef", model.ent_coef_optimizer),
    ):
        [numbers] = optimizer.param_groups[0]["params"]
        inner = optimizer.step

        def step(name=name, numbers=numbers, inner=inner):
            lengths[name].append(numbers.grad.norm().item())
            inner()

        monkeypatch.setattr(optimizer, "step", step)
    model.learn(120)
    return lengths


@pytest.mark.parametrize("kwargs", [{}, dict(networks="multihead", gradients="pcgrad")], ids=str)
def test_every_optimizers_gradient_is_clipped(monkeypatch, kwargs):
    free = steps_of(make(backend="torch", **kwargs), monkeypatch)
    clipped = steps_of(make(max_grad_norm=0.1, **kwargs), monkeypatch)
    for name, lengths in free.items():
        assert max(lengths) > 0.15, name
        assert max(clipped[name]) <= 0.1 + 1e-6 and max(clipped[name]) > 0.09, name


def test_a_bound_that_is_never_reached_changes_nothing():
    one, other = (make(backend="torch", max_grad_norm=norm).learn(120) for norm in (None, 1e9))
    assert equal(weights(one), weights(other))


def test_optimizers_on_layers_are_clipped_too():
    kwargs = dict(optimizer_class=th.optim.Adadelta)
    free, same, clipped = (
        make(backend="torch", max_grad_norm=norm, policy_kwargs=kwargs).learn(120) for norm in (None, 1e9, 1e-3)
    )
    assert equal(weights(free), weights(same)) and not equal(weights(free), weights(clipped))


# ---- temperatures ----


@pytest.mark.parametrize("temperatures", ["task", "shared"])
def test_learned_temperatures_stay_below_their_bound(temperatures):
    settings = dict(ent_coef="auto_0.9", learning_rate=0.05, target_entropy=5.0, temperatures=temperatures)
    free = make(**settings).learn(240)
    capped = make(**settings, max_temperature=1.0).learn(240)
    assert (free.temperature > 1.0).all(), "a target that no policy reaches"
    th.testing.assert_close(capped.temperature, th.ones(3))


def test_a_bound_below_the_start_is_refused():
    with pytest.raises(ValueError, match="starts at 1, above max_temperature=0.5; use ent_coef='auto_0.5'"):
        make(max_temperature=0.5)
    make(ent_coef="auto_0.5", max_temperature=0.5)


@pytest.mark.parametrize("argument", ["max_grad_norm", "max_temperature", "reward_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_bounds_are_positive(argument, value):
    with pytest.raises(ValueError, match=f"{argument} is .*; it must be a number greater than 0"):
        make(**{argument: value})


# ---- rewards ----


def test_learning_from_scaled_rewards_is_learning_from_an_environment_that_scales_them():
    scaled, plain = make(backend="torch", reward_scale=0.25).learn(90), make(backend="torch").learn(90)
    rows = plain.replay_buffer.table.copy()
    np.testing.assert_array_equal(scaled.replay_buffer.rewards[:10], plain.replay_buffer.rewards[:10])
    one, other = make(backend="torch", reward_scale=0.25), make(backend="torch")
    for model, factor in ((one, 1.0), (other, 0.25)):
        model.learn(6)
        model.replay_buffer.table[:] = rows
        model.replay_buffer.rewards *= factor
        model.replay_buffer.sizes[:], model.replay_buffer.positions[:] = 20, 20
        model.steps(5, 8)
    assert equal(weights(one), weights(other))


def test_returns_are_logged_as_the_environment_gives_them():
    one, other = (make(backend="torch", reward_scale=scale, learning_starts=10**6).learn(60) for scale in (1.0, 0.1))
    assert one.statistics.means() == other.statistics.means()


# ---- who computes, and what is saved ----


@pytest.mark.parametrize(
    "setting", [dict(max_grad_norm=0.1), dict(max_temperature=1.0), dict(reward_scale=0.1)], ids=str
)
def test_the_compiled_update_declines_and_says_why(setting):
    [(name, value)] = setting.items()
    assert make().update_backend == "native" or make().backend_note
    assert f"{name}={value}" in (make(**setting).backend_note or "")


def test_the_guide_leaves_the_update_to_the_compiled_library():
    assert make(behavior="guide").backend_note == make().backend_note


def test_the_settings_are_saved(tmp_path):
    make(max_grad_norm=0.1, max_temperature=1.0, reward_scale=0.1).learn(60).save(tmp_path / "model")
    loaded = MultiTaskSAC.load(tmp_path / "model", env=drifts(), device="cpu")
    assert (loaded.max_grad_norm, loaded.max_temperature, loaded.reward_scale) == (0.1, 1.0, 0.1)
    loaded.learn(60)


# ---- the preset ----


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize(
    "method", ["no-sharing", "mtsac", "ctpg", "mtsac+ctpg", "parameters+ctpg", "pcgrad+ctpg", "mtsac+qmp"]
)
def test_the_values_of_ctpgs_code(id, method):
    tasks, hidden, buffer = IDS[id]
    values = presets.settings(method, id, REGIME)
    assert values["policy_kwargs"] == {"net_arch": hidden}
    assert (values["learning_rate"], values["tau"], values["gamma"]) == (1e-4, 0.01, 0.99)
    assert (values["max_grad_norm"], values["max_temperature"], values["reward_scale"]) == (0.1, 1.0, 0.1)
    assert (values["train_freq"], values["gradient_steps"], values["batch_size"]) == (1, 1, 128)
    assert (values["learning_starts"], values["warmup_actions"]) == (1500 * tasks, "policy")
    assert values["buffer_size"] * tasks == buffer and values["replay_buffer_kwargs"] == {
        "handle_timeout_termination": False
    }
    assert values.get("env_kwargs", {}) == ({"max_episode_steps": 200} if "MT" in id else {})
    assert values.get("replay", "own") in ("own", "equal"), "128 of each task"
    if "mtsac" in method or "parameters" in method:
        assert values["task_weights"] == "alpha"
    guide = f"guide(net_arch={[400] * (5 if 'MT' in id else 2)})"
    assert values.get("behavior", "self") == (guide if "ctpg" in method else "argmax(q)" if "qmp" in method else "self")


def test_it_is_kept_apart_from_the_presets_of_qmp():
    own = {"max_grad_norm", "max_temperature", "reward_scale", "env_kwargs", "replay_buffer_kwargs"}
    for id, names in presets.sets_with_values().items():
        assert (REGIME in names) == (id in IDS)
        for preset in names:
            assert preset == REGIME or not own & presets.settings("mtsac+ctpg", id, preset).keys()


def test_a_model_of_the_regime_learns(tmp_path):
    model = presets.make("mtsac+ctpg", "QMP/HalfCheetahGravity-v0", REGIME, **SMALL, seed=0)
    model.learn(300)
    assert not model.replay_buffer.handle_timeout_termination and model._n_updates > 0
    assert (model.temperature <= 1.0).all() and model.reward_scale == 0.1


def test_training_and_evaluation_have_the_presets_environment(monkeypatch):
    """On a set that is quick to build: the options go wherever the run's own go."""
    id = "QMP/HalfCheetahGravity-v0"
    spec = RunSpec(id, "mtsac+ctpg", 100, preset=REGIME)
    assert spec.task_set_options == {}
    assert RunSpec("QMP/MT10-v0", "mtsac", 100, preset=REGIME).task_set_options == {"max_episode_steps": 200}
    shorter = RunSpec("QMP/MT10-v0", "mtsac", 1, preset=REGIME, overrides={"env_kwargs.max_episode_steps": 50})
    assert shorter.task_set_options == {"max_episode_steps": 50}
    inner = presets.own_values
    values = {"env_kwargs.max_episode_steps": [20, "a test"]}

    def shortened(name, env_id, preset, inherit=True):
        return inner(name, env_id, preset, inherit) | (values if preset == REGIME else {})

    monkeypatch.setattr(presets, "own_values", shortened)
    assert spec.task_set_options == {"max_episode_steps": 20}
    model = presets.make("mtsac", id, REGIME, **SMALL).learn(5 * 41)
    assert model.statistics.means()[f"{model.task_names[0]}/ep_len_mean"] == 20
    with pytest.raises(ValueError, match="is for max_episode_steps=20, but the environment was made with 1000"):
        presets.make("mtsac", make_multitask_vec_env(id), REGIME, **SMALL)
    presets.make("mtsac", make_multitask_vec_env(id, max_episode_steps=20), REGIME, **SMALL)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            {"replay_buffer_kwargs.handle_timeout": False},
            "did you mean 'replay_buffer_kwargs.handle_timeout_termination'",
        ),
        ({"max_grad_nrm": 1}, "did you mean 'max_grad_norm'"),
    ],
)
def test_options_of_the_replay_buffer_are_options_of_the_command_line(overrides, message):
    with pytest.raises(ValueError, match=message):
        presets.make("mtsac", "QMP/Point2D-v0", **overrides)
    model = presets.make("qmp", "QMP/Point2D-v0", **{"replay_buffer_kwargs.handle_timeout_termination": False})
    assert not model.replay_buffer.handle_timeout_termination
