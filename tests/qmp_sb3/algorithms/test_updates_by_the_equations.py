"""Every method's update of several tasks, against the equations of its page: one task after the other, plain autograd.

The tasks have different numbers of transitions, so that a mean over tasks and one over transitions are not the same.
"""

from copy import deepcopy

import numpy as np
import pytest
import torch as th
from torch import nn

from qmp_sb3 import MultiTaskSAC
from qmp_sb3.networks import TaskModule
from tests.qmp_sb3.algorithms.test_update_equals_sac import different_updates
from tests.qmp_sb3.objectives.test_objectives import ACT, BATCH, TASKS, literally, make_batch, make_noise
from tests.qmp_sb3.small_models import make

COUNTS = (12, 7, 4)
BETA, GAMMA = 0.5, 0.99
#: parts that no row of the table has, or not together
BESIDES = [
    dict(networks="multihead", task_weights="alpha"),
    dict(networks="onehot", task_weights="taskmean", gradients="pcgrad", regularizer="dnc(0.5)"),
    dict(networks={"actor": "multihead", "critic": "decaf"}, task_weights="mean", temperatures="shared"),
    dict(networks="soft_modules(layers=3, variant='ctpg')", task_weights="taskmean", gradients="pcgrad"),
    dict(networks="paco(sets=2)", task_weights="taskmean", gradients="pcgrad"),
    dict(networks="care", task_weights="mean", gradients="pcgrad"),
    dict(networks="shared_unique", task_weights="sum", regularizer="dnc(0.5)"),
]


