"""The losses of CTPG's guide: soft actor-critic over a finite set of candidates, on segments of K steps.

He et al., "Efficient Multi-Task Reinforcement Learning with Cross-Task Policy Guidance" (NeurIPS 2024); discrete soft
actor-critic is Christodoulou (2019). Shapes: ``(..., steps)`` for what belongs to a row of a segment, ``(...,
candidates)`` for Pi(j|s) and Q(s, j). Whoever calls them leaves out the gradients that do not belong.
"""

from __future__ import annotations

import math

import torch as th

TARGET_ENTROPY_SHARE = 0.98  # of ln N, the largest entropy there is (the released code)


def target_entropy(candidates: int) -> float:
    """H^g = 0.98 ln N."""
    return TARGET_ENTROPY_SHARE * math.log(candidates)


def entropy(log_probs: th.Tensor) -> th.Tensor:
    """H(Pi(.|s)) ``(...)`` of ln Pi ``(..., candidates)``."""
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def state_value(values: th.Tensor, log_probs: th.Tensor, temperature: th.Tensor | float) -> th.Tensor:
    """V(s) = sum_j Pi(j|s) (min_k Q_k(s, j) - alpha ln Pi(j|s)).

    :param values: ``(critics, ..., candidates)``
    :param log_probs: ln Pi, ``(..., candidates)``
    :param temperature: alpha, broadcast to ``(..., candidates)``; 0 for the value without the guide's entropy
    :return: ``(...)``
    """
    return (log_probs.exp() * (values.amin(dim=0) - temperature * log_probs)).sum(dim=-1)


def segment_target(
    rewards: th.Tensor, continuations: th.Tensor, present: th.Tensor, final_value: th.Tensor, gamma: float
) -> th.Tensor:
    """y = r_t + gamma c_t (r_{t+1} + gamma c_{t+1} (... r_{t+K-1} + gamma c_{t+K-1} V(s_{t+K}))).

    Rows that are not there add nothing: the last one that is there is followed by V of the state that it led to.

    :param rewards: ``(..., steps)``
    :param continuations: c, 0 where a row's next state is terminal, else 1, ``(..., steps)``
    :param present: ``(..., steps)`` bool
    :param final_value: V after the last row that is there, ``(...)``
    :return: ``(...)``
    """
    target = final_value
    for step in reversed(range(rewards.shape[-1])):
        beyond = rewards[..., step] + gamma * continuations[..., step] * target
        target = th.where(present[..., step], beyond, target)
    return target


def hindsight(log_probs: th.Tensor, present: th.Tensor) -> th.Tensor:
    """j' = argmax_j sum_t ln pi_j(a_t|s_t): the candidate that most likely did what was done.

    :param log_probs: ln pi_j(a_t|s_t) of every candidate, ``(..., steps, candidates)``
    :param present: ``(..., steps)`` bool
    :return: ``(...)`` integers
    """
    return th.where(present[..., None], log_probs, 0.0).sum(dim=-2).argmax(dim=-1)


def guide_loss(values: th.Tensor, log_probs: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """J_Pi = E sum_j Pi(j|s) (alpha ln Pi(j|s) - min_k Q_k(s, j)), per task; arguments as for :func:`state_value`."""
    return -state_value(values, log_probs, temperature).mean(dim=-1)
