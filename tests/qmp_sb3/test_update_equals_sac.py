"""One stacked update of N tasks is N separate soft actor-critics (specification, invariant 1)."""

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

from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env
from qmp_sb3.replay import Batch

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


def stacked_model(activation_fn: type[nn.Module], tasks: int = TASKS) -> QMP:
    env = BoxEnv() if tasks == 1 else make_multitask_vec_env([BoxEnv() for _ in range(tasks)])
    policy_kwargs = dict(net_arch=HIDDEN, activation_fn=activation_fn)
    return QMP("MlpPolicy", env, seed=0, policy_kwargs=policy_kwargs, buffer_size=10, device="cpu")


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
    return Batch(rows, OBS, ACT, rewards=rows[..., -2], continuations=rows[..., -1])


def train_stacked(model: MultiTaskSAC, steps: list[tuple[th.Tensor, th.Tensor]]) -> None:
    for rows, noise in steps:
        model.update(as_batch(rows), noise)
        model.critic_target.flat.polyak_(model.critic.flat, model.tau)


def copy_task(stacked: nn.Module, network: int, linears: list[nn.Linear]) -> None:
    """Weights of one stacked network, stored ``(in, out)``, into separate linear layers."""
    with th.no_grad():
        for weight, bias, linear in zip(stacked.weights, stacked.biases, linears, strict=True):
            linear.weight.copy_(weight[network].T)
            linear.bias.copy_(bias[network, 0])


def largest_difference(stacked: nn.Module, network: int, linears: list[nn.Linear]) -> float:
    return max(
        max((weight[network].T - linear.weight).abs().max().item(), (bias[network, 0] - linear.bias).abs().max().item())
        for weight, bias, linear in zip(stacked.weights, stacked.biases, linears, strict=True)
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
        copy_task(model.actor.network, task, linears(self.actor))
        for k, critic in enumerate(self.critics):
            copy_task(model.critic.network, k * TASKS + task, linears(critic))
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
        assert largest_difference(model.actor.network, task, linears(learner.actor)) < 1e-9
        for k in range(2):
            network = k * TASKS + task
            assert largest_difference(model.critic.network, network, linears(learner.critics[k])) < 1e-9
            assert largest_difference(model.critic_target.network, network, linears(learner.targets[k])) < 1e-9
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


@pytest.mark.parametrize("tasks", [1, TASKS])
def test_float32_stacked_update_equals_sb3_sac(tasks, monkeypatch):
    noise_source = Noise(monkeypatch)
    model = stacked_model(nn.Tanh, tasks)
    steps = injected(th.float32, tasks)
    references = []
    for task in range(tasks):
        policy_kwargs = dict(net_arch=HIDDEN, activation_fn=nn.Tanh)
        sac = SAC("MlpPolicy", BoxEnv(), policy_kwargs=policy_kwargs, buffer_size=10, device="cpu")
        actor = linears(sac.actor.latent_pi)
        copy_task(model.actor.network, task, [*actor, nn.Linear(HIDDEN[-1], 2 * ACT)])
        with th.no_grad():
            weight, bias = model.actor.network.weights[-1][task].T, model.actor.network.biases[-1][task, 0]
            for head, part in ((sac.actor.mu, slice(ACT)), (sac.actor.log_std, slice(ACT, None))):
                head.weight.copy_(weight[part])
                head.bias.copy_(bias[part])
        for k in range(2):
            copy_task(model.critic.network, k * tasks + task, linears(sac.critic.q_networks[k]))
        sac.critic_target.load_state_dict(sac.critic.state_dict())
        references.append(sac)

    train_stacked(model, steps)
    for task, sac in enumerate(references):
        batches = []
        for rows, noise in steps:
            one = rows[task]
            batches.append(
                ReplayBufferSamples(
                    observations=one[:, :OBS],
                    actions=one[:, OBS : OBS + ACT],
                    next_observations=one[:, OBS + ACT : 2 * OBS + ACT],
                    dones=1 - one[:, -1:],
                    rewards=one[:, -2:-1],
                )
            )
            noise_source.queue += [noise[0, task], noise[1, task]]
        sac.replay_buffer = InjectedBuffer(batches)
        sac.set_logger(Logger(folder=None, output_formats=[]))
        sac.train(gradient_steps=STEPS, batch_size=BATCH)
        heads = nn.Linear(HIDDEN[-1], 2 * ACT)
        with th.no_grad():
            heads.weight.copy_(th.cat([sac.actor.mu.weight, sac.actor.log_std.weight]))
            heads.bias.copy_(th.cat([sac.actor.mu.bias, sac.actor.log_std.bias]))
        assert largest_difference(model.actor.network, task, [*linears(sac.actor.latent_pi), heads]) < 1e-4
        for k in range(2):
            difference = largest_difference(model.critic.network, k * tasks + task, linears(sac.critic.q_networks[k]))
            assert difference < 1e-4
        assert abs(model.log_ent_coef[task].item() - sac.log_ent_coef.item()) < 1e-5
