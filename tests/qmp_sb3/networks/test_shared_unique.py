"""Shared-unique features: the triplet loss trains the unique ones and nothing else, SAC's losses all else."""

import numpy as np
import pytest
import torch as th

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.networks.shared_unique import UniqueFeatures
from qmp_sb3.objectives.triplet import triplet_loss, triplet_rows
from tests.qmp_sb3.objectives.test_objectives import ACT, BATCH, OBS, TASKS, make_batch, make_noise
from tests.qmp_sb3.small_models import make, weights


def shared_unique(**parts) -> MultiTaskSAC:
    return make(networks="shared_unique", **{"hooks": ["triplet"], "task_weights": "mean"} | parts)


def unique(model: MultiTaskSAC) -> UniqueFeatures:
    return model.actor.network.common["unique"]


# ---- the loss ----


def test_the_loss_by_hand():
    anchors = th.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    positives = th.tensor([[[3.0, 4.0], [1.0, 2.0]]])  # at the distances 5 and 2
    negatives = th.tensor([[[0.0, 2.0], [1.0, 9.0]]])  # 2 and 9
    assert triplet_loss(anchors, positives, negatives, 1.0).item() == pytest.approx((1 + 5 - 2 + 0) / 2)
    weights = th.tensor([[0.25, 0.75]])
    assert triplet_loss(anchors, positives, negatives, 1.0, weights).item() == pytest.approx(1.0)
    assert triplet_loss(anchors, positives, negatives, 0.0).item() == pytest.approx(1.5)


def test_the_gradient_is_finite_where_two_states_are_equal():
    features = th.ones(1, 2, 3, requires_grad=True)
    triplet_loss(features, features, features.detach() + 1, 5.0).backward()
    assert th.isfinite(features.grad).all()


@pytest.mark.parametrize("counts", [(12, 12, 12), (12, 5, 1), (2, 0, 12)])
def test_positives_are_of_the_same_task_and_negatives_of_others(counts):
    rng, sizes = np.random.default_rng(0), np.array(counts)
    drawn = [
        triplet_rows(th.tensor(counts), BATCH, th.from_numpy(rng.random((3, TASKS, BATCH), dtype=np.float32)))
        for _ in range(200)
    ]
    positives, others, negatives = (th.stack(one).numpy() for one in zip(*drawn, strict=True))
    for task, size in enumerate(counts):
        rows = np.arange(size)
        assert size == 0 or (positives[:, task, :size] < size).all() and (positives[:, task] >= 0).all()
        assert size < 2 or (positives[:, task, :size] != rows).all()
        if size > 2:
            assert set(positives[:, task, 0]) == set(range(1, size)), "any other row may be one"
        assert set(others[:, task].flatten()) == {0, 1, 2} - {task}
    assert (negatives < np.maximum(sizes[others], 1)).all()
    assert set(negatives[others == 0]) == set(range(counts[0]))


# ---- who trains what (invariant 11) ----


def changed(model: MultiTaskSAC, before: dict[str, th.Tensor]) -> set[str]:
    return {name for name, value in model.policy.state_dict().items() if not th.equal(value, before[name])}


def test_the_triplet_loss_changes_the_unique_features_only():
    model = shared_unique()
    before = weights(model)
    model.hooks[0].after_update(model, make_batch(), th.zeros(3, TASKS))
    moved = changed(model, before)
    assert moved == {name for name in before if "common.unique." in name and not name.startswith("critic_target")}
    assert moved


@pytest.mark.parametrize("parts", [{}, dict(gradients="pcgrad"), dict(regularizer="dnc(0.1)")], ids=str)
def test_the_losses_of_actor_and_critics_never_do(parts):
    model = shared_unique(hooks=[], **parts)
    before = weights(model)
    for seed in range(3):
        model.update(make_batch(seed), make_noise(seed))
    still = {name for name in before if name not in changed(model, before)}
    assert still == {name for name in before if "common.unique." in name or name.startswith("critic_target")}


def test_without_the_triplet_loss_all_else_learns_the_same_from_the_same_features():
    """The features of one update are those before its triplet step, and its draws disturb no other stream."""
    with_it, without = shared_unique(), shared_unique(hooks=[])
    for model in (with_it, without):
        model.update(make_batch(), make_noise())
    for name, value in with_it.policy.state_dict().items():
        if "common.unique." not in name:
            assert th.equal(value, without.policy.state_dict()[name]), name


