"""What parts may ask of the algorithm that they are parts of.

A hook asks it in every call; a behavior when it is set up and when it learns. To choose whose policy acts, a behavior
gets :class:`~qmp_sb3.behaviors.proposals.Proposals` instead.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq

from qmp_sb3.common.random_streams import RandomStreams
from qmp_sb3.policies import MultiTaskPolicy
from qmp_sb3.replay import Batch, Segments
from qmp_sb3.vec_env.episode_statistics import EpisodeStatistics


class Learner(Protocol):
    """A multi-task algorithm as behaviors and hooks see it. They never see more, so that they work with every one.

    Time: ``num_timesteps`` counts the environment steps of all tasks together.
    """

    #: names of the tasks, in the order of every ``(tasks, ...)``
    task_names: tuple[str, ...]
    #: actors and critics of all tasks
    policy: MultiTaskPolicy
    #: random streams, one for each purpose
    streams: RandomStreams
    #: of the last episodes that were collected, per task
    statistics: EpisodeStatistics
    observation_space: spaces.Space
    device: th.device
    num_timesteps: int
    # hyper-parameters
    batch_size: int
    gamma: float
    n_steps: int
    reward_scale: float
    max_grad_norm: float | None

    @property
    def n_tasks(self) -> int: ...

    @property
    def n_candidates(self) -> int:
        """Those who may act for a task: the tasks' policies, then the fixed ones."""
        ...

    @property
    def temperature(self) -> th.Tensor:
        """alpha of each task, ``(tasks,)``; zeros where actions are not rewarded for entropy."""
        ...

    @property
    def rollout(self) -> TrainFreq:
        """How much is collected between updates."""
        ...

    @property
    def first_learning_rate(self) -> float:
        """With which the training begins."""
        ...

    @property
    def current_learning_rate(self) -> float: ...

    @property
    def logger(self) -> Logger: ...

    def sample(self, rows: int) -> Batch:
        """A batch of stored transitions as updates see them, ``(tasks, rows)``."""
        ...

    def whole_segments(self) -> np.ndarray:
        """Segments of each task that :meth:`segments` draws from, ``(tasks,)``."""
        ...

    def segments(self, tasks: np.ndarray, number: int, steps: int) -> Segments:
        """Stored segments of some tasks, ``(len(tasks), number, steps)`` transitions."""
        ...

    def fixed_log_probs(self, features: th.Tensor, actions: th.Tensor) -> list[th.Tensor]:
        """ln pi(a|s) of each group of fixed candidates, ``(rows, count)`` each."""
        ...
