"""A trained model as the policy that an evaluation runs: each task's own (the headline), or the mixture."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch as th

from qmp_envs.evaluation import Evaluation, run_episodes
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.behaviors import Proposals
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.vec_env import MultiTaskVecEnv


class OwnPolicy:
    """Every task's own deterministic policy, as :func:`qmp_envs.evaluate` calls it.

    :param model: a trained model
    """

    def __init__(self, model: MultiTaskOffPolicyAlgorithm) -> None:
        self.model = model

    def __call__(self, observations: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        return self.model.predict(self._normalized(observations), task=task_ids, deterministic=True)[0]

    def _normalized(self, observations: np.ndarray) -> np.ndarray:
        normalize = self.model.get_vec_normalize_env()
        return observations if normalize is None else np.asarray(normalize.normalize_obs(observations))


class MixturePolicy(OwnPolicy):
    """The mixture that collects the data; the chosen policy's mean action is executed.

    :param model: a trained model
    :param seed: of the behavior's own draws
    """

    chosen: np.ndarray
    """The candidate that acted in each slot in the step just made, ``(slots,)``."""

    def __init__(self, model: MultiTaskOffPolicyAlgorithm, seed: int | None = 0) -> None:
        super().__init__(model)
        self.behavior = deepcopy(model.behavior)
        self._rng = np.random.default_rng(seed)
        self._generator = th.Generator()
        self._generator.manual_seed(self._rng.integers(2**63).item())
        self._slots = 0

    def reset(self, mask: np.ndarray) -> None:
        """Episodes begin in the slots of ``mask``, ``(slots,)``."""
        if len(mask) != self._slots:
            self._slots = len(mask)
            self.behavior.start(self.model.n_tasks, self._slots)
        self.behavior.ended(mask)

    @th.no_grad()
    def __call__(self, observations: np.ndarray, task_ids: np.ndarray) -> np.ndarray:
        policy = self.model.policy
        proposals = Proposals(
            policy,
            policy.encode(self._normalized(observations)),
            TaskLayout.of(task_ids, self.model.n_tasks),
            lambda: self.model.temperature,
            self._rng,
            self._generator,
            self.model.num_timesteps,
        )
        self.chosen = self.behavior(proposals)
        scaled = proposals.act(self.chosen, deterministic=True).cpu().numpy()
        return policy.unscale_action(scaled.reshape(len(scaled), *policy.action_space.shape))


def evaluate_tasks(
    policy: Callable[[np.ndarray, np.ndarray], np.ndarray],
    env: MultiTaskVecEnv,
    episodes: int = 10,
    seed: int | None = None,
) -> Evaluation:
    """``episodes`` episodes of every task of a :class:`~qmp_sb3.vec_env.multitask_vec_env.MultiTaskVecEnv`.

    :param policy: ``policy(observations (slots, *obs), task_ids (slots,)) -> actions (slots, *act)``
    :param env: the environment, with as many slots for each task
    :param episodes: episodes per task, a multiple of the slots per task
    :param seed: of the episodes; None goes on where the environment is
    """
    results = run_episodes(policy, env.envs, env.task_ids, len(env.task_names), episodes, seed)
    return replace(results, task_names=env.task_names)