class Literal:
    """The losses of one update, from copies of a model's networks; one number for each task."""

    def __init__(self, model: MultiTaskSAC) -> None:
        self.actor, self.critic, self.target = (
            deepcopy(one.network).requires_grad_() for one in (model.actor, model.critic, model.critic_target)
        )
        self.log_alpha = model.log_ent_coef.detach().clone().requires_grad_()
        self.alpha = model.temperature.clone()
        self.batch, self.noise = make_batch(counts=COUNTS), make_noise()

    def of_task(self, task: int) -> tuple[th.Tensor, ...]:
        """s, a, r, s', continuation and the noise at s and s', of the rows that count."""
        batch, n = self.batch, COUNTS[task]
        rows = (batch.observations, batch.actions, batch.rewards, batch.next_observations, batch.continuations)
        return *(one[task, :n] for one in rows), self.noise[0, task, :n], self.noise[1, task, :n]

    def normal(self, task: int, states: th.Tensor) -> th.distributions.Normal:
        mean, log_std = self.actor(states[None], th.tensor([task]))[0, 0].chunk(2, dim=-1)
        return th.distributions.Normal(mean, log_std.clamp(-20, 2).exp())

    def sample(self, task: int, states: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        normal = self.normal(task, states)
        before = normal.mean + normal.stddev * noise
        action = before.tanh()
        return action, (normal.log_prob(before) - (1 - action.square() + 1e-6).log()).sum(dim=-1)

    @staticmethod
    def values(critic: TaskModule, task: int, states: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """``(critics, rows)``"""
        return critic(th.cat([states, actions], dim=-1)[None], th.tensor([task]))[:, 0, :, 0]

    def temperature_losses(self) -> list[th.Tensor]:
        found = []
        for task in range(TASKS):
            states, *_, noise, _ = self.of_task(task)
            entropy = self.sample(task, states, noise)[1].detach() - ACT
            found.append(-self.log_alpha.expand(TASKS)[task] * entropy.mean())
        return found

    def critic_losses(self) -> list[th.Tensor]:
        found = []
        for task in range(TASKS):
            states, actions, rewards, nexts, continuations, _, noise = self.of_task(task)
            with th.no_grad():
                next_actions, log_prob = self.sample(task, nexts, noise)
                least = self.values(self.target, task, nexts, next_actions).amin(dim=0)
                target = rewards + GAMMA * continuations * (least - self.alpha[task] * log_prob)
            errors = self.values(self.critic, task, states, actions) - target
            found.append(sum(0.5 * one.square().mean() for one in errors))
        return found

    def actor_losses(self, beta: float) -> list[th.Tensor]:
        found = []
        # an equal share of states of every task
        share = th.cat([self.batch.observations[task, : BATCH // TASKS] for task in range(TASKS)])
        constant = [self.normal(task, share) for task in range(TASKS)]
        constant = [th.distributions.Normal(one.mean.detach(), one.stddev.detach()) for one in constant]
        for task in range(TASKS):
            states, *_, noise, _ = self.of_task(task)
            actions, log_prob = self.sample(task, states, noise)
            least = self.values(self.critic, task, states, actions).amin(dim=0)
            others = [one for number, one in enumerate(constant) if number != task]
            own = self.normal(task, share)
            drawn = sum(th.distributions.kl_divergence(other, own).mean() for other in others)
            found.append((self.alpha[task] * log_prob - least).mean() + beta * drawn)
        return found


def task_weights(name: str, alpha: np.ndarray) -> np.ndarray:
    """c of L = sum_i c_i L_i."""
    rows = np.array(COUNTS)
    inverse = 1 / alpha
    return {
        "sum": np.ones(TASKS),
        "mean": rows / rows.sum(),
        "taskmean": np.full(TASKS, 1 / TASKS),
        "alpha": inverse / inverse.sum(),
    }[name]


def weighted(c: np.ndarray, of_tasks) -> th.Tensor:
    return sum(float(one) * value for one, value in zip(c, of_tasks, strict=True))


def owned(network: TaskModule) -> list[nn.Parameter]:
    """Parameters that are not in common with other networks."""
    theirs = [parameter for part in network.common.values() for parameter in part.parameters()]
    return [one for one in network.parameters() if not any(one is parameter for parameter in theirs)]


def combined(losses: list[th.Tensor], parameters: list, copies: int, how: str, c: np.ndarray, rng) -> th.Tensor:
    """The gradient of an update, in the order of the parameters."""
    by_task = [th.autograd.grad(one, parameters, retain_graph=True) for one in losses]
    if how == "plain":
        return th.cat([weighted(c, of_tasks).flatten() for of_tasks in zip(*by_task, strict=True)])
    rows = np.array([th.cat([one.reshape(copies, -1) for one in gradients], dim=1).numpy() for gradients in by_task])
    copy_by_copy = np.array([c @ literally(rows[:, copy].astype(np.float64), rng) for copy in range(copies)])
    sizes = [parameter.numel() // copies for parameter in parameters]
    pieces = th.from_numpy(copy_by_copy).float().split(sizes, dim=1)
    return th.cat([one.flatten() for one in pieces])


CASES = [*different_updates(), *(pytest.param(parts, id=f"besides {n}") for n, parts in enumerate(BESIDES))]


@pytest.mark.parametrize("parts", CASES)
def test_the_gradients_of_an_update_are_those_of_the_methods_equations(parts):
    drawn, shared = "regularizer" in parts, parts.get("temperatures") == "shared"
    parts = parts | ({"regularizer": f"dnc({BETA})"} if drawn else {})  # large enough to be seen beside the rest
    model = make(cls=MultiTaskSAC, policy_kwargs={"activation_fn": nn.Tanh}, **parts)
    with th.no_grad():  # as in the middle of a training
        model.critic_target.flat.flat.mul_(0.9)
        model.log_ent_coef.copy_(th.tensor([0.3] if shared else [0.1, 0.5, 2.0]).log())
    literal, how, rng = Literal(model), model.gradients, deepcopy(model.streams.objective)
    c = task_weights(model.task_weights, literal.alpha.numpy().astype(np.float64))
    model.update(make_batch(counts=COUNTS), make_noise())

    learners = task_weights("mean" if shared else "sum", np.ones(TASKS))
    (expected,) = th.autograd.grad(weighted(learners, literal.temperature_losses()), literal.log_alpha)
    th.testing.assert_close(model.log_ent_coef.grad, expected, atol=1e-6, rtol=1e-5)

    losses, in_common = literal.critic_losses(), {}
    expected = combined(losses, owned(literal.critic), 2, how, c, rng)
    th.testing.assert_close(model.critic.flat.flat.grad, expected, atol=1e-5, rtol=1e-4)
    for name in model.critic.network.learned:
        in_common[name] = combined(losses, list(literal.critic.common[name].parameters()), 1, how, c, rng)

    before = deepcopy(literal.critic.common.state_dict())
    literal.critic.load_state_dict(model.critic.network.state_dict())  # the actor learns from the updated critics
    literal.critic.common.load_state_dict(before)  # and what they have in common steps last
    losses = literal.actor_losses(BETA if drawn else 0.0)
    expected = combined(losses, owned(literal.actor), 1, how, c, rng)
    th.testing.assert_close(model.actor.flat.flat.grad, expected, atol=1e-5, rtol=1e-4)
    assert expected.abs().max() > 1e-3
    for name in model.actor.network.learned:
        in_common[name] += combined(losses, list(literal.actor.common[name].parameters()), 1, how, c, rng)
    for name, gradient in in_common.items():
        th.testing.assert_close(model.critic.network.common[name].flat.flat.grad, gradient, atol=1e-5, rtol=1e-4)
        assert gradient.abs().max() > 1e-3
