"""What happens between the updates: Divide and Conquer's distillation."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.common.expressions import component
from qmp_sb3.hooks import HOOKS, Distill, Hook
from tests.qmp_sb3.small_models import drifts, equal, make, weights

TASKS = 3


def likelihood(model: MultiTaskSAC, rows: int = 64) -> float:
    """Mean log-probability of the stored actions under each task's policy."""
    buffer = deepcopy(model.replay_buffer)
    batch = buffer.sample(rows)
    with th.no_grad():
        return model.actor.head.log_prob(model.actor.outputs(batch.observations), batch.actions).mean().item()


def test_a_distillation_leaves_all_policies_equal_to_the_centroid_and_all_else_alone():
    model = make(hooks=["distill(1e9, 20)"]).learn(240)
    hook = model.hooks[0]
    before, critics = weights(model), model.critic.flat.flat.clone()
    moments = deepcopy(model.actor.optimizer.state_dict()["state"])
    assert any(not th.equal(p[0], p[1]) for p in model.actor.parameters())
    hook.distill(model)
    for own, center in zip(model.actor.network.parameters(), hook._center.parameters(), strict=True):
        assert center.shape[0] == 1 and own.shape[0] == TASKS
        assert th.equal(own, center.expand_as(own))
    assert not equal(weights(model), before)
    assert th.equal(model.critic.flat.flat, critics)
    for key, state in model.actor.optimizer.state_dict()["state"].items():
        assert all(th.equal(value, moments[key][name]) for name, value in state.items())
    with th.no_grad():  # the flat tensor that the optimizer steps on holds the copies
        features = th.randn(5, 3)
        mean, _ = model.actor.head.parameters(model.actor.every(features))
        th.testing.assert_close(mean[0], mean[2])
        center, _ = model.actor.head.parameters(hook._center(features[None])[0, 0])
        th.testing.assert_close(mean[1], center)
    model.learn(120, reset_num_timesteps=False)
    assert any(not th.equal(p[0], p[1]) for p in model.actor.parameters()), "the policies part again"


def test_the_centroid_becomes_what_the_tasks_have_done():
    model = make(hooks=["distill(1e9, 300)"], learning_rate=3e-3).learn(240)
    start = likelihood(model)
    model.hooks[0].distill(model)
    assert likelihood(model) > start + 0.1


def test_the_centroid_starts_as_the_first_tasks_policy_and_is_kept():
    model = make(hooks=["distill(1e9, 1)"])
    hook, first = model.hooks[0], [p.detach()[:1].clone() for p in model.actor.network.parameters()]
    model.learn(120)
    for center, start in zip(hook._center.parameters(), first, strict=True):
        assert th.equal(center, start)
    hook.distill(model)
    kept = [p.detach().clone() for p in hook._center.parameters()]
    model.learn(120, reset_num_timesteps=False)
    assert all(th.equal(one, other) for one, other in zip(hook._center.parameters(), kept, strict=True))


