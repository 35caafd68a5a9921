"""PaCo: compositions of parameter sets, the table that actor and critics share, and the cure for exploding losses."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th
from torch import nn

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.common.expressions import component
from qmp_sb3.hooks import HOOKS
from qmp_sb3.hooks.maskout import reset_vectors
from qmp_sb3.networks import IndependentMLP
from tests.qmp_sb3.objectives.test_objectives import TASKS, make_batch, make_noise
from tests.qmp_sb3.small_models import equal, make, weights


def twins(**parts) -> tuple[MultiTaskSAC, MultiTaskSAC]:
    """Separate networks, and PaCo with a parameter set for each task: the same networks."""
    plain, paco = make(**parts), make(networks=f"paco(sets={TASKS})", backend="torch", **parts)
    with th.no_grad():
        for name in ("actor", "critic", "critic_target"):
            one, other = getattr(plain, name).network, getattr(paco, name).network
            other.common["tasks"].vectors.copy_(th.eye(TASKS))
            for stack in ("weights", "biases"):
                for own, copy in zip(getattr(one, stack), getattr(other.layers, stack), strict=True):
                    copy.copy_(own)
    return plain, paco


@pytest.mark.parametrize(
    "parts", [{}, dict(gradients="pcgrad"), dict(task_weights="alpha", regularizer="dnc(0.1)")], ids=str
)
def test_with_a_set_for_each_task_it_is_separate_networks(parts):
    """Invariant 9, forward and through whole updates, with the table held."""
    plain, paco = twins(policy_kwargs={"activation_fn": nn.Tanh}, **parts)
    rows = th.randn(TASKS, 7, 3, generator=th.Generator().manual_seed(1))
    th.testing.assert_close(paco.actor.network(rows), plain.actor.network(rows))
    th.testing.assert_close(paco.actor.network.every(rows[0]), plain.actor.network.every(rows[0]))
    for seed in range(3):
        for model in (plain, paco):
            losses = model.update(make_batch(seed), make_noise(seed))
            with th.no_grad():
                if model is paco:
                    model.critic.network.common["tasks"].vectors.copy_(th.eye(TASKS))
            model.critic_target.flat.polyak_(model.critic.flat, 0.1)
            if model is plain:
                expected = losses
        th.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-4)
    for name in ("actor", "critic", "critic_target"):
        one, other = getattr(plain, name).network, getattr(paco, name).network.layers
        for stack in ("weights", "biases"):
            for own, same in zip(getattr(one, stack), getattr(other, stack), strict=True):
                th.testing.assert_close(same, own, atol=2e-5, rtol=1e-3)


def test_sets_begin_alike_or_not():
    for expression, alike in (("paco(sets=3)", True), ("paco(sets=3, identical=False)", False)):
        for parameter in make(networks=expression).critic.network.layers.parameters():
            first, second = parameter.view(2, 3, *parameter.shape[1:]).unbind(0)
            assert th.equal(first, first[:1].expand_as(first)) == alike
            assert not th.equal(first, second), "the copies differ all the same"


def test_actor_and_critics_both_train_the_table():
    model, found = make(networks="paco", replay="equal"), []
    collecting = model.critic.network.common["tasks"].flat
    collect = collecting._set
    collecting._set = lambda gradients: (collect(gradients), found.append(collecting._gradient.clone()))
    before = model.critic.network.common["tasks"].vectors.detach().clone()
    model.update(make_batch(), make_noise())
    assert len(found) == 2 and all(one.abs().max() > 0 for one in found), "the critics' loss and the actor's"
    th.testing.assert_close(collecting.flat.grad, found[0] + found[1])
    assert collecting.flat.grad.norm() != found[0].norm()
    step = model.critic.network.common["tasks"].vectors - before
    th.testing.assert_close(step.abs(), th.full_like(step, 3e-4), atol=1e-6, rtol=0)  # one step of Adam


def test_a_tasks_loss_trains_its_own_vector_only():
    model, rows = make(networks="paco"), th.randn(TASKS, 4, 5)
    vectors = model.critic.network.common["tasks"].vectors
    for task in range(TASKS):
        (gradient,) = th.autograd.grad(model.critic.network(rows)[:, task].square().sum(), [vectors])
        assert (gradient.abs().amax(dim=1) > 0).tolist() == [other == task for other in range(TASKS)]


# ---- exploding losses ----


def exploding(seed: int = 0, tasks=(1,)):
    """A batch whose rewards are huge in some tasks."""
    batch = make_batch(seed)
    for task in tasks:
        batch.rewards[task] += 1e4
    return batch


def vectors(model: MultiTaskSAC) -> th.Tensor:
    return model.critic.network.common["tasks"].vectors.detach().clone()


@pytest.mark.parametrize("copy", [False, True])
def test_a_reset_vector_is_a_convex_combination_of_the_others(copy):
    """Invariant 9: the tasks that are in order stay, and the shares of the new vectors sum to one."""
    rng = np.random.default_rng(0)
    table = th.eye(5)  # so that a row of the result holds the shares
    exploded = th.tensor([False, True, False, False, True])
    draws = th.from_numpy(rng.random((5, 5)).astype(np.float32))
    new = reset_vectors(table, exploded, draws, th.zeros(5, 5), copy)
    assert th.equal(new[~exploded], table[~exploded])
    shares = new[exploded]
    th.testing.assert_close(shares.sum(dim=1), th.ones(2))
    assert (shares >= 0).all() and (shares[:, exploded] == 0).all()
    if copy:
        assert set(shares.flatten().tolist()) == {0.0, 1.0}
    else:
        assert (shares[:, ~exploded] > 0).all() and not th.equal(shares[0], shares[1])


def test_a_task_that_exploded_begins_anew_once():
    """In the targets too: what they say of the next states is sound again."""
    model = make(networks="paco(sets=4)", hooks=["maskout(3000)"], task_weights="taskmean")
    part, target = model.critic.network.common["tasks"], model.critic_target.network.common["tasks"]
    with th.no_grad():
        for one in (part, target):
            one.vectors[1] *= 1e3
    resets = []
    for seed in range(4):
        before = part.vectors.detach().clone()
        model.update(make_batch(seed), make_noise(seed))
        resets.append(bool((part.vectors[1] - before[1]).abs().max() > 0.01))
        if seed == 0:
            assert th.equal(target.vectors[1], part.vectors[1]) and not th.equal(target.vectors[0], part.vectors[0])
    assert resets == [True, False, False, False]


def test_without_explosion_nothing_is_reset_and_without_survivors_all_begin_anew():
    table, draws, fresh = th.eye(3), th.full((3, 3), 0.5), th.full((3, 3), -1.0)
    assert th.equal(reset_vectors(table, th.zeros(3, dtype=th.bool), draws, fresh), table)
    anew = reset_vectors(table, th.ones(3, dtype=th.bool), draws, fresh)
    th.testing.assert_close(anew, th.full((3, 3), -1.0))  # Xavier's bound, sqrt(6 / 6)


def test_a_task_that_explodes_is_left_out_and_begins_among_the_others():
    model = make(networks="paco(rate=1e-9)", hooks=["maskout(3000)"], task_weights="taskmean")
    before = vectors(model)
    losses = model.update(exploding(), make_noise())
    assert losses[1, 1] > 3000 > losses[1, [0, 2]].max()
    after = vectors(model)
    th.testing.assert_close(after[[0, 2]], before[[0, 2]], atol=1e-7, rtol=0)
    shares = th.linalg.lstsq(before[[0, 2]].T, after[1]).solution
    assert (shares > 0).all() and shares.sum().item() == pytest.approx(1.0, abs=1e-4)


def test_the_masked_task_has_no_part_in_the_gradients():
    with_it, without = (make(networks="paco", hooks=["maskout"], task_weights="taskmean") for _ in range(2))
    with_it.update(exploding(), make_noise())
    other = exploding()
    other.rewards[1] += 1e5  # whatever it is, above the limit
    without.update(other, make_noise())
    assert th.equal(with_it.critic.flat.flat, without.critic.flat.flat)
    assert th.equal(with_it.actor.flat.flat, without.actor.flat.flat)


def test_below_the_limit_the_hook_changes_nothing():
    plain, hooked = make(networks="paco"), make(networks="paco", hooks=["maskout(1e9)"])
    for model in (plain, hooked):
        for seed in range(2):
            model.update(make_batch(seed), make_noise(seed))
    assert equal(weights(plain), weights(hooked))


def test_with_none_the_vectors_stay_and_other_networks_are_only_masked():
    model = make(networks="paco(rate=1e-9)", hooks=["maskout(3000, 'none')"])
    before = vectors(model)
    model.update(exploding(), make_noise())
    th.testing.assert_close(vectors(model), before, atol=1e-7, rtol=0)
    model = make(networks="independent", hooks=["maskout"])
    before = deepcopy(model.critic.network)
    model.update(exploding(), make_noise())
    assert isinstance(before, IndependentMLP)
    for old, new in zip(before.parameters(), model.critic.network.parameters(), strict=True):
        changed = (old - new).view(2, TASKS, -1).abs().amax(dim=(0, 2)) > 0
        assert changed.tolist() == [True, False, True]


def test_models_with_a_hook_that_looks_into_updates_are_left_to_pytorch():
    model = make(hooks=["maskout"])
    assert model.update_backend == "torch"
    assert "maskout(3000) looks into every update" in model.backend_note or "library" in model.backend_note


@pytest.mark.parametrize(
    "expression, message",
    [
        ("maskout(0)", "limit of the critic loss is positive"),
        ("maskout(reset='interpolat')", "did you mean 'interpolate'"),
        ("triplet(-1)", "a distance, at least 0"),
    ],
)
def test_wrong_settings_are_refused(expression, message):
    with pytest.raises(ValueError, match=message):
        component("hooks", expression, HOOKS)


@pytest.mark.parametrize("expression", ["maskout(3000)", "maskout(100, 'copy')", "triplet(0.5)"])
def test_a_hook_is_its_expression(expression):
    assert repr(component("hooks", expression, HOOKS)) == expression
