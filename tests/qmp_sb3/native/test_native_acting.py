"""The compiled code that asks stacked perceptrons for actions gives the general path's numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch as th

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.native import load, perceptrons, unavailable
from qmp_sb3.networks import IndependentMLP, NetworkSpec
from qmp_sb3.networks.task_module import TaskModule
from qmp_sb3.policies.action_heads import SquashedGaussian
from tests.qmp_sb3.small_models import drifts, equal, make, weights

compiled = pytest.mark.skipif(load() is None, reason=f"no compiled library: {unavailable()}")
ACT = 3
HEAD = SquashedGaussian(ACT)
SLOTS = {
    "one slot": (1, [0]),
    "one task": (1, [0, 0, 0]),
    "in turn": (4, [0, 1, 2, 3]),
    "copies": (4, [0, 1, 2, 3] * 4),
    "any order": (4, [2, 2, 0, 3, 1, 2]),
    "some tasks": (4, [3, 3, 1]),
    "many rows": (2, [0, 1, 1] * 50),
}
WIDTHS = {"narrow": (3, [17]), "wide": (39, [256, 256]), "odd": (5, [33, 70, 8]), "linear": (6, [])}
every_layout = pytest.mark.parametrize("slots", SLOTS)
every_width = pytest.mark.parametrize("widths", WIDTHS)
every_activation = pytest.mark.parametrize("activation", [th.nn.ReLU, th.nn.Tanh], ids=lambda one: one.__name__)


def network(tasks: int, n_in: int, n_out: int, hidden: list[int], copies: int = 1, **settings) -> IndependentMLP:
    """Its parameters lie in one flat tensor, as in a policy."""
    generator = th.Generator().manual_seed(n_in)
    built = IndependentMLP(NetworkSpec(n_in, n_out, tasks, hidden, copies, generator=generator, **settings))
    built.flat = built.flat_parameters()
    return built


def rows(count: int, *shape: int) -> th.Tensor:
    return th.randn(count, *shape, generator=th.Generator().manual_seed(count))


def close(one: th.Tensor, other: th.Tensor) -> None:
    th.testing.assert_close(one, other, rtol=1e-5, atol=3e-6)


@pytest.fixture(params=[0, 1, 2], ids=["baseline", "avx2", "avx512"])
def instructions(request, monkeypatch):
    """Every instruction set that this processor has."""
    library = load()
    if request.param > library.processor_best():
        pytest.skip("the processor has no such instructions")

    class Limited:
        def __getattr__(self, name):
            return getattr(library, name)

        def processor_best(self):
            return request.param

    monkeypatch.setattr(perceptrons, "load", Limited)


@compiled
@pytest.mark.usefixtures("instructions")
@every_activation
@every_width
@every_layout
@th.no_grad()
def test_every_form_of_asking_equals_the_general_path(slots, widths, activation):
    tasks, of_slots = SLOTS[slots]
    n_in, hidden = WIDTHS[widths]
    layout, states = TaskLayout(np.array(of_slots), tasks), rows(len(of_slots), n_in)
    policy = network(tasks, n_in, 2 * ACT, hidden, activation_fn=activation)
    assert policy._compiled() is not None
    expected = IndependentMLP.forward(policy, states.expand(tasks, *states.shape))
    close(policy.every(states), expected)
    outputs, means = policy.every_policy(states, HEAD)
    close(outputs, expected[0])
    close(means, th.tanh(expected[0, ..., :ACT]).transpose(0, 1))
    close(policy.by_row(states, layout), TaskModule.by_row(policy, states, layout))

    critic = network(tasks, n_in + ACT, 1, hidden, copies=2, activation_fn=activation)
    actions = rows(len(of_slots), 7, ACT)
    for copies in (1, None):
        values = TaskModule.candidates(critic, states, actions, layout, copies)
        close(critic.candidates(states, actions, layout, copies), values)
        close(critic.candidates(states, actions[:, ::2], layout, copies), values[:, :, ::2])  # not contiguous


@every_activation
@every_width
@every_layout
@th.no_grad()
def test_without_the_library_the_state_is_read_once_and_the_numbers_are_the_same(
    slots, widths, activation, monkeypatch
):
    tasks, of_slots = SLOTS[slots]
    n_in, hidden = WIDTHS[widths]
    layout = TaskLayout(np.array(of_slots), tasks)
    states, actions = rows(len(of_slots), n_in), rows(len(of_slots), 7, ACT)
    critic = network(tasks, n_in + ACT, 1, hidden, copies=2, activation_fn=activation)
    monkeypatch.setattr(perceptrons, "load", lambda: None)
    assert critic._compiled() is None
    for copies in (1, None):
        values = TaskModule.candidates(critic, states, actions, layout, copies)
        close(critic.candidates(states, actions, layout, copies), values)


@compiled
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("act", [1, 4, 16, 21])
@th.no_grad()
def test_sampled_actions_equal_the_formula(act):
    noise, chosen = rows(6, act), np.array([2, 0, 1, 1, 2, 0])
    outputs = 3.0 * rows(3, 6, 2 * act)
    outputs[0, 1, act:] = 50.0  # clamped
    outputs[1, 2, act:] = -50.0
    head = SquashedGaussian(act)
    close(head.sample(outputs, noise, chosen), head.sample_log_prob(outputs[chosen, np.arange(6)], noise)[0])
    close(head.sample(outputs[1], noise), head.sample_log_prob(outputs[1], noise)[0])


@compiled
@th.no_grad()
def test_what_is_not_a_number_stays_one():
    for activation in (th.nn.ReLU, th.nn.Tanh):
        asked = network(2, 3, 4, [40], activation_fn=activation)
        states = rows(2, 3)
        states[1, 0] = th.nan
        outputs, means = asked.every_policy(states, HEAD)
        assert outputs[:, 1].isnan().all() and means[1].isnan().all()
        assert not outputs[:, 0].isnan().any() and not means[0].isnan().any()
        assert HEAD.sample(outputs, th.zeros(2, 2), np.array([0, 1])).isnan().any(dim=1).tolist() == [False, True]


@compiled
@th.no_grad()
def test_the_library_can_be_left_out():
    asked, states = network(5, 15, 12, [256, 256]), rows(4, 15)
    assert asked._compiled() is not None
    by_library = asked.every(states)
    asked.use_library(False, None)
    assert asked._compiled() is None
    close(asked.every(states), by_library)


@compiled
@th.no_grad()
def test_the_number_of_threads_changes_nothing():
    asked, states = network(5, 15, 12, [256, 256]), rows(40, 15)
    alone = asked.every(states)
    asked.use_library(True, 3)
    assert all(th.equal(asked.every(states), alone) for _ in range(50))


@compiled
def test_a_models_threads_are_those_of_its_networks():
    threads = th.get_num_threads()
    try:
        model = make(num_threads=2, learning_starts=0).learn(30)
    finally:
        th.set_num_threads(threads)
    assert model.actor.network._bound[1]._threads == model.critic.network._bound[1]._threads == 2


@compiled
@th.no_grad()
def test_the_parameters_present_memory_is_read():
    asked, states = network(3, 4, 2, [16]), rows(3, 4)
    before = asked.every(states)
    asked.weights[0].data.mul_(2.0)
    close(asked.every(states), asked.forward(states.expand(3, *states.shape)))
    assert not th.equal(asked.every(states), before)
    asked.flat.gather()  # moves the memory
    close(asked.every(states), asked.forward(states.expand(3, *states.shape)))


@compiled
@th.no_grad()
def test_copies_have_memory_of_their_own():
    model = make()
    twin = copy.deepcopy(model.policy)
    observations = model.policy.encode(model.env.reset().astype(np.float32))
    first = twin.actor.network.every(observations)
    for parameter in model.policy.parameters():
        parameter.data.zero_()
    assert th.equal(twin.actor.network.every(observations), first)
    assert not model.actor.network.every(observations).any()
    layout = TaskLayout(np.array([1, 0, 1]), 2)
    copied = copy.deepcopy(layout)
    assert copied.addresses == (copied.order.ctypes.data, copied.first.ctypes.data) != layout.addresses


@compiled
def test_where_it_does_not_suit_the_general_path_answers():
    asked, states = network(3, 4, 2, [16]), rows(3, 4)
    assert asked._compiled() is None, "gradients are wanted"
    assert asked.every(states).requires_grad
    with th.no_grad():
        doubles = network(3, 4, 2, [16]).double()
        doubles.flat.gather()
        assert doubles._compiled() is None
        assert doubles.every(states.double()).dtype == th.float64
        assert network(3, 4, 2, [16], activation_fn=th.nn.ELU)._compiled() is None
        assert network(3, 4, 2, [1] * 20)._compiled() is None, "more layers than the code has room for"


@compiled
def test_the_wrong_width_is_refused():
    asked = network(3, 4, 2, [16])
    with th.no_grad(), pytest.raises(ValueError, match="read 4 numbers, not 5"):
        asked.every(rows(3, 5))


@compiled
@pytest.mark.parametrize("behavior", ["argmax(q)", "argmax(q(samples=3))", "self", "uniform", "hold(3, argmax(q))"])
def test_a_model_acts_alike_with_and_without_the_library(behavior, monkeypatch):
    observations = drifts(copies=2).reset()
    settings = dict(behavior=behavior, learning_starts=0, policy_kwargs={"net_arch": [32, 32]})
    chosen = {}
    for library in ("with", "without"):
        if library == "without":
            monkeypatch.setattr(perceptrons, "load", lambda: None)
            monkeypatch.setattr("qmp_sb3.policies.action_heads.load", lambda: None)
        model = make(env=drifts(copies=2), **settings)
        chosen[library] = [model._act(observations) for _ in range(5)], model.behavior.counts
    np.testing.assert_allclose(chosen["with"][0], chosen["without"][0], atol=1e-5)
    np.testing.assert_array_equal(chosen["with"][1], chosen["without"][1])


def test_a_model_that_learned_with_the_library_loads_without_it(tmp_path, monkeypatch):
    model = make().learn(60)
    model.save(tmp_path / "model")
    monkeypatch.setattr(perceptrons, "load", lambda: None)
    monkeypatch.setattr("qmp_sb3.policies.action_heads.load", lambda: None)
    loaded = type(model).load(tmp_path / "model", env=drifts())
    assert equal(weights(loaded), weights(model))
    loaded.learn(30)
