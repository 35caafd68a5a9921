"""One update of CTPG's guide, and what is logged of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.utils import update_learning_rate

from qmp_sb3.behaviors.guide_networks import GuideNetworks
from qmp_sb3.common.devices import to_device
from qmp_sb3.learner import Learner
from qmp_sb3.networks.flat_parameters import clip_gradient_
from qmp_sb3.objectives import critic_loss, temperature_loss
from qmp_sb3.objectives.discrete_sac import (
    entropy,
    guide_loss,
    hindsight,
    segment_target,
    state_value,
    target_entropy,
)
from qmp_sb3.replay import Segments

MEASURES = ("critic_loss", "filter_loss", "actor_loss", "ent_coef_loss", "ent_coef", "entropy")


def learn_from(networks: GuideNetworks, segments: Segments, learner: Learner, settings: Mapping[str, Any]) -> th.Tensor:
    """One gradient step of the guide's critics, its filter's critics, its actor and its temperatures, in this order.

    :param networks: of the guide
    :param segments: ``(blocks, segments, steps)`` transitions of the tasks that are guided
    :param learner: whose policies are the candidates
    :param settings: of :class:`~qmp_sb3.behaviors.guide.Guide`
    :return: :data:`MEASURES` of each block, ``(6, blocks)``
    """
    for optimizer in networks.optimizers.values():
        update_learning_rate(optimizer, learner.current_learning_rate)
    tasks = None if len(segments.tasks) == learner.n_tasks else to_device(segments.tasks, learner.device)
    log_temperature = networks.log_temperature if tasks is None else networks.log_temperature[tasks]
    chosen = likeliest(learner, segments) if settings["hindsight"] else segments.chosen
    target, filter_target = targets(networks, segments, learner, tasks)

    states = segments.first_observations
    losses = []
    for name, goal in (("critic", target), ("filter_critic", filter_target)):
        values = networks.modules[name](states, tasks)  # (critics, blocks, segments, candidates)
        index = chosen.expand(len(values), -1, -1)[..., None]
        losses.append(critic_loss(values.gather(-1, index).squeeze(-1), goal))
        _step(networks, name, losses[-1], learner.max_grad_norm)

    log_probs = networks.actor(states, tasks)[0].log_softmax(dim=-1)  # (blocks, segments, candidates)
    with th.no_grad():
        values = networks.modules["critic"](states, tasks)
    losses.append(guide_loss(values, log_probs, log_temperature.detach().exp()[:, None, None]))
    _step(networks, "actor", losses[-1], learner.max_grad_norm)

    spread = entropy(log_probs.detach())
    losses.append(temperature_loss(log_temperature, -spread, target_entropy(networks.form.candidates)))
    _step_temperatures(networks, losses[-1], learner.max_grad_norm, settings["max_temperature"])
    networks.polyak_(settings["tau"])
    measures = [*(loss.detach() for loss in losses), log_temperature.detach().exp(), spread.mean(dim=-1)]
    return th.stack(measures)


@th.no_grad()
def likeliest(learner: Learner, segments: Segments) -> th.Tensor:
    """The candidate that hindsight holds responsible for each segment, ``(blocks, segments)``.

    One step of the segments at a time: all candidates' activations for all rows would be large.
    """
    actor, batch, log_probs = learner.policy.actor, segments.batch, []
    for step in range(segments.present.shape[2]):
        features, actions = batch.observations[:, :, step].flatten(0, 1), batch.actions[:, :, step].flatten(0, 1)
        of_tasks = actor.head.log_prob(actor.every(features), actions).mT  # (rows, tasks)
        fixed = learner.fixed_log_probs(features, actions)
        log_probs.append(th.cat([of_tasks, *fixed], dim=1).unflatten(0, batch.rows.shape[:2]))
    return hindsight(th.stack(log_probs, dim=2), segments.present)


@th.no_grad()
def targets(
    networks: GuideNetworks, segments: Segments, learner: Learner, tasks: th.Tensor | None
) -> tuple[th.Tensor, th.Tensor]:
    """What the guide's critics and those of its filter learn, ``(blocks, segments)`` each.

    The filter's critics are to be comparable with the soft V_i(s) of the control policies: their rewards contain the
    own policy's entropy bonus -alpha_i ln pi_i(a~|s), with a fresh own action at each stored state, and no entropy of
    the guide.

    :param tasks: the task of each block, None for all in order
    """
    batch, last = segments.batch, segments.last_observations
    log_probs = networks.actor(last, tasks)[0].log_softmax(dim=-1)
    temperature = networks.temperature if tasks is None else networks.temperature[tasks]
    value = state_value(networks.modules["critic_target"](last, tasks), log_probs, temperature[:, None, None])
    filter_value = state_value(networks.modules["filter_target"](last, tasks), log_probs, 0.0)

    states = batch.observations.flatten(1, 2)  # (blocks, segments * steps, features)
    noise = th.randn(*states.shape[:2], batch.actions.shape[-1], generator=learner.streams.guide)
    own_log_prob = learner.policy.actor.action_log_prob(states, to_device(noise, states.device), tasks)[1]
    alpha = learner.temperature if tasks is None else learner.temperature[tasks]
    rewards = learner.reward_scale * batch.rewards
    soft_rewards = rewards - alpha[:, None, None] * own_log_prob.view(rewards.shape)

    rest = batch.continuations, segments.present
    return (
        segment_target(rewards, *rest, value, learner.gamma),
        segment_target(soft_rewards, *rest, filter_value, learner.gamma),
    )


def _step(networks: GuideNetworks, name: str, losses: th.Tensor, max_norm: float | None) -> None:
    networks.flat[name].backward(losses.mean())
    if max_norm is not None:
        networks.flat[name].clip_(max_norm)
    networks.optimizers[name].step()


def _step_temperatures(networks: GuideNetworks, losses: th.Tensor, max_norm: float | None, largest: float) -> None:
    optimizer = networks.optimizers["temperature"]
    optimizer.zero_grad()
    losses.mean().backward()
    if max_norm is not None:
        assert networks.log_temperature.grad is not None
        clip_gradient_(networks.log_temperature.grad, max_norm)
    optimizer.step()
    networks.bound_temperature_(largest)


def record(learner: Learner, guided: np.ndarray, blocked: np.ndarray, means: th.Tensor) -> None:
    """Log means over the tasks that are guided, and each one's own values.

    :param guided: the tasks that learned, ``(blocks,)``
    :param blocked: tasks without guidance, ``(tasks,)`` bool
    :param means: :data:`MEASURES`, ``(6, blocks)``
    """
    for measure, by_task in zip(MEASURES, means.cpu().numpy(), strict=True):
        learner.logger.record(f"train/guide_{measure}", float(by_task.mean()))
        for task, value in zip(guided, by_task, strict=True) if learner.n_tasks > 1 else ():
            name = learner.task_names[task]
            learner.logger.record(f"train/{name}/guide_{measure}", float(value), exclude="stdout")
    learner.logger.record("train/guide_blocked", float(blocked.mean()))
