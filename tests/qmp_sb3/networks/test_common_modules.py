"""What actor and critics have in common: there once, trained once, copied into the targets, saved and loaded."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th

from qmp_sb3 import QMP, MultiTaskSAC
from qmp_sb3.networks.choice import network_choice
from qmp_sb3.networks.paco import TaskVectors
from qmp_sb3.policies import MultiTaskActor, MultiTaskCritic, MultiTaskPolicy
from tests.qmp_sb3.hooks.test_hooks import assert_goes_on_alike
from tests.qmp_sb3.objectives.test_objectives import make_batch, make_noise
from tests.qmp_sb3.small_models import drifts, equal, make, weights

FAMILIES = {
    "soft_modules": dict(networks="soft_modules(layers=3, width=6, gating=5)"),
    "ctpg's": dict(networks="soft_modules(variant='ctpg')", task_weights="alpha"),
    "paco": dict(networks="paco(sets=4)", hooks=["maskout(3000)"]),
    "care": dict(networks="care(encoders=2, embedding=4)", replay="pool", task_weights="mean"),
    "shared_unique": dict(networks="shared_unique(sets=2, unique=5)", hooks=["triplet"]),
}
each = pytest.mark.parametrize("parts", FAMILIES.values(), ids=FAMILIES)
COMMON = {name: FAMILIES[name] for name in ("paco", "care", "shared_unique")}
with_common = pytest.mark.parametrize("parts", COMMON.values(), ids=COMMON)


def update(model: MultiTaskSAC, seed: int = 0) -> None:
    model.update(make_batch(seed), make_noise(seed))
    model.critic_target.flat.polyak_(model.critic.flat, 0.1)


def optimized(model: MultiTaskSAC) -> list[int]:
    """Addresses of all numbers that some optimizer moves, each as often as there is one."""
    optimizers = [model.actor.optimizer, model.critic.optimizer]
    optimizers += [part.optimizer for part in model.policy.common.parts.values()]
    tensors = [one for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]]
    return [tensor.data_ptr() + 4 * number for tensor in tensors for number in range(tensor.numel())]


@each
@pytest.mark.parametrize("optimizer", [th.optim.Adam, th.optim.Adafactor])
def test_every_parameter_is_in_exactly_one_optimizer(parts, optimizer):
    model = make(policy_kwargs={"optimizer_class": optimizer}, **parts)
    numbers = optimized(model)
    assert len(set(numbers)) == len(numbers)
    target = {id(parameter) for parameter in model.critic_target.parameters()}
    trained = [one for one in model.policy.parameters() if id(one) not in target]
    places = [one.data_ptr() + 4 * number for one in trained for number in range(one.numel())]
    assert sorted(places) == sorted(numbers)
    before = weights(model)
    for seed in range(2):
        update(model, seed)
    for name, parameter in model.policy.named_parameters():
        assert not th.equal(parameter, before[name]), f"{name} is trained, or follows"


@with_common
def test_actor_and_critics_have_one_and_the_targets_a_copy_of_it(parts):
    model = make(**parts)
    for name, part in model.actor.network.common.items():
        assert model.critic.network.common[name] is part
        target = model.critic_target.network.common[name]
        assert target is not part and not any(one.requires_grad for one in target.parameters())
        for one, other in zip(part.parameters(), target.parameters(), strict=True):
            assert one.data_ptr() != other.data_ptr() and th.equal(one, other)
    assert len(model.policy.common) == len(model.actor.network.common)


@each
def test_all_parameters_of_the_targets_move_a_share_towards_the_critics(parts):
    model = make(**parts)
    update(model)
    with th.no_grad():
        for parameter in model.critic.parameters():
            parameter.add_(0.1)
    before = {name: one.clone() for name, one in model.critic_target.named_parameters()}
    critics = dict(model.critic.named_parameters())
    model.critic_target.flat.polyak_(model.critic.flat, 0.25)
    for name, moved in model.critic_target.named_parameters():
        th.testing.assert_close(moved, th.lerp(before[name], critics[name], 0.25))
        assert not th.equal(moved, before[name]), name


@each
def test_a_saved_model_goes_on_to_the_last_bit(parts, tmp_path):
    assert_goes_on_alike(tmp_path, **parts)


@with_common
def test_its_optimizer_is_saved_too(parts, tmp_path):
    model = make(**parts).learn(120)
    model.save(tmp_path / "model")
    loaded = QMP.load(tmp_path / "model", env=drifts(), device="cpu")
    for name, part in model.policy.common.parts.items():
        (state,), (other,) = (
            one.optimizer.state_dict()["state"].values() for one in (part, loaded.policy.common.parts[name])
        )
        assert state["step"] == other["step"] > 0 and th.equal(state["exp_avg"], other["exp_avg"])
    with pytest.raises(ValueError, match="the state is one of other; the policy has"):
        model.policy.common.load_state_dict({"other": {}})


@each
def test_policy_actor_and_critic_alone(parts, tmp_path):
    model = make(**parts).learn(60)
    rows, tasks = model.get_env().reset(), np.arange(3)
    expected, _ = model.predict(rows, deterministic=True)
    for module, kind in (
        (model.policy, MultiTaskPolicy),
        (model.actor, MultiTaskActor),
        (model.critic, MultiTaskCritic),
    ):
        module.save(tmp_path / "module")
        loaded = kind.load(tmp_path / "module", device="cpu")
        assert equal(loaded.state_dict(), module.state_dict())
        if kind is MultiTaskPolicy:
            np.testing.assert_array_equal(loaded.predict(rows, deterministic=True, tasks=tasks)[0], expected)
            for name, part in loaded.actor.network.common.items():
                assert loaded.critic.network.common[name] is part


@with_common
def test_a_copy_of_the_policy_is_tied_as_the_original_and_apart_from_it(parts):
    model = make(**parts)
    policy, before = deepcopy(model.policy), weights(model)
    with th.no_grad():
        for part in policy.common.parts.values():
            part.flat.flat.fill_(0.5)
    assert equal(weights(model), before)
    for name, part in policy.actor.network.common.items():
        assert policy.critic.network.common[name] is part
        assert all((one == 0.5).all() for one in part.parameters())


@with_common
@pytest.mark.parametrize("how", ["double", "vector"])
def test_numbers_that_move_stay_in_one_piece(parts, how):
    model = make(**parts)
    if how == "double":
        model.policy.double().float()
    else:
        model.policy.load_from_vector(model.policy.parameters_to_vector())
    before = weights(model)
    update(model)
    after = weights(model)
    assert all(not th.equal(after[name], before[name]) for name, _ in model.policy.named_parameters())
    for part in model.policy.common.parts.values():
        first, end = part.flat.flat.data_ptr(), part.flat.flat.data_ptr() + 4 * part.flat.flat.numel()
        assert all(first <= one.data_ptr() < end for one in part.parameters())


@with_common
def test_one_task(parts):
    model = make("one task", **parts).learn(60)
    assert model._n_updates > 0 and all(th.isfinite(one).all() for one in model.policy.parameters())


def test_roles_with_other_settings_have_nothing_in_common():
    model = make(networks={"actor": "paco(sets=2)", "critic": "paco(sets=3)"})
    assert len(model.policy.common) == 2
    assert model.actor.network.common["tasks"].vectors.shape == (3, 2)
    assert model.critic.network.common["tasks"].vectors.shape == (3, 3)
    before = weights(model)
    update(model)
    assert all(not th.equal(one, before[name]) for name, one in model.policy.named_parameters())
    model = make(networks={"actor": "independent", "critic": "paco"})
    assert len(model.policy.common) == 1 and not model.actor.network.common


def test_networks_without_common_modules_of_are_saved_as_before():
    assert make()._get_torch_save_params()[0] == ["policy", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer"]
    assert not any("common" in name for name in make().policy.state_dict())


def test_the_learning_rate_is_the_models_or_its_own():
    schedule = lambda remaining: 0.01 * remaining  # noqa: E731
    for networks, expected in (
        ("paco", lambda model: model.actor.optimizer.param_groups[0]["lr"]),
        ("paco(rate=0.2)", lambda _: 0.2),
    ):
        model = make(networks=networks, learning_rate=schedule).learn(240)
        [part] = model.policy.common.of_type(TaskVectors)
        assert (
            part.optimizer.param_groups[0]["lr"] == expected(model)
            and model.actor.optimizer.param_groups[0]["lr"] < 0.01
        )


# ---- expressions ----


def test_an_expression_is_a_family_and_its_settings():
    choice = network_choice("soft_modules(layers=4, width=128)")
    assert choice.settings == dict(layers=4, modules=2, width=128, gating=None, variant="official")
    assert network_choice("onehot").settings == {}
    model = make(networks={"actor": "multihead", "critic": "paco(sets=7)"})
    assert model.networks == {"actor": "multihead", "critic": "paco(sets=7)"}
    assert model.critic.network.layers.sets == 7


def test_gradients_of_common_modules_are_clipped_too():
    """The task vectors learn by plain gradient descent, so that a step is as long as the clipped gradient."""
    steps = []
    for norm in (None, 1e-3):
        kwargs = {"net_arch": [16], "optimizer_class": th.optim.SGD}
        model = make(networks="paco", max_grad_norm=norm, policy_kwargs=kwargs)
        [part] = model.policy.common.of_type(TaskVectors)
        before = part.vectors.detach().clone()
        update(model)
        steps.append((part.vectors.detach() - before).norm().item() / model.lr_schedule(1.0))
    assert steps[0] > 1e-2 and steps[1] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize(
    "networks, message",
    [
        ("soft_module(layers=2)", "networks='soft_module' is unknown; did you mean 'soft_modules'"),
        ("soft_modules(layer=2)", r"unexpected keyword argument 'layer'; it is soft_modules\(layers, modules, width"),
        ("soft_modules(layers=0)", r"soft_modules\(layers=0\): it is a whole number, at least 1"),
        ("soft_modules(width=2.5)", r"soft_modules\(width=2.5\) in networks: width is a whole number"),
        ("soft_modules(variant='rx')", r"soft_modules\(variant='rx'\).*'official' and 'ctpg'"),
        ("soft_modules(variant=ctpg)", "a text needs quotes, variant='ctpg'"),
        ("paco(sets=0)", r"paco\(sets=0\): the number of parameter sets is whole, at least 1"),
        ("paco(rate=-1.0)", r"paco\(rate=-1.0\): the learning rate of the task vectors is positive"),
        ("paco(common=3)", "unexpected keyword argument 'common'"),
        ("care(encoders=0)", r"care\(encoders=0\): a size is a whole number, at least 1"),
        ("care(embedding=0)", r"care\(embedding=0\): a size is a whole number"),
        ("shared_unique(unique=0)", r"shared_unique\(unique=0\): the size of u is whole, at least 1"),
        ("shared_unique(sets='a')", r"shared_unique\(sets='a'\)"),
        ("paco(", "is not of the form"),
        ({"actor": "care", "critic": "onehot"}, "the encoder of 'care' learns from the loss of the critic only"),
        ({"actor": "care"}, "needs actor and critic"),
    ],
)
def test_what_means_nothing_is_refused(networks, message):
    with pytest.raises(ValueError, match=message):
        make(networks=networks)


@pytest.mark.parametrize(
    "networks, word", [("soft_modules", "soft_modules need"), ("shared_unique", "shared_unique networks need")]
)
def test_families_that_need_a_layer_say_so(networks, word):
    with pytest.raises(ValueError, match=f"{word}.*net_arch is empty"):
        make(networks=networks, policy_kwargs={"net_arch": []})
