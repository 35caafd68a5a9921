"""Every family of networks as its page says it: one row, one task and one copy at a time, by plain products."""

from __future__ import annotations

from copy import deepcopy

import torch as th
from torch import nn

from qmp_sb3.networks import CARE, IndependentMLP, PaCo, SharedUnique, SoftModules
from qmp_sb3.networks.paco import CompositionalLayers


def activate(module: nn.Module, row: th.Tensor) -> th.Tensor:
    return deepcopy(module.activation)(row.clone())


def mlp(stack: IndependentMLP, network: int, row: th.Tensor, activate_last: bool = False) -> th.Tensor:
    for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        row = row @ weight[network] + bias[network, 0]
        if activate_last or layer < len(stack.weights) - 1:
            row = activate(stack, row)
    return row


def independent(network, copy, task, row):
    return mlp(network, copy * network.n_tasks + task, row)


def shared(network, copy, task, row):
    return mlp(network.shared, copy, row)


def onehot(network, copy, task, row):
    return mlp(network.shared.shared, copy, th.cat([row, th.eye(network.n_tasks)[task]]))


def multihead(network, copy, task, row):
    trunk = mlp(network.trunk, copy, row, activate_last=True)
    return mlp(network.heads, copy * network.n_tasks + task, trunk)


def decaf(network, copy, task, row):
    tasks = network.n_tasks
    weights = th.softmax(mlp(network.mixers, copy * tasks + task, row), dim=0)
    return sum(weights[j] * mlp(network.values, copy * tasks + j, row) for j in range(tasks))


def soft_modules(network: SoftModules, copy, task, row, routes: list | None = None):
    """Of either variant; ``routes`` takes in the shares of every layer, ``(readers, modules)`` each."""
    n, layers, ctpg = network.modules_per_layer, len(network.routers), not network.variant.reads_all
    f = mlp(network.base, copy, row)
    e = network.embedding.weights[0][copy, task] + network.embedding.biases[0][copy, 0]
    u = mlp(network.gate, copy, activate(network, f * e))
    shares, logits = [], []
    for layer in range(layers):
        if layer == 0:
            hidden = activate(network, u)
        else:
            before = logits[-1] if ctpg else th.cat([one.flatten() for one in shares])
            hidden = activate(network, mlp(network.conditions[layer - 1], copy, before) * u)
        logits.append(mlp(network.routers[layer], copy, hidden))
        rows = logits[-1].view(n if layer < layers - 1 else 1, n)
        shares.append(th.stack([th.exp(one) / th.exp(one).sum() for one in rows]))
    if routes is not None:
        routes.extend(shares)
    first = mlp(network.first, copy, f if ctpg else activate(network, f))
    outputs = list(first.view(n, -1))
    for layer in range(layers - 1):
        outputs = [activate(network, one) for one in outputs] if ctpg else outputs
        mixed = [sum(shares[layer][j, k] * outputs[k] for k in range(n)) for j in range(n)]
        mixed = mixed if ctpg else [activate(network, one) for one in mixed]
        outputs = [mlp(network.later[layer], copy * n + j, mixed[j]) for j in range(n)]
    outputs = [activate(network, one) for one in outputs] if ctpg else outputs
    last = sum(shares[-1][0, k] * outputs[k] for k in range(n))
    return mlp(network.head, copy, last if ctpg else activate(network, last))


def compositional(layers: CompositionalLayers, copy: int, w: th.Tensor, row: th.Tensor) -> th.Tensor:
    sets = layers.sets
    for number, (weight, bias) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        of_sets = [row @ weight[copy * sets + k] + bias[copy * sets + k, 0] for k in range(sets)]
        row = sum(w[k] * of_sets[k] for k in range(sets))
        if number < len(layers.weights) - 1:
            row = activate(layers, row)
    return row


def paco(network: PaCo, copy, task, row):
    return compositional(network.layers, copy, network.common["tasks"].vectors[task], row)


def shared_unique(network: SharedUnique, copy, task, row):
    w, unique = network.common["tasks"].vectors[task], network.common["unique"]
    h = activate(network, compositional(network.trunk, copy, w, row))
    u = mlp(unique.perceptron, 0, row[: unique.n_state]).detach()
    return compositional(network.head, copy, w, th.cat([h, u]))


def encoding(encoder, task: int, state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """[h, c] of a state, and the attention."""
    context = mlp(encoder.context, 0, activate(encoder, encoder.embedding[task]))
    attention = th.softmax(mlp(encoder.attention, 0, context.detach()), dim=0)
    mixed = sum(share * mlp(encoder.encoders, k, state) for k, share in enumerate(attention))
    return th.cat([mixed, context]), attention


def care(network: CARE, copy, task, row):
    encoder = network.common["encoder"]
    told, _ = encoding(encoder, task, row[: encoder.n_state])
    return mlp(network.perceptron, copy, th.cat([told, row[encoder.n_state :]]))


ROW_BY_ROW = {
    "independent": independent,
    "shared": shared,
    "onehot": onehot,
    "multihead": multihead,
    "decaf": decaf,
    "soft_modules": soft_modules,
    "paco": paco,
    "care": care,
    "shared_unique": shared_unique,
}
