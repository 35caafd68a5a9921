"""Learners without an environment worth the name: ours, and the same work done by separate SB3 models.

Sizes are those of the Multistage Reacher: 15 observations, 6 actions, two hidden layers of 256.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from benchmarks.speed.interleaved import Variant
from qmp_sb3 import QMP, make_multitask_vec_env

OBSERVATIONS, ACTIONS, HIDDEN = 15, 6, [256, 256]
STORED = 10_000  # transitions per task in the replay buffers: more than fit the processor's caches
BACKENDS: dict[str, dict[str, Any]] = {
    "torch": {"backend": "torch"},
    "native": {"backend": "native"},
    "native, 2 threads": {"backend": "native", "num_threads": 2},
}
"""Ways to compute the same, each with one thread unless it says otherwise: name -> arguments of the constructor."""

PER = {"replay": "pool", "draw": "per"}
TA_PER = {"replay": "mass", "draw": "per"}
UNIFORM = "ours, uniform"
SEPARATE, SEPARATE_BUFFERS = "separate SB3 SACs", "separate SB3 buffers"
ARITHMETIC = "its arithmetic, as one large matrix product"
LARGE = 1024  # rows and columns of that
LOOPED, BY_PREDICT = "looped over SB3 SACs", "looped, by predict()"


class NoDynamics(gym.Env):
    """Spaces of the Reacher, nothing else: the learners are fed random transitions."""

    observation_space = spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(OBSERVATIONS, np.float32), {}

    def step(self, action):
        return np.zeros(OBSERVATIONS, np.float32), 0.0, False, False, {}


def transitions(steps: int, slots: int) -> list[np.ndarray]:
    """Observation, next observation, action, reward, done: ``(steps, slots, ...)``."""
    rng = np.random.default_rng(0)
    observations, following = rng.normal(size=(2, steps, slots, OBSERVATIONS)).astype(np.float32)
    actions = rng.uniform(-1, 1, (steps, slots, ACTIONS)).astype(np.float32)
    return [observations, following, actions, rng.normal(size=(steps, slots)), np.zeros((steps, slots))]


def our_model(tasks: int, batch_size: int, **arguments: Any) -> QMP:
    """One model of all tasks, with a full replay buffer."""
    model = QMP(
        "MlpPolicy",
        make_multitask_vec_env([NoDynamics() for _ in range(tasks)]),
        seed=0,
        buffer_size=STORED,
        batch_size=batch_size,
        device="cpu",
        policy_kwargs={"net_arch": HIDDEN},
        **arguments,
    )
    th.set_num_threads(1)  # the variants share a process: ``num_threads`` is for native code here
    model.set_logger(Logger(None, []))
    infos: list[dict] = [{} for _ in range(tasks)]
    for row in zip(*transitions(STORED, tasks), strict=True):
        model.replay_buffer.add(*row, infos)
    return model


def separate_models(tasks: int, batch_size: int, **arguments: Any) -> list[SAC]:
    """One SB3 model per task, each with a full replay buffer."""
    models = []
    for seed in range(tasks):
        model = SAC(
            "MlpPolicy",
            NoDynamics(),
            seed=seed,
            buffer_size=STORED,
            batch_size=batch_size,
            device="cpu",
            policy_kwargs={"net_arch": HIDDEN},
            **arguments,
        )
        fill(model)
        models.append(model)
    return models


def fill(model: OffPolicyAlgorithm) -> None:
    """Give a model of one task, SB3's or SBX's, a full replay buffer and a logger that writes nowhere."""
    model.set_logger(Logger(None, []))
    buffer = model.replay_buffer
    assert buffer is not None
    stored = (buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards, buffer.dones)
    for array, values in zip(stored, transitions(STORED, 1), strict=True):
        array[:] = values
    buffer.pos, buffer.full = 0, True


def update(tasks: int, batch_size: int, steps: int) -> dict[str, Variant]:
    """Gradient steps of all tasks, ``steps`` a call, drawing the batches included."""
    separate = separate_models(tasks, batch_size)

    def one_by_one() -> None:
        for model in separate:
            model.train(steps, batch_size)

    def together(model: QMP) -> Variant:
        return Variant(lambda: model.train(steps, batch_size), steps)

    ours = {name: together(our_model(tasks, batch_size, **arguments)) for name, arguments in BACKENDS.items()}
    left, right = th.randn(2, LARGE, LARGE)
    arithmetic = Variant(lambda: th.mm(left, right), 2 * LARGE**3 / floating_point_operations(tasks, batch_size))
    return {**ours, SEPARATE: Variant(one_by_one, steps), ARITHMETIC: arithmetic}


def floating_point_operations(tasks: int, batch_size: int) -> int:
    """Of the matrix products in one gradient step of all tasks, none wasted: what float32 cannot avoid."""
    actor = [(OBSERVATIONS, HIDDEN[0]), (HIDDEN[0], HIDDEN[1]), (HIDDEN[1], 2 * ACTIONS)]
    critic = [(OBSERVATIONS + ACTIONS, HIDDEN[0]), (HIDDEN[0], HIDDEN[1]), (HIDDEN[1], 1)]
    one_actor, one_critic = (sum(i * o for i, o in layers) for layers in (actor, critic))
    inputs_of_actor, inputs_of_critic = (sum(i * o for i, o in layers[1:]) for layers in (actor, critic))
    acting = 3 * one_actor + inputs_of_actor  # forward on two states; gradients of the weights, of inner layers
    judging = 2 * (3 * one_critic + inputs_of_critic)  # of both critics: targets, values; the same gradients
    improving = 2 * (2 * one_critic - OBSERVATIONS * HIDDEN[0])  # values of new actions, and back to the actions
    return 2 * (acting + judging + improving) * batch_size * tasks


@th.no_grad()
def looped_switch(models: list[SAC], observations: np.ndarray) -> np.ndarray:
    """The Q-switch as one writes it for SB3 models: actions ``(tasks, act)`` for ``(tasks, obs)``."""
    actions = []
    for own, observation in zip(models, observations, strict=True):
        row = th.as_tensor(observation[None])
        candidates = th.cat([model.actor(row, deterministic=True) for model in models])
        values = own.critic.q1_forward(row.expand(len(models), -1), candidates)
        best = models[int(values.argmax())]
        actions.append(best.actor(row).numpy()[0])
    return np.stack(actions)


def looped_switch_by_predict(models: list[SAC], observations: np.ndarray) -> np.ndarray:
    """The same by ``predict``, SB3's documented way to ask a model."""
    actions = []
    for own, observation in zip(models, observations, strict=True):
        candidates = np.stack([model.predict(observation, deterministic=True)[0] for model in models])
        with th.no_grad():
            rows = th.as_tensor(np.tile(observation, (len(models), 1)))
            values = own.critic.q1_forward(rows, th.as_tensor(candidates))
        best = models[int(values.argmax())]
        actions.append(best.predict(observation)[0])
    return np.stack(actions)


