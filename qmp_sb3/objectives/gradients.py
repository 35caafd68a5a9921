"""How the gradients of the tasks become one step of a network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th

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

    Twin critics are projected each for itself. Arguments as for :func:`plain`.
    """
    tasks = np.flatnonzero(weights.detach().cpu().numpy())
    gradients = th.stack([flat.gradient_of(losses[int(task)]) for task in tasks])  # (tasks, copies, parameters)
    coefficients = th.stack(
        [
            th.from_numpy(projection(gram.cpu().double().numpy(), rng)).to(gradients)
            for gram in gradients.transpose(0, 1) @ gradients.permute(1, 2, 0)
        ]
    )  # (copies, tasks, tasks)
    combined = th.einsum("i,cik,kcp->cp", weights[th.from_numpy(tasks).to(weights.device)], coefficients, gradients)
    flat.set_gradient(combined)


def projection(gram: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coefficients C of g_i' = sum_k C_ik g_k: from g_i, in an order of its own, each g_j that g_i' points against is
    projected out (Yu et al., 2020, algorithm 1).

    :param gram: scalar products g_i . g_j, ``(tasks, tasks)``
    :param rng: source of the orders
    :return: ``(tasks, tasks)``
    """
    tasks = len(gram)
    coefficients = np.eye(tasks)
    rows = np.arange(tasks)
    order = np.array([rng.permutation(np.delete(rows, task)) for task in rows]).reshape(tasks, -1)
    for others in order.T:  # one other task for each g_i'
        products = (coefficients * gram[others]).sum(axis=1)
        squares = gram[others, others]
        conflict = (products < 0.0) & (squares > 0.0)
        coefficients[rows[conflict], others[conflict]] -= products[conflict] / squares[conflict]
    return coefficients


#: name -> function of the parameters, the losses, their weights and a generator, which sets the gradient
GRADIENTS: dict[str, Callable[[FlatParameters, th.Tensor, th.Tensor, np.random.Generator], None]] = {
    "plain": plain,
    "pcgrad": pcgrad,
}