def literal_distillation(model: MultiTaskSAC, updates: int) -> th.nn.Module:
    """Task 0's policy fitted by plain autograd to the same draws, the mean over tasks of the mean over their rows."""
    center = deepcopy(model.hooks[0]._center)
    optimizer, buffer = th.optim.Adam(center.parameters(), lr=3e-4), deepcopy(model.replay_buffer)
    for _ in range(updates):
        batch = buffer.sample(max(1, model.batch_size // model.n_tasks))
        means = []
        for task, count in enumerate(batch.task_counts().tolist()):
            if count:
                rows, actions = batch.observations[task, :count], batch.actions[task, :count]
                means.append(model.actor.head.log_prob(center(rows[None])[0, 0], actions).mean())
        optimizer.zero_grad()
        (-sum(means) / len(means)).backward()
        optimizer.step()
    return center


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("replay", ["own", "pool"])
def test_a_distillation_is_the_fit_that_it_says(replay, times):
    """A second one goes on where the first one stopped, with the centroid and with its optimizer's moments."""
    model = make(hooks=["distill(1e9, 5)"], replay=replay, batch_size=24).learn(240)
    expected = literal_distillation(model, 5 * times)
    for _ in range(times):
        model.hooks[0].distill(model)
    for one, other in zip(model.hooks[0]._center.parameters(), expected.parameters(), strict=True):
        th.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.fixture
def moments(monkeypatch) -> list[int]:
    """Environment steps at which a distillation begins."""
    seen: list[int] = []
    monkeypatch.setattr(Distill, "distill", lambda hook, model: seen.append(model.num_timesteps))
    return seen


def test_it_happens_at_the_first_update_after_every_so_many_steps(moments):
    make(hooks=["distill(100)"]).learn(480)  # updates every 12 environment steps
    assert moments == [108, 204, 300, 408]


def test_it_happens_once_where_an_update_spans_several_periods(moments):
    make(hooks=["distill(10)"]).learn(120)
    assert moments == [36, 48, 60, 72, 84, 96, 108, 120]


def test_steps_that_are_counted_anew_begin_new_periods(moments):
    model = make(hooks=["distill(100)"]).learn(240)
    model.learn(120, reset_num_timesteps=False)
    model.learn(240)
    assert moments == [108, 204, 300, 108, 204]


def assert_goes_on_alike(tmp_path, env=drifts, **kwargs) -> None:
    """Saved in the middle, a run goes on to the last bit; both go on with fresh episodes."""
    model = make(env=env(), **kwargs).learn(180)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = type(model).load(tmp_path / "model", env=env(), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")
    for one in (model, loaded):
        one.set_env(env())  # a saved model does not hold the environment
        one.get_env().seed(3)
        one.learn(180, reset_num_timesteps=False)
    assert equal(weights(model), weights(loaded))
    th.testing.assert_close(model.temperature, loaded.temperature, atol=0, rtol=0)
    np.testing.assert_array_equal(model.replay_buffer.table, loaded.replay_buffer.table)


@pytest.mark.parametrize(
    "parts",
    [
        dict(hooks=["distill(100, 5)"], regularizer="dnc(0.01)"),
        dict(networks="multihead", replay="pool", task_weights="taskmean", gradients="pcgrad"),
        dict(networks="onehot", replay="pool(30)", task_weights="mean"),
        dict(networks="shared", cls=MultiTaskSAC, temperatures="shared"),
        dict(networks={"actor": "independent", "critic": "decaf"}, sharing="uds(0.5, -2)"),
    ],
    ids=lambda parts: " ".join(map(str, parts.values())),
)
def test_a_saved_model_goes_on_to_the_last_bit(parts, tmp_path):
    assert_goes_on_alike(tmp_path, **parts)


def test_a_hook_is_saved_with_what_it_remembers(tmp_path):
    model = make(hooks=["distill(100, 5)"]).learn(240)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=drifts(), device="cpu")
    one, other = model.hooks[0], loaded.hooks[0]
    assert repr(other) == "distill(100, 5)" and one.done == other.done == 2
    for mine, theirs in zip(one._center.parameters(), other._center.parameters(), strict=True):
        assert th.equal(mine, theirs)
    (mine,), (theirs,) = (list(hook._optimizer.state_dict()["param_groups"]) for hook in (one, other))
    assert mine["lr"] == theirs["lr"]
    for key, state in one._optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert th.equal(value, other._optimizer.state_dict()["state"][key][name])
    assert all(
        p is q for p, q in zip(other._center.parameters(), other._optimizer.param_groups[0]["params"], strict=True)
    )


def test_models_do_not_share_a_hook():
    hook = Distill(100, 5)
    one, other = (make(hooks=[hook], seed=seed) for seed in (0, 1))
    assert one.hooks[0] is not other.hooks[0] and hook._center is None


def test_observations_are_normalized_for_the_centroid_as_for_the_policies():
    env = VecNormalize(drifts(), norm_reward=False)
    model = make(env=env, hooks=["distill(100, 5)"]).learn(240)
    assert model.hooks[0].done == 2


@pytest.mark.parametrize("networks", ["shared", "onehot", "multihead", {"actor": "multihead", "critic": "independent"}])
def test_actors_that_share_parameters_are_refused(networks):
    with pytest.raises(ValueError, match="no separate ones, use 'independent'"):
        make(networks=networks, cls=MultiTaskSAC, hooks=["distill(100)"])


def test_critics_may_be_of_any_kind():
    make(networks={"actor": "independent", "critic": "multihead"}, hooks=["distill(100, 2)"]).learn(120)


@pytest.mark.parametrize("expression", ["distill(100, 500)", "distill(20000, 3)"])
def test_a_hook_is_its_expression(expression):
    assert repr(component("hooks", expression, HOOKS)) == expression


def test_one_hook_needs_no_list():
    assert repr(make(hooks="distill(100, 5)").hooks) == repr(make(hooks=["distill(100, 5)"]).hooks)
    assert len(make(hooks=Counter()).hooks) == 1


@pytest.mark.parametrize("expression, message", [("distill(0)", "at least 1"), ("distill(10, 0)", "at least 1")])
def test_wrong_numbers_are_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        component("hooks", expression, HOOKS)


class Counter(Hook):
    """A hook of a user's own."""

    calls = 0

    def after_updates(self, model):
        self.calls += 1


def test_a_users_hook_is_called_after_every_round_of_updates():
    model = make(hooks=[Counter(), "distill(100, 2)"], gradient_steps=3).learn(240)
    assert model.hooks[0].calls == model._n_updates // 3 > 10
