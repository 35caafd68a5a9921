"""Soft Modularization: routings that are shares, and a network without choice that is a perceptron."""

from dataclasses import fields

import numpy as np
import pytest
import torch as th
from torch import nn

from qmp_sb3.networks import IndependentMLP, NetworkSpec, SoftModules
from qmp_sb3.networks.soft_modules import VARIANTS
from tests.qmp_sb3.algorithms.literal_networks import soft_modules
from tests.qmp_sb3.small_models import make

TASKS, IN, OUT, BATCH, COPIES = 3, 5, 4, 2, 2
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def network(seed: int = 0, shaken: bool = True, **settings):
    generator = th.Generator().manual_seed(seed)
    told = {field.name for field in fields(NetworkSpec)}
    sizes = dict(hidden=[8, 6], copies=COPIES, generator=generator)
    sizes |= {name: settings.pop(name) for name in told & settings.keys()}
    built = SoftModules(NetworkSpec(IN, OUT, TASKS, **sizes), **settings)
    if shaken:  # at first all modules are used alike
        for parameter in built.parameters():
            parameter.data.normal_(0.0, parameter.shape[-2] ** -0.5, generator=generator)
    return built


def inputs(blocks: int = TASKS) -> th.Tensor:
    return th.from_numpy(np.random.default_rng(0).normal(size=(blocks, BATCH, IN)).astype(np.float32))


@each_variant
@pytest.mark.parametrize("layers, modules", [(1, 2), (2, 3), (4, 4), (3, 1)])
@pytest.mark.parametrize("sizes", [{}, dict(hidden=[5], width=3, gating=7)], ids=str)
def test_it_is_the_function_that_it_says(variant, layers, modules, sizes):
    built, rows = network(variant=variant, layers=layers, modules=modules, activation_fn=nn.Tanh, **sizes), inputs()
    outputs, every = built(rows), built.every(rows[0])
    for copy, task, row in np.ndindex(COPIES, TASKS, BATCH):
        expected = soft_modules(built, copy, task, rows[task, row])
        th.testing.assert_close(outputs[copy, task, row], expected, atol=1e-5, rtol=1e-4)
        th.testing.assert_close(
            every[copy, task, row], soft_modules(built, copy, task, rows[0, row]), atol=1e-5, rtol=1e-4
        )


@each_variant
def test_rows_of_a_routing_sum_to_one(variant):
    """Invariant 10."""
    built, rows, found = network(variant=variant, layers=3, modules=4), inputs(), []
    routes = built._routes
    built._routes = lambda gating: found.extend(routes(gating)) or found
    built(rows)
    assert [one.shape for one in found] == [(COPIES, TASKS, BATCH, readers, 4) for readers in (4, 4, 1)]
    for route in found:
        assert (route >= 0).all()
        th.testing.assert_close(route.sum(dim=-1), th.ones(route.shape[:-1]))
        assert route.std(dim=-1).max() > 0.05, "and they choose"
    literal = []
    soft_modules(built, 1, 2, rows[2, 1], literal)
    for route, expected in zip(found, literal, strict=True):
        th.testing.assert_close(route[1, 2, 1], expected)


@each_variant
def test_with_one_module_it_is_a_perceptron(variant):
    """Invariant 10: nothing is left to choose; the official variant activates the base's outputs, CTPG's does not."""
    built, rows = network(variant=variant, modules=1, layers=3, width=7), inputs()
    official = variant == "official"
    stacks = [built.base, built.first, *built.later, built.head]
    for copy, task in np.ndindex(COPIES, TASKS):
        hidden = rows[task]
        layers = [pair for stack in stacks for pair in zip(stack.weights, stack.biases, strict=True)]
        for number, (weight, bias) in enumerate(layers):
            hidden = hidden @ weight[copy] + bias[copy]
            of_base = number == len(built.base.weights) - 1
            if number < len(layers) - 1 and (official or not of_base):
                hidden = hidden.relu()
        th.testing.assert_close(built(rows)[copy, task], hidden, atol=1e-5, rtol=1e-4)
    assert all(
        th.equal(built(rows[:1].expand_as(rows))[:, 0], one) for one in built(rows[:1].expand_as(rows)).unbind(1)
    )


def test_the_first_routings_are_nearly_even():
    built, found = network(shaken=False, layers=3, modules=4, initialization="constant_bias"), []
    routes = built._routes
    built._routes = lambda gating: found.extend(routes(gating)) or found
    built(inputs())
    assert all((route - 0.25).abs().max() < 0.02 for route in found)
    small = [built.head, *built.routers]
    assert all(one.abs().max() <= 3e-3 for stack in small for one in stack.parameters())
    others = [stack for stack in built.modules() if isinstance(stack, IndependentMLP) and stack not in small]
    for stack in others:
        assert all((bias == 0.1).all() for bias in stack.biases)
        assert all(weight.abs().max() <= weight.shape[1] ** -0.5 for weight in stack.weights)


def test_nothing_is_detached():
    built = network(modules=3, layers=3, activation_fn=nn.Tanh)
    gradients = th.autograd.grad(built(inputs()).square().sum(), list(built.parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    double = network(modules=2, layers=2, activation_fn=nn.Tanh).double()
    double.one_hot = double.one_hot.double()
    rows = inputs()[:, :2].double().requires_grad_()
    assert th.autograd.gradcheck(lambda rows: double(rows), rows)


def test_as_many_modules_as_tasks_are_still_everybodys():
    """PCGrad must not take a module for a task's own."""
    model = make(networks=f"soft_modules(modules={TASKS})", gradients="pcgrad", replay="equal").learn(120)
    assert model._n_updates > 0 and model.critic.network.own_parameters() == []
