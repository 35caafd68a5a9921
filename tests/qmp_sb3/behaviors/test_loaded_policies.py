"""Policies of saved models as fixed candidates: ``also(argmax(q), [load("model.zip")])``."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.behaviors import Argmax, LoadedPolicies, Proposals, QScore, parse_behavior
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.experiments import Checkpoints
from qmp_sb3.policies.action_heads import SquashedGaussian
from tests.qmp_sb3.small_models import Drift, drifts, make

TASKS = 3


@pytest.fixture(params=["independent", "multihead"])
def expert(request, tmp_path) -> MultiTaskSAC:
    """A trained model, saved as ``expert.zip``."""
    model = make(networks=request.param, seed=7, learning_rate=0.01).learn(120)
    model.save(tmp_path / "expert")
    return model


def proposals(model: MultiTaskSAC, slots: int = 12) -> Proposals:
    rows = np.random.default_rng(0).uniform(-2, 2, (slots, 3)).astype(np.float32)
    layout = TaskLayout(np.arange(slots) % model.n_tasks, model.n_tasks)
    random = np.random.default_rng(0), th.Generator().manual_seed(0)
    given = Proposals(model.policy, model.policy.encode(rows), layout, lambda: model.temperature, *random)
    given.fixed = model.behavior.fixed_policies()
    return given


@th.no_grad()
def test_a_loaded_policy_acts_as_its_model(expert, tmp_path):
    model = make(behavior=f"also(argmax(q), [gaussian([0, 0]), load({str(tmp_path / 'expert.zip')!r})])")
    given = proposals(model)
    rows = given.features.numpy()
    assert given.candidates == 3 + 1 + 3 and model.behavior.counts.shape == (3, 7)
    chosen = np.arange(12) % 3
    own = expert.predict(rows, task=chosen, deterministic=True)[0]
    np.testing.assert_allclose(given.act(4 + chosen, deterministic=True), own, atol=1e-6)
    for task in range(3):
        means = expert.predict(rows, task=np.full(12, task), deterministic=True)[0]
        np.testing.assert_allclose(given.mean_actions()[:, 4 + task], means, atol=1e-6)


@th.no_grad()
def test_its_samples_have_its_distribution(expert, tmp_path):
    model = make(behavior=f"also(argmax(q), [load({str(tmp_path / 'expert')!r}, task=[2, 0])])")
    given = proposals(model)
    actions, log_prob = given.sampled_actions(50)
    mean, log_std = expert.actor.head.parameters(expert.actor.every(given.features))
    for candidate, task in ((3, 2), (4, 0)):
        expected = SquashedGaussian(2).log_prob(th.cat([mean[task], log_std[task]], dim=-1), actions[:, :, candidate])
        th.testing.assert_close(log_prob[:, :, candidate], expected, atol=2e-2, rtol=1e-2)
        [group] = model.behavior.fixed_policies()
        th.testing.assert_close(group.log_prob(given.features, actions[0, :, candidate])[:, candidate - 3], expected[0])
    drawn = th.stack([given.act(np.full(12, 3)) for _ in range(400)])
    noise = (drawn.clamp(-0.999999, 0.999999).atanh() - mean[2]) / log_std[2].exp()
    assert noise.mean().abs() < 0.05 and (noise.std() - 1).abs() < 0.05


@th.no_grad()
def test_the_switch_scores_it_as_any_other_candidate(expert, tmp_path):
    model = make(behavior=f"also(argmax(q), load({str(tmp_path / 'expert.zip')!r}, task='to 1'))").learn(120)
    given = proposals(model)
    actions = th.cat([given.mean_actions()[:, :3], given.mean_actions()[:, 3:]], dim=1)
    expected = given.action_values(actions, 1)[0].numpy()
    np.testing.assert_allclose(QScore()(given).numpy(), expected, atol=1e-6)
    behavior = model.behavior
    np.testing.assert_array_equal(behavior(given), expected.argmax(axis=1))
    assert expected.shape == (12, 4) and isinstance(behavior.inner, Argmax)


def test_it_is_frozen_and_saved_with_the_model_that_has_it(expert, tmp_path):
    expression = f"also(argmax(q), [load({str(tmp_path / 'expert.zip')!r})])"
    model = make(behavior=expression).learn(240)
    [group] = model.behavior.fixed_policies()
    for name, value in group.actor.state_dict().items():
        assert th.equal(value, expert.actor.state_dict()[name]), "nothing trains it"
    model.save(tmp_path / "model")
    (tmp_path / "expert.zip").unlink()
    loaded = type(model).load(tmp_path / "model", env=drifts(), device="cpu")
    assert repr(loaded.behavior) == expression
    [kept] = loaded.behavior.fixed_policies()
    features = th.randn(5, 3)
    with th.no_grad():
        assert th.equal(kept.mean_actions(features), group.mean_actions(features))
    loaded.learn(120, reset_num_timesteps=False, log_interval=1000)
    loaded._record_mixture()
    names = {key for key in loaded.logger.name_to_value if key.startswith("mixture/to 0/")}
    assert {f"mixture/to 0/fixed-{number}" for number in range(3)} <= names


def test_loading_draws_no_global_random_numbers(expert, tmp_path):
    before = th.random.get_rng_state()
    parse_behavior(f"also(argmax(q), [load({str(tmp_path / 'expert.zip')!r})])")
    assert th.equal(th.random.get_rng_state(), before)


def test_a_run_is_given_by_its_folder(tmp_path):
    """The last model that it has, as everything that reads runs takes it."""
    checkpoints, models = Checkpoints(tmp_path / "checkpoints"), []
    for number in range(3):
        model = make(seed=number).learn(120 + 12 * number)
        if number < 2:
            checkpoints.save(model)
        else:
            model.save(tmp_path / "final_model")
        models.append(model)
        assert th.equal(LoadedPolicies(tmp_path).actor.flat.flat, model.actor.flat.flat)
    (tmp_path / "final_model.zip").unlink()
    newest = max((tmp_path / "checkpoints").glob("0*")) / "model.zip"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert th.equal(LoadedPolicies(tmp_path).actor.flat.flat, models[0].actor.flat.flat), "the newest whole one"


def test_a_guide_chooses_among_experts_too(tmp_path):
    """CTPG's new tasks: the policies of a model for other tasks are further candidates."""
    make(env=drifts(tasks=2), seed=7).save(tmp_path / "expert")
    guide = "guide(steps=4, filter_from=20, block='none', learn_every=2)"
    model = make(behavior=f"also({guide}, [load({str(tmp_path / 'expert.zip')!r})])").learn(400)
    assert model.behavior.inner.networks.form.candidates == 5
    assert model.behavior.counts[:, 3:].sum() > 0
    model.save(tmp_path / "model")
    type(model).load(tmp_path / "model", env=drifts(), device="cpu").learn(120, reset_num_timesteps=False)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("'{}/none.zip'", "there is no model; tried"),
        ("'{}/empty'", "there is no model; tried .*final_model.zip"),
        ("'{}/expert.zip', task=3", r"task 3 is out of range; the tasks are 0 to 2: to -1, to 0, to 1"),
        ("'{}/expert.zip', task='to 2'", "unknown task 'to 2'; did you mean 'to"),
    ],
)
def test_what_cannot_be_loaded_is_said_at_once(tmp_path, arguments, message):
    make().save(tmp_path / "expert")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        parse_behavior(f"also(argmax(q), [load({arguments.format(tmp_path)})])")


@pytest.mark.parametrize(
    "kind, space",
    [("observation", spaces.Box(-2.0, 2.0, (4,), np.float32)), ("action", spaces.Box(-1.0, 1.0, (3,), np.float32))],
)
def test_other_spaces_are_refused(tmp_path, kind, space):
    make(env=drifts(**{f"{kind}_space": space})).save(tmp_path / "expert")
    with pytest.raises(ValueError, match=f"has the {kind} space Box.* the environment Box"):
        make(behavior=f"also(argmax(q), [load({str(tmp_path / 'expert.zip')!r})])")


def test_one_task_learns_with_experts_of_several(tmp_path):
    make().save(tmp_path / "expert")
    model = make("one task", env=Drift(), behavior=f"also(argmax(q), [load({str(tmp_path / 'expert.zip')!r})])")
    assert model.learn(40).behavior.counts.shape == (1, 4)
