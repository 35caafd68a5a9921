"""One stacked update of N tasks is N separate soft actor-critics (specification, invariant 1).

And every method's update, with one task, is Stable-Baselines3's.
"""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import nn

from qmp_sb3 import MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.replay import Batch, RowFormat

OBS, ACT, BATCH, TASKS, STEPS = 15, 6, 32, 3, 100
HIDDEN = [64, 64]


class BoxEnv(gym.Env):
    """Spaces without dynamics: these tests inject their batches."""

    observation_space = spaces.Box(-1.0, 1.0, (OBS,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (ACT,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(OBS, np.float32), {}

    def step(self, action):
        return np.zeros(OBS, np.float32), 0.0, False, False, {}


def stacked_model(activation_fn: type[nn.Module], tasks: int = TASKS, **parts) -> MultiTaskSAC:
    env = BoxEnv() if tasks == 1 else make_multitask_vec_env([BoxEnv() for _ in range(tasks)])
    policy_kwargs = dict(net_arch=HIDDEN, activation_fn=activation_fn)
    settings = dict(seed=0, policy_kwargs=policy_kwargs, buffer_size=10, device="cpu")
    return MultiTaskSAC("MlpPolicy", env, **settings, **parts)


def injected(dtype: th.dtype, tasks: int = TASKS) -> list[tuple[th.Tensor, th.Tensor]]:
    """Rows ``(tasks, batch, [s|a|s'|a'|r|continuation])`` and noise ``(2, tasks, batch, act)`` of every step."""
    rng = np.random.default_rng(1)
    steps = []
    for _ in range(STEPS):
        rows = rng.normal(size=(tasks, BATCH, 2 * (OBS + ACT) + 2))
        rows[..., OBS : OBS + ACT] = np.tanh(rows[..., OBS : OBS + ACT])
        rows[..., -1] = rng.random((tasks, BATCH)) > 0.1
        noise = rng.normal(size=(2, tasks, BATCH, ACT))
        steps.append((th.as_tensor(rows, dtype=dtype), th.as_tensor(noise, dtype=dtype)))
    return steps


def as_batch(rows: th.Tensor) -> Batch:
    rows = rows.clone()
    return Batch(rows, RowFormat(OBS, ACT), rewards=rows[..., -2], continuations=rows[..., -1])


def train_stacked(model: MultiTaskSAC, steps: list[tuple[th.Tensor, th.Tensor]]) -> None:
    for rows, noise in steps:
        model.update(as_batch(rows), noise)
        model.critic_target.flat.polyak_(model.critic.flat, model.tau)


Layers = list[tuple[th.Tensor, th.Tensor]]
"""Weights ``(in, out)`` and biases ``(out,)``."""


def layers(network: nn.Module, number: int) -> Layers:
    """The layers that one of the stacked networks consists of, whatever its family; ``number`` counts in the stack."""
    network = getattr(network, "values", network)  # what DECAF mixes
    while hasattr(network, "shared"):
        network = network.shared
    stacks = (network.trunk, network.heads) if hasattr(network, "trunk") else (network,)
    parameters = [pair for stack in stacks for pair in zip(stack.weights, stack.biases, strict=True)]
    return [(weight.detach()[number], bias.detach()[number, 0]) for weight, bias in parameters]


@th.no_grad()
def copy_layers(ours: Layers, theirs: list[nn.Linear]) -> None:
    for (weight, bias), linear in zip(ours, theirs, strict=True):
        linear.weight.copy_(weight.T)
        linear.bias.copy_(bias)


def largest_difference(ours: Layers, theirs: list[nn.Linear]) -> float:
    pairs = list(zip(ours, theirs, strict=True))
    return max(
        max((weight.T - linear.weight).abs().max().item(), (bias - linear.bias).abs().max().item())
        for (weight, bias), linear in pairs
    )


def linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


class SeparateSAC:
    """One task, written in SB3's order with ordinary modules: temperature, critics, actor, targets."""

    def __init__(self, model: MultiTaskSAC, task: int, activation_fn: type[nn.Module]) -> None:
        def mlp(sizes: list[int]) -> nn.Sequential:
            layers: list[nn.Module] = []
            for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True):
                layers += [nn.Linear(fan_in, fan_out, dtype=th.float64), activation_fn()]
            return nn.Sequential(*layers[:-1])

        self.actor = mlp([OBS, *HIDDEN, 2 * ACT])
        self.critics = [mlp([OBS + ACT, *HIDDEN, 1]) for _ in range(2)]
        copy_layers(layers(model.actor.network, task), linears(self.actor))
        for k, critic in enumerate(self.critics):
            copy_layers(layers(model.critic.network, k * TASKS + task), linears(critic))
        self.targets = deepcopy(self.critics)
        self.log_alpha = th.zeros(1, dtype=th.float64, requires_grad=True)
        learning_rate = 3e-4
        self.optimizers = [
            th.optim.Adam([self.log_alpha], lr=learning_rate),
            th.optim.Adam([p for critic in self.critics for p in critic.parameters()], lr=learning_rate),
            th.optim.Adam(self.actor.parameters(), lr=learning_rate),
        ]

    def sample(self, state: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        mean, log_std = self.actor(state).chunk(2, dim=-1)
        normal = th.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        before = mean + normal.stddev * noise
        action = th.tanh(before)
        return action, normal.log_prob(before).sum(-1) - th.log(1 - action**2 + 1e-6).sum(-1)

    def apply(self, loss: th.Tensor, optimizer: th.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def update(self, rows: th.Tensor, noise: th.Tensor) -> None:
        s, a, s2 = rows[:, :OBS], rows[:, OBS : OBS + ACT], rows[:, OBS + ACT : 2 * OBS + ACT]
        action, log_prob = self.sample(s, noise[0])
        alpha = self.log_alpha.detach().exp()
        self.apply(-(self.log_alpha * (log_prob - ACT).detach()).mean(), self.optimizers[0])
        with th.no_grad():
            action2, log_prob2 = self.sample(s2, noise[1])
            values2 = th.cat([target(th.cat([s2, action2], -1)) for target in self.targets], -1).min(-1).values
            y = rows[:, -2] + 0.99 * rows[:, -1] * (values2 - alpha * log_prob2)
        values = [critic(th.cat([s, a], -1)).squeeze(-1) for critic in self.critics]
        self.apply(0.5 * sum(((value - y) ** 2).mean() for value in values), self.optimizers[1])
        value = th.cat([critic(th.cat([s, action], -1)) for critic in self.critics], -1).min(-1).values
        self.apply((alpha * log_prob - value).mean(), self.optimizers[2])
        with th.no_grad():
            for critic, target in zip(self.critics, self.targets, strict=True):
                for p, q in zip(critic.parameters(), target.parameters(), strict=True):
                    q.mul_(1 - 0.005).add_(p, alpha=0.005)


@pytest.mark.parametrize("activation_fn", [nn.Tanh, nn.ReLU])
def test_float64_stacked_update_equals_separate_learners(activation_fn):
    model = stacked_model(activation_fn)
    model.policy.double()
    model.log_ent_coef = th.zeros(TASKS, dtype=th.float64, requires_grad=True)
    model.ent_coef_optimizer = th.optim.Adam([model.log_ent_coef], lr=3e-4)
    separate = [SeparateSAC(model, task, activation_fn) for task in range(TASKS)]
    start = model.actor.flat.flat.detach().clone()
    steps = injected(th.float64)
    train_stacked(model, steps)
    for task, learner in enumerate(separate):
        for rows, noise in steps:
            learner.update(rows[task], noise[:, task])
        assert largest_difference(layers(model.actor.network, task), linears(learner.actor)) < 1e-9
        for k in range(2):
            network = k * TASKS + task
            assert largest_difference(layers(model.critic.network, network), linears(learner.critics[k])) < 1e-9
            assert largest_difference(layers(model.critic_target.network, network), linears(learner.targets[k])) < 1e-9
        assert abs(model.log_ent_coef[task].item() - learner.log_alpha.item()) < 1e-9
    assert (model.actor.flat.flat - start).abs().max() > 1e-3, "the actors did not move"


class Noise:
    """Feeds prepared noise to SB3's Gaussian instead of the global generator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue: list[th.Tensor] = []
        monkeypatch.setattr(
            th.distributions.Normal, "rsample", lambda normal, shape=(): normal.loc + normal.scale * self.queue.pop(0)
        )


class InjectedBuffer:
    """Hands SB3's SAC the prepared batches."""

    def __init__(self, batches: list[ReplayBufferSamples]) -> None:
        self.batches = batches

    def sample(self, batch_size, env=None):
        return self.batches.pop(0)


class StableBaselines:
    """SB3's SAC with the weights of a model's networks."""

    def __init__(self, actor: Layers, critics: list[Layers], features: int = OBS) -> None:
        class Env(BoxEnv):
            observation_space = spaces.Box(-1.0, 1.0, (features,), np.float32)

        policy_kwargs = dict(net_arch=HIDDEN, activation_fn=nn.Tanh)
        self.sac = SAC("MlpPolicy", Env(), policy_kwargs=policy_kwargs, buffer_size=10, device="cpu")
        self.sac.set_logger(Logger(folder=None, output_formats=[]))
        weight, bias = actor[-1]
        heads = [(weight[:, part], bias[part]) for part in (slice(ACT), slice(ACT, None))]
        policy = self.sac.actor
        copy_layers([*actor[:-1], *heads], [*linears(policy.latent_pi), policy.mu, policy.log_std])
        for critic, q_network in zip(critics, self.sac.critic.q_networks, strict=True):
            copy_layers(critic, linears(q_network))
        self.sac.critic_target.load_state_dict(self.sac.critic.state_dict())

    def train(self, steps: list[tuple[th.Tensor, th.Tensor]], noise_source: Noise) -> None:
        """Rows ``(batch, [s|a|s'|a'|r|continuation])`` and noise ``(2, batch, act)`` of every step."""
        told = self.sac.observation_space.shape != (OBS,)
        batches = []
        for rows, noise in steps:
            observations, next_observations = rows[:, :OBS], rows[:, OBS + ACT : 2 * OBS + ACT]
            if told:  # a last feature that is always one
                one = th.ones(len(rows), 1)
                observations, next_observations = (th.cat([x, one], 1) for x in (observations, next_observations))
            actions, dones, rewards = rows[:, OBS : OBS + ACT], 1 - rows[:, -1:], rows[:, -2:-1]
            batches.append(ReplayBufferSamples(observations, actions, next_observations, dones, rewards))
            noise_source.queue += [noise[0], noise[1]]
        self.sac.replay_buffer = InjectedBuffer(batches)
        self.sac.train(gradient_steps=len(steps), batch_size=BATCH)

    def largest_difference(self, actor: Layers, critics: list[Layers]) -> float:
        heads = nn.Linear(HIDDEN[-1], 2 * ACT)
        policy = self.sac.actor
        with th.no_grad():
            heads.weight.copy_(th.cat([policy.mu.weight, policy.log_std.weight]))
            heads.bias.copy_(th.cat([policy.mu.bias, policy.log_std.bias]))
        q_networks = zip(critics, self.sac.critic.q_networks, strict=True)
        return max(
            largest_difference(actor, [*linears(policy.latent_pi), heads]),
            *(largest_difference(critic, linears(q_network)) for critic, q_network in q_networks),
        )


@pytest.mark.parametrize("tasks", [1, TASKS])
def test_float32_stacked_update_equals_sb3_sac(tasks, monkeypatch):
    noise_source = Noise(monkeypatch)
    model = stacked_model(nn.Tanh, tasks)
    steps = injected(th.float32, tasks)

    def of_task(task: int) -> tuple[Layers, list[Layers]]:
        return layers(model.actor.network, task), [layers(model.critic.network, k * tasks + task) for k in range(2)]

    references = [StableBaselines(*of_task(task)) for task in range(tasks)]
    train_stacked(model, steps)
    for task, reference in enumerate(references):
        reference.train([(rows[task], noise[:, task]) for rows, noise in steps], noise_source)
        assert reference.largest_difference(*of_task(task)) < 1e-4
        assert abs(model.log_ent_coef[task].item() - reference.sac.log_ent_coef.item()) < 1e-5


# ---- every method with one task ----

UPDATE_PARTS = ("networks", "task_weights", "gradients", "regularizer", "temperatures")


def different_updates() -> list:
    """The methods that differ in how they update, each with those of its parts that say so."""
    found: dict[str, tuple[str, dict]] = {}
    for name, row in presets.methods().items():
        parts = {argument: value for argument, value in row.parts.items() if argument in UPDATE_PARTS}
        found.setdefault(repr(parts), (name, parts))
    return [pytest.param(parts, id=name) for name, parts in found.values()]


def only_task(model: MultiTaskSAC, told: bool) -> tuple[Layers, list[Layers]]:
    """Layers of actor and critics; a task that is told is a feature for SB3, which puts it before the action."""
    actor, critics = layers(model.actor.network, 0), [layers(model.critic.network, k) for k in range(2)]
    if told:
        order = [*range(OBS), OBS + ACT, *range(OBS, OBS + ACT)]
        critics = [[(critic[0][0][order], critic[0][1]), *critic[1:]] for critic in critics]
    return actor, critics


#: with one task the other families are no perceptrons, which SB3 has
PERCEPTRONS = ("independent", "shared", "onehot", "multihead", "decaf")


def perceptrons(parts: dict) -> bool:
    networks = parts.get("networks", "independent")
    return set(networks.values() if isinstance(networks, dict) else [networks]) <= set(PERCEPTRONS)


@pytest.mark.parametrize("parts", [case for case in different_updates() if perceptrons(case.values[0])])
def test_every_methods_update_with_one_task_is_sb3s(parts, monkeypatch):
    noise_source, told = Noise(monkeypatch), parts.get("networks") == "onehot"
    model, steps = stacked_model(nn.Tanh, tasks=1, **parts), injected(th.float32, tasks=1)[:30]
    reference = StableBaselines(*only_task(model, told), features=OBS + told)
    start = model.actor.flat.flat.detach().clone()
    train_stacked(model, steps)
    reference.train([(rows[0], noise[:, 0]) for rows, noise in steps], noise_source)
    assert reference.largest_difference(*only_task(model, told)) < 2e-5
    assert abs(model.log_ent_coef.item() - reference.sac.log_ent_coef.item()) < 1e-6
    assert (model.actor.flat.flat - start).abs().max() > 1e-3, "the actor did not move"


# ---- methods that are known learners with several tasks too ----


@pytest.mark.parametrize("counts", [None, (BATCH, 20, 5), (BATCH, 0, 7)], ids=str)
def test_fully_shared_is_one_sac_on_the_mixed_batch(counts, monkeypatch):
    noise_source = Noise(monkeypatch)
    parts = {name: presets.method("fully-shared").parts[name] for name in ("networks", "task_weights", "temperatures")}
    model, steps = stacked_model(nn.Tanh, **parts), injected(th.float32)[:30]
    reference = StableBaselines(*only_task(model, told=False))
    for rows, noise in steps:
        batch = as_batch(rows)
        if counts is not None:
            batch.counts = th.tensor(counts)
            batch.weights = (th.arange(BATCH) < batch.counts[:, None]) / batch.counts.clamp(min=1)[:, None]
        model.update(batch, noise)
        model.critic_target.flat.polyak_(model.critic.flat, model.tau)
    used = [(task, slice(count)) for task, count in enumerate(counts or [BATCH] * TASKS)]
    mixed = [
        (th.cat([rows[one] for one in used]), th.cat([noise[:, task, count] for task, count in used], dim=1))
        for rows, noise in steps
    ]
    reference.train(mixed, noise_source)
    assert reference.largest_difference(*only_task(model, told=False)) < 2e-5
    assert abs(model.log_ent_coef.item() - reference.sac.log_ent_coef.item()) < 1e-6


def test_decaf_whose_mixers_are_one_hot_is_no_sharing():
    """Invariant 12: exactly one weight is not zero, so the mixers get no gradient and stay."""
    plain, decaf = stacked_model(nn.Tanh), stacked_model(nn.Tanh, **presets.method("decaf").parts)
    with th.no_grad():
        for one, other in ((decaf.critic, plain.critic), (decaf.critic_target, plain.critic_target)):
            one.network.values.load_state_dict(other.network.state_dict())
            one.network.mixers.weights[-1].zero_()
            one.network.mixers.biases[-1].copy_(1e4 * th.eye(TASKS).repeat(2, 1)[:, None])
        decaf.actor.load_state_dict(plain.actor.state_dict())
    start = plain.critic.flat.flat.detach().clone()
    for model in (plain, decaf):
        train_stacked(model, injected(th.float32)[:30])
    th.testing.assert_close(decaf.actor.state_dict(), plain.actor.state_dict(), atol=1e-5, rtol=0)
    for one, other in ((decaf.critic, plain.critic), (decaf.critic_target, plain.critic_target)):
        th.testing.assert_close(one.network.values.state_dict(), other.network.state_dict(), atol=1e-5, rtol=0)
    assert (plain.critic.flat.flat - start).abs().max() > 1e-3


def test_pcgrad_on_independent_networks_is_no_sharing():
    """Invariant 7: gradients of separate networks are never in conflict."""
    plain, pcgrad = stacked_model(nn.Tanh), stacked_model(nn.Tanh, gradients="pcgrad")
    for model in (plain, pcgrad):
        train_stacked(model, injected(th.float32)[:30])
    th.testing.assert_close(pcgrad.policy.state_dict(), plain.policy.state_dict(), atol=1e-5, rtol=0)
