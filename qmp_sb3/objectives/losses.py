"""The losses of soft actor-critic for all tasks at once: pure functions, one mean per task.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications" (2018), equations 5 to 7 and 18; QMP changes none of
them (ICLR 2025, section 4). Shapes: ``(tasks, batch)`` for what belongs to a transition, ``(critics, tasks, batch)``
for action values, ``(tasks,)`` for temperatures and losses. ``weights`` ``(tasks, batch)`` are those of
:class:`~qmp_sb3.replay.batch.Batch`, None where every transition counts once.
"""

from __future__ import annotations

import torch as th


def task_mean(values: th.Tensor, weights: th.Tensor | None) -> th.Tensor:
    """The mean of each task, ``(..., tasks, batch)`` to ``(..., tasks)``."""
    return values.mean(dim=-1) if weights is None else (weights * values).sum(dim=-1)


def entropy_bonus(log_prob: th.Tensor, temperature: th.Tensor) -> th.Tensor:
    """-alpha log pi(a|s), what eq. 3 adds to an action's value."""
    return -temperature[:, None] * log_prob


def bellman_target(rewards: th.Tensor, discounts: th.Tensor, next_values: th.Tensor, bonuses: th.Tensor) -> th.Tensor:
    """y = r + gamma (min_k Q_k(s', a') - alpha log pi(a'|s')), eq. 5 with the minimum over target critics.

    :param discounts: gamma, zero where the next state is terminal
    :param next_values: target critics at a' ~ pi(.|s'), ``(critics, tasks, batch)``
    :param bonuses: :func:`entropy_bonus` of a'
    """
    return rewards + discounts * (next_values.amin(dim=0) + bonuses)


def absolute_errors(values: th.Tensor, target: th.Tensor) -> th.Tensor:
    """abs(delta) = 1/2 sum_k abs(y - Q_k(s, a)) of each transition, the mean over the critics, ``(tasks, batch)``
    (Shared-Unique Features, equation 2)."""
    return (target - values).abs().mean(dim=0)


def critic_loss(values: th.Tensor, target: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
    """J_Q = 1/2 sum_k E (Q_k(s, a) - y)^2 per task, eq. 5."""
    return 0.5 * task_mean((values - target).square(), weights).sum(dim=0)


def actor_loss(
    values: th.Tensor, log_prob: th.Tensor, temperature: th.Tensor, weights: th.Tensor | None = None
) -> th.Tensor:
    """J_pi = E (alpha log pi(a|s) - min_k Q_k(s, a)) per task, eq. 7, with a reparameterized action."""
    return task_mean(temperature[:, None] * log_prob - values.amin(dim=0), weights)


def temperature_loss(
    log_temperature: th.Tensor, log_prob: th.Tensor, target_entropy: float, weights: th.Tensor | None = None
) -> th.Tensor:
    """J_alpha = -log alpha E (log pi(a|s) + H) per task: eq. 18 with the log, as SB3 and the released QMP code do."""
    return -log_temperature * task_mean((log_prob + target_entropy).detach(), weights)
