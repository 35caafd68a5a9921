"""How the gradients of the tasks become one step of a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th

from qmp_sb3.common.devices import to_device
from qmp_sb3.networks.flat_parameters import FlatParameters


def plain(flat: FlatParameters, losses: th.Tensor, weights: th.Tensor, rng: np.random.Generator) -> None:
    """The gradient of sum_i c_i L_i.

    :param flat: the parameters, whose gradient is set
    :param losses: L, ``(tasks,)``
    :param weights: c, ``(tasks,)``
    :param rng: source of random orders
    """
    flat.backward((weights * losses).sum())


def pcgrad(flat: FlatParameters, losses: th.Tensor, weights: th.Tensor, rng: np.random.Generator) -> None:
    """sum_i c_i g_i', where g_i' is the gradient of L_i without its conflicts with other tasks (Yu et al., 2020).

    Twin critics are projected each for itself, and so is what actor and critics have in common; a task with c_i = 0
    conflicts with none. Arguments as for :func:`plain`.
    """
    losses, parts = losses * (weights > 0), (flat, *flat.learned)
    # The last ones first: what passes through a module's layers also writes to its places for gradients.
    by_part = [part.by_task(losses) for part in reversed(parts)][::-1]
    for part, gradients in zip(parts, by_part, strict=True):
        gram = th.stack([one.products() for one in gradients]).sum(dim=0).double()
        coefficients = projection(gram, rng).to(weights.dtype)
        part.set_combined(gradients, th.einsum("i,cik->ck", weights, coefficients))


def projection(gram: th.Tensor, rng: np.random.Generator) -> th.Tensor:
    """Coefficients C of g_i' = sum_k C_ik g_k: from g_i, in an order of its own, each g_j that g_i' points against is
    projected out (Yu et al., 2020, algorithm 1). A GPU does it without the host waiting.

    :param gram: scalar products g_i . g_j, ``(copies, tasks, tasks)``
    :param rng: source of the orders
    :return: ``(copies, tasks, tasks)``
    """
    copies, tasks, _ = gram.shape
    coefficients = th.eye(tasks, dtype=gram.dtype, device=gram.device).repeat(copies, 1, 1)
    everyone = np.arange(tasks)
    orders = [rng.permutation(np.delete(everyone, task)) for _ in range(copies) for task in everyone]
    squares = gram.diagonal(dim1=1, dim2=2)
    for others in to_device(np.array(orders).reshape(copies, tasks, -1), gram.device).unbind(dim=2):
        # One other task for each g_i', (copies, tasks)
        rows = gram.gather(1, others[..., None].expand_as(gram))
        products, lengths = (coefficients * rows).sum(dim=2), squares.gather(1, others)
        conflict = (products < 0.0) & (lengths > 0.0)
        shares = th.where(conflict, products / lengths, 0.0)
        coefficients.scatter_add_(2, others[..., None], -shares[..., None])
    return coefficients


#: name -> function of the parameters, the losses, their weights and a generator, which sets the gradient
GRADIENTS: dict[str, Callable[[FlatParameters, th.Tensor, th.Tensor, np.random.Generator], None]] = {
    "plain": plain,
    "pcgrad": pcgrad,
}
