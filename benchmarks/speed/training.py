"""Whole trainings and evaluations on the Multistage Reacher, beside what one writes with SB3's means."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.speed.interleaved import Variant
from benchmarks.speed.learners import BACKENDS, HIDDEN, looped_switch
from qmp_sb3 import QMP, MultiTaskSAC, make_multitask_vec_env, presets
from qmp_sb3.evaluation import OwnPolicy, evaluate_tasks

ID = "QMP/MultistageReacher-v0"
TASKS = 5
BATCH = 32
CAPACITY = 20_000  # transitions per task: more than fit the processor's caches
VECTOR_STEPS = 100  # in one call
WARM_UP = 200  # vector steps before the first measurement
SEPARATE = "separate SB3 SACs and a looped Q-switch"
ONE_BY_ONE = "SB3's evaluate_policy, task by task"


class SeparateTraining:
    """One SB3 SAC per task, trained side by side: the Q-switch acts in a DummyVecEnv, then every model learns.

    :param every: vector steps between updates; each model makes one then
    """

    def __init__(self, every: int) -> None:
        self.every, self.steps = every, 0
        self.envs = DummyVecEnv([lambda task=task: Monitor(gym.make(ID, task=task)) for task in range(TASKS)])  # type: ignore[misc]
        self.models = [_sac(task) for task in range(TASKS)]
        self.envs.seed(0)
        self.observations = self.envs.reset()

    def run(self, vector_steps: int) -> None:
        """Go on for so many vector steps."""
        for _ in range(vector_steps):
            actions = looped_switch(self.models, self.observations)  # type: ignore[arg-type]
            following, rewards, dones, infos = self.envs.step(actions)
            for task, model in enumerate(self.models):
                one, last = slice(task, task + 1), infos[task].get("terminal_observation")
                stored = following[one] if last is None else last[None]  # type: ignore[index]
                model.replay_buffer.add(  # type: ignore[union-attr]
                    self.observations[one], stored, actions[one], rewards[one], dones[one], infos[one]
                )
            self.observations = following
            self.steps += 1
            if self.steps % self.every == 0 and self.steps >= BATCH:
                for model in self.models:
                    model.train(1, BATCH)


def _sac(task: int) -> SAC:
    model = SAC(
        "MlpPolicy",
        gym.make(ID, task=task),
        seed=task,
        batch_size=BATCH,
        buffer_size=CAPACITY,
        device="cpu",
        policy_kwargs={"net_arch": HIDDEN},
    )
    model.set_logger(Logger(None, []))
    return model


def our_training(every: int, **arguments: Any) -> QMP:
    """The same schedule, batch and networks."""
    return QMP(
        "MlpPolicy",
        ID,
        seed=0,
        batch_size=BATCH,
        buffer_size=CAPACITY,
        train_freq=every,
        gradient_steps=1,
        learning_starts=BATCH * TASKS,
        device="cpu",
        policy_kwargs={"net_arch": HIDDEN},
        **arguments,
    )


def learning(model: MultiTaskSAC, vector_steps: int) -> Variant:
    """``learn`` for so many vector steps a call, on and on."""
    th.set_num_threads(1)  # the variants share a process: ``num_threads`` is for native code here
    model.set_logger(Logger(None, []))
    slots = model.n_envs

    def work() -> None:
        model.learn(vector_steps * slots, reset_num_timesteps=False)

    return Variant(work, vector_steps, model.env.close)  # type: ignore[union-attr]


def training(every: int) -> dict[str, Variant]:
    """Vector steps of a whole training, with one update of all tasks after ``every`` of them."""
    separate = SeparateTraining(every)
    separate.run(WARM_UP)
    ours = {}
    for name, arguments in BACKENDS.items():
        model = our_training(every, **arguments)
        ours[name] = learning(model, VECTOR_STEPS)
        model.learn(WARM_UP * TASKS)
    peer = Variant(lambda: separate.run(VECTOR_STEPS), VECTOR_STEPS, separate.envs.close)
    return {**ours, SEPARATE: peer}


def method_training(id: str, method: str, other: str) -> dict[str, Variant]:
    """Vector steps of two methods' trainings with the preset ``fast``, which differ by their parts alone."""
    variants = {}
    for name in (method, other):
        model = presets.make(name, id, seed=0, device="cpu", buffer_size=CAPACITY)
        variants[name] = learning(model, _period(model))
        model.learn(model.learning_starts + WARM_UP * model.n_envs)
    return variants


def _period(model: MultiTaskSAC) -> int:
    """At least ``VECTOR_STEPS``, in whole collections."""
    frequency = model.train_freq if isinstance(model.train_freq, int) else model.train_freq.frequency  # type: ignore[union-attr]
    return -(-VECTOR_STEPS // frequency) * frequency


def evaluation(episodes: int) -> dict[str, Variant]:
    """So many episodes of every task with its own deterministic policy."""
    model = our_training(1)
    th.set_num_threads(1)
    envs = make_multitask_vec_env(ID, envs_per_task=episodes)
    separate = [_sac(task) for task in range(TASKS)]
    single = [DummyVecEnv([lambda task=task: Monitor(gym.make(ID, task=task))]) for task in range(TASKS)]  # type: ignore[misc]

    def one_by_one() -> None:
        for sac, env in zip(separate, single, strict=True):
            evaluate_policy(sac, env, n_eval_episodes=episodes, warn=False)

    def end() -> None:
        for env in single:
            env.close()

    return {
        "evaluate_tasks": Variant(lambda: evaluate_tasks(OwnPolicy(model), envs, episodes, 0), close=envs.close),
        ONE_BY_ONE: Variant(one_by_one, close=end),
    }
