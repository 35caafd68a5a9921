"""The work that is timed: ours, and the same done with Stable-Baselines3's means.

Everything has the sizes of the Multistage Reacher: 5 tasks, 15 observations, 6 actions, two hidden layers of 256.
"""

from __future__ import annotations

from collections.abc import Callable

import gymnasium as gym
import mujoco
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

import qmp_envs
from qmp_sb3 import QMP, make_multitask_vec_env

ID = "QMP/MultistageReacher-v0"
TASKS, OBSERVATIONS, ACTIONS, HIDDEN = 5, 15, 6, [256, 256]
STORED = 20_000  # transitions per task in the replay buffers: more than fit the processor's caches
UPDATES = 5  # per call of train(), which does its logging once
Workload = Callable[[], object]
Group = dict[str, Workload]
"""Variants of the same work; the first one is ours."""


class NoDynamics(gym.Env):
    """Spaces of the Reacher, nothing else: the learners are fed random transitions."""

    observation_space = spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(OBSERVATIONS, np.float32), {}

    def step(self, action):
        return np.zeros(OBSERVATIONS, np.float32), 0.0, False, False, {}


def _transitions(slots: int) -> list[np.ndarray]:
    """Observation, next observation, action, reward, done: ``(STORED, slots, ...)``."""
    rng = np.random.default_rng(0)
    observations, following = rng.normal(size=(2, STORED, slots, OBSERVATIONS)).astype(np.float32)
    actions = rng.uniform(-1, 1, (STORED, slots, ACTIONS)).astype(np.float32)
    return [observations, following, actions, rng.normal(size=(STORED, slots)), np.zeros((STORED, slots))]


def our_model(batch_size: int = 256) -> QMP:
    """One model of all tasks, with a filled replay buffer."""
    env = make_multitask_vec_env([NoDynamics() for _ in range(TASKS)])
    model = QMP(
        "MlpPolicy",
        env,
        seed=0,
        buffer_size=STORED,
        batch_size=batch_size,
        device="cpu",
        policy_kwargs={"net_arch": HIDDEN},
    )
    model.set_logger(Logger(None, []))
    infos: list[dict] = [{} for _ in range(TASKS)]
    for row in zip(*_transitions(TASKS), strict=True):
        model.replay_buffer.add(*row, infos)
    return model


def separate_models(batch_size: int = 256) -> list[SAC]:
    """One SB3 model per task, each with a filled replay buffer."""
    models = []
    for seed in range(TASKS):
        model = SAC(
            "MlpPolicy",
            NoDynamics(),
            seed=seed,
            buffer_size=STORED,
            batch_size=batch_size,
            device="cpu",
            policy_kwargs={"net_arch": HIDDEN},
        )
        model.set_logger(Logger(None, []))
        for row in zip(*_transitions(1), strict=True):
            model.replay_buffer.add(*row, [{}])
        models.append(model)
    return models


def update(batch_size: int) -> Group:
    """``UPDATES`` gradient steps of all five tasks, drawing the batches included."""
    ours, separate = our_model(batch_size), separate_models(batch_size)

    def five_models() -> None:
        for model in separate:
            model.train(UPDATES, batch_size)

    return {"ours": lambda: ours.train(UPDATES, batch_size), "five SB3 SACs": five_models}


@th.no_grad()
def looped_switch(models: list[SAC], observations: np.ndarray) -> np.ndarray:
    """The Q-switch as one writes it for five SB3 models: actions ``(tasks, act)`` for ``(tasks, obs)``."""
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


def action_selection() -> Group:
    """One Q-switched action for each of five slots."""
    ours, separate = our_model(), separate_models()
    observations = np.random.default_rng(1).normal(size=(TASKS, OBSERVATIONS)).astype(np.float32)
    return {
        "ours": lambda: ours._act(observations),
        "looped over five SB3 SACs": lambda: looped_switch(separate, observations),
        "looped, by predict()": lambda: looped_switch_by_predict(separate, observations),
    }


def environment_step() -> Group:
    """One step of all five tasks of the Multistage Reacher with random actions, resets included."""
    batched, as_vec_env = gym.make_vec(ID), make_multitask_vec_env(ID)
    dummy = DummyVecEnv([lambda task=task: gym.make(ID, task=task) for task in range(TASKS)])  # type: ignore[misc]
    batched.reset(seed=0)
    for vec_env in (as_vec_env, dummy):
        vec_env.seed(0)
        vec_env.reset()
    task_set = qmp_envs.make_task_set(ID)
    model = task_set.models[0]
    states = [mujoco.MjData(model) for _ in range(TASKS)]
    actions = Actions()

    def raw() -> None:
        for data, action in zip(states, actions(), strict=True):
            data.ctrl[:] = action
            mujoco.mj_step(model, data, task_set.frame_skip)
            if data.time > task_set.horizon * task_set.frame_skip * model.opt.timestep:
                mujoco.mj_resetData(model, data)

    return {
        "ours, gym.make_vec": lambda: batched.step(actions()),
        "ours, MultiTaskVecEnv": lambda: as_vec_env.step(actions()),
        "SB3 DummyVecEnv of gym.make": lambda: dummy.step(actions()),
        "only mj_step": raw,
    }


class Actions:
    """Random actions ``(tasks, act)``, drawn beforehand and repeated."""

    def __init__(self) -> None:
        self.drawn = np.random.default_rng(2).uniform(-1, 1, (1000, TASKS, ACTIONS)).astype(np.float32)
        self.next = 0

    def __call__(self) -> np.ndarray:
        self.next = (self.next + 1) % len(self.drawn)
        return self.drawn[self.next]


GROUPS: dict[str, Callable[[], Group]] = {
    "update, batch 32": lambda: update(32),
    "update, batch 256": lambda: update(256),
    "action selection": action_selection,
    "environment step": environment_step,
}
"""What is measured; each entry builds its variants."""
