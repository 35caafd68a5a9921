"""A batch of transitions of all tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch as th

from qmp_sb3.replay.row_format import RowFormat


@dataclass
class Batch:
    """Rows ``[s | a | s' | free | ...]`` gathered for every task; what an update reads are views of them.

    :param rows: ``(tasks, batch, width)``, a copy that the update may write to
    :param form: what a row holds
    :param rewards: ``(tasks, batch)``
    :param continuations: factor of the bootstrapped value besides gamma, ``(tasks, batch)``: 0 after a termination,
        else 1, or gamma^(k-1) where k rewards are summed
    :param weights: of each transition in the mean of its task, ``(tasks, batch)``: they sum to one in a task that has
        data, and are zero for rows that only fill the block; None if all tasks have as many and each counts alike
    :param counts: transitions of each task, ``(tasks,)``; None with ``weights=None``
    :param index: where the transitions are in the replay buffer, ``(tasks, batch)``, on the host, -1 for rows that only
        fill the block; None where nobody wants to know their errors
    :param importance: what corrects that some transitions are drawn more often than others, ``(tasks, batch)``, at most
        1; None where none are
    :param errors: the size of the critics' error at each transition before the update, ``(tasks, batch)``: the
        update's answer where there is an index
    """

    rows: th.Tensor
    form: RowFormat
    rewards: th.Tensor
    continuations: th.Tensor
    weights: th.Tensor | None = None
    counts: th.Tensor | None = None
    index: np.ndarray | None = None
    importance: th.Tensor | None = None
    errors: th.Tensor | None = None

    @property
    def corrected_weights(self) -> th.Tensor | None:
        """``weights`` times ``importance``, ``(tasks, batch)``, for a mean as of uniformly drawn transitions."""
        if self.importance is None:
            return self.weights
        return self.importance * (1.0 / self.rows.shape[1] if self.weights is None else self.weights)

    def task_counts(self) -> th.Tensor:
        """Transitions of each task, ``(tasks,)``."""
        if self.counts is not None:
            return self.counts
        tasks, batch, _ = self.rows.shape
        return th.full((tasks,), batch, device=self.rows.device)

    @property
    def observations(self) -> th.Tensor:
        """``(tasks, batch, features)``"""
        return self.rows[..., self.form.observation]

    @property
    def observation_actions(self) -> th.Tensor:
        """Observations and the stored actions, side by side, ``(tasks, batch, features + act)``."""
        return self.rows[..., : self.form.action.stop]

    @property
    def actions(self) -> th.Tensor:
        """``(tasks, batch, act)``, in [-1, 1]"""
        return self.rows[..., self.form.action]

    @property
    def next_observations(self) -> th.Tensor:
        """``(tasks, batch, features)``"""
        return self.rows[..., self.form.next_observation]

    def next_observation_actions(self, actions: th.Tensor) -> th.Tensor:
        """Next observations with ``actions`` written beside them, ``(tasks, batch, features + act)``."""
        start = self.form.next_observation.start
        joined = self.rows[..., start : 2 * start]
        joined[..., self.form.features :] = actions
        return joined

    def columns(self) -> dict[str, np.ndarray]:
        """What the task set needs to reward the transitions again, by name, ``(tasks, batch, ...)``, on the host."""
        shape = self.rows.shape[:2]
        return {
            name: self.rows[..., place].cpu().numpy().reshape(*shape, *self.form.columns[name])
            for name, place in self.form.places.items()
        }