def test_the_gradient_is_that_of_the_loss_of_the_batch():
    model, batch = shared_unique(learning_rate=0.01), make_batch(counts=(12, 7, 4))
    literal, rng = MultiTaskCopy(model), np.random.default_rng()
    rng.bit_generator.state = model.streams.objective.bit_generator.state
    positive, other, negative = triplet_rows(
        batch.counts, BATCH, th.from_numpy(rng.random((3, TASKS, BATCH), dtype="float32"))
    )
    terms = []
    for task, count in enumerate((12, 7, 4)):
        for row in range(count):
            own, far = batch.observations[task], batch.observations[other[task, row]]
            u = [literal.features(one) for one in (own[row], own[positive[task, row]], far[negative[task, row]])]
            terms.append((1.0 + (u[0] - u[1]).norm() - (u[0] - u[2]).norm()).clamp(min=0))
    expected = th.autograd.grad(th.stack(terms).mean(), literal.parameters)
    before = weights(model)
    model.hooks[0].after_update(model, batch, th.zeros(3, TASKS))
    for parameter, gradient in zip(unique(model).parameters(), expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=1e-4)
    steps = [(one - before[name]).abs().max() for name, one in unique_parameters(model).items()]
    np.testing.assert_allclose(steps[:-1], 0.01, rtol=1e-3)  # Adam's first step; the last bias has no gradient


def unique_parameters(model: MultiTaskSAC) -> dict[str, th.Tensor]:
    return {
        name: one for name, one in model.policy.state_dict().items() if name.startswith("actor.network.common.unique")
    }


class MultiTaskCopy:
    """The unique perceptron as plain tensors."""

    def __init__(self, model: MultiTaskSAC) -> None:
        self.parameters = [one.detach().clone().requires_grad_() for one in unique(model).parameters()]

    def features(self, state: th.Tensor) -> th.Tensor:
        weights, biases = self.parameters[: len(self.parameters) // 2], self.parameters[len(self.parameters) // 2 :]
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            state = state @ weight[0] + bias[0, 0]
            state = state.relu() if number < len(weights) - 1 else state
        return state


def test_tasks_that_look_different_come_apart():
    model, generator = shared_unique(learning_rate=3e-3), th.Generator().manual_seed(0)
    batch = make_batch()
    for step in range(150):
        states = th.randn(TASKS, BATCH, OBS, generator=generator)
        batch.observations.copy_(states + 2.0 * th.eye(TASKS)[:, None])
        model.hooks[0].after_update(model, batch, th.zeros(3, TASKS))
        if step == 0:
            first = spread(model, batch)
    assert spread(model, batch) > 1.5 * first


def spread(model: MultiTaskSAC, batch) -> float:
    """Distance between tasks over distance within them."""
    with th.no_grad():
        features = unique(model)(batch.observations)
    centers = features.mean(dim=1)
    return (th.pdist(centers).mean() / (features - centers[:, None]).norm(dim=-1).mean()).item()


def test_unique_features_read_the_state_and_not_the_action():
    model, rows = shared_unique(), th.randn(TASKS, 4, OBS + ACT)
    critic, other = model.critic.network, rows.clone()
    other[..., OBS:] += 1.0
    assert th.equal(critic._unique(rows), critic._unique(other))
    assert not th.equal(critic(rows), critic(other))


def test_one_task_has_nothing_to_tell_apart():
    model = make("one task", networks="shared_unique", hooks=["triplet"])
    before = [one.clone() for one in unique(model).parameters()]
    model.learn(60)
    assert all(th.equal(one, other) for one, other in zip(unique(model).parameters(), before, strict=True))


def test_the_hook_needs_unique_features():
    with pytest.raises(ValueError, match="networks='paco' has none, use 'shared_unique'"):
        make(networks="paco", hooks=["triplet"])


def test_the_gradient_of_the_triplet_loss_is_clipped_too():
    kwargs = {"net_arch": [8], "optimizer_class": th.optim.SGD}
    steps = []
    for norm in (None, 1e-2):
        model = make(networks="shared_unique", hooks=["triplet"], max_grad_norm=norm, policy_kwargs=kwargs)
        [unique] = model.policy.common.of_type(UniqueFeatures)
        before = unique.flat.flat.detach().clone()
        model.update(make_batch(), make_noise())
        steps.append((unique.flat.flat.detach() - before).norm().item() / model.lr_schedule(1.0))
    assert steps[0] > 0.05 and steps[1] == pytest.approx(1e-2, rel=0.05)