def q_switch(tasks: int) -> dict[str, Variant]:
    """One Q-switched action for each of as many slots as tasks."""
    separate = separate_models(tasks, 32)
    observations = np.random.default_rng(1).normal(size=(tasks, OBSERVATIONS)).astype(np.float32)

    def acting(model: QMP) -> Variant:
        return Variant(lambda: model._act(observations))

    ours = {name: acting(our_model(tasks, 32, **arguments)) for name, arguments in BACKENDS.items()}
    return {
        **ours,
        LOOPED: Variant(lambda: looped_switch(separate, observations)),
        BY_PREDICT: Variant(lambda: looped_switch_by_predict(separate, observations)),
    }


def replay_add(tasks: int) -> dict[str, Variant]:
    """One transition of every task into its buffer."""
    ours = our_model(tasks, 32).replay_buffer
    buffers = [model.replay_buffer for model in separate_models(tasks, 32)]
    row = [values[0] for values in transitions(1, tasks)]
    single = [[values[slot : slot + 1] for values in row] for slot in range(tasks)]
    infos: list[dict] = [{} for _ in range(tasks)]

    def one_by_one() -> None:
        for buffer, values in zip(buffers, single, strict=True):
            buffer.add(*values, [{}])  # type: ignore[union-attr]

    return {"ours": Variant(lambda: ours.add(*row, infos)), SEPARATE_BUFFERS: Variant(one_by_one)}


def replay_sample(tasks: int, batch_size: int) -> dict[str, Variant]:
    """A batch of every task."""
    ours = our_model(tasks, batch_size).replay_buffer
    buffers = [model.replay_buffer for model in separate_models(tasks, batch_size)]

    def one_by_one() -> None:
        for buffer in buffers:
            buffer.sample(batch_size)  # type: ignore[union-attr]

    return {"ours": Variant(lambda: ours.sample(batch_size)), SEPARATE_BUFFERS: Variant(one_by_one)}


def replay_sample_by_priority(tasks: int, batch_size: int) -> dict[str, Variant]:
    """A batch of all tasks, uniformly drawn and by the two prioritized replays."""
    ours = our_model(tasks, batch_size).replay_buffer
    variants = {UNIFORM: Variant(lambda: ours.sample(batch_size))}
    for name, parts in (("per", PER), ("ta-per", TA_PER)):
        buffer = our_model(tasks, batch_size, **parts).replay_buffer
        variants[name] = Variant(partial(buffer.sample, batch_size))
    return variants


def replay_feedback(tasks: int, batch_size: int) -> dict[str, Variant]:
    """The errors of a batch made priorities; beside it, what drawing it uniformly costs."""
    ours = our_model(tasks, batch_size).replay_buffer
    buffer = our_model(tasks, batch_size, **PER).replay_buffer
    batch = buffer.sample(batch_size)
    batch.errors = th.rand(batch.rewards.shape)
    return {UNIFORM: Variant(lambda: ours.sample(batch_size)), "feedback": Variant(lambda: buffer.feedback(batch))}
