"""The triplet loss of shared-unique features: states of one task close together, states of different tasks apart."""

from __future__ import annotations

import torch as th


def triplet_loss(
    anchors: th.Tensor, positives: th.Tensor, negatives: th.Tensor, margin: float, weights: th.Tensor | None = None
) -> th.Tensor:
    """L_tri = E max(0, m + |u_a - u_p| - |u_a - u_n|) (Shared-Unique Features, section 3), a number.

    :param anchors: u of a state, ``(tasks, batch, size)``
    :param positives: u of another state of the same task, the same shape
    :param negatives: u of a state of another task, the same shape
    :param margin: m, not negative
    :param weights: of each anchor, ``(tasks, batch)``, with sum one; None for all alike
    """
    losses = (margin + _distance(anchors, positives) - _distance(anchors, negatives)).clamp(min=0.0)
    return losses.mean() if weights is None else (weights * losses).sum()


def _distance(one: th.Tensor, other: th.Tensor) -> th.Tensor:
    # The gradient of a root is not finite at zero, where a state is compared with its equal.
    return ((one - other).square().sum(dim=-1) + 1e-12).sqrt()


def triplet_rows(counts: th.Tensor, batch: int, draws: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """A random positive and a random negative for each row of a batch.

    :param counts: rows of each task that are transitions, ``(tasks,)``
    :param batch: rows of each task's block
    :param draws: uniform in [0, 1), ``(3, tasks, batch)``
    :return: row of the positive in its anchor's block, task of the negative, and its row, ``(tasks, batch)`` each; a
        positive is another row than its anchor wherever the task has two
    """
    tasks, device = len(counts), counts.device
    own, rows = th.arange(tasks, device=device)[:, None], th.arange(batch, device=device)
    sizes = counts.clamp(min=1)
    positives = (rows + 1 + (draws[0] * (sizes - 1)[:, None]).long()) % sizes[:, None]
    others = (own + 1 + (draws[1] * (tasks - 1)).long()) % tasks
    return positives, others, (draws[2] * sizes[others]).long()
