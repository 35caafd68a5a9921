"""The sharing part: is the batch changed before use?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from qmp_envs.task_set import TaskSet
from qmp_sb3.common.devices import to_device
from qmp_sb3.replay import Batch, MultiTaskReplayBuffer
from qmp_sb3.serialization.tags import vocabulary


class ActionValues(Protocol):
    """What sharing asks of the critics (:class:`~qmp_sb3.policies.MultiTaskCritic`)."""

    def values(self, inputs: th.Tensor, *, critics: int | None = None) -> th.Tensor: ...


class KeepOwn:
    """Every task learns from its own transitions only."""

    #: whether other tasks' transitions come in
    takes_others: ClassVar[bool] = False
    #: whether the native update has it
    compiled: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "none"

    def bind(self, task_set: TaskSet | None, n_steps: int) -> None:
        """Check and prepare for a task set; called once, when the model is built.

        :raises ValueError: if the tasks do not allow it
        """

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        """What the replay buffer has to keep of each transition besides the usual."""
        return {}

    def __call__(
        self, batch: Batch, replay: MultiTaskReplayBuffer, critic: ActionValues, env: VecNormalize | None
    ) -> Batch:
        """The batch that is learned from.

        :param batch: the tasks' own transitions
        :param replay: where more can be drawn
        :param critic: action values of all tasks
        :param env: normalizes observations if given
        """
        return batch

    def kept(self) -> np.ndarray | None:
        """Share of the transitions offered to each task that it took since the last call, ``(tasks,)``."""
        return None


_NOTHING = th.zeros(0)


class _DataSharing(KeepOwn, ABC):
    """Each update, every other task offers ``batch // (tasks - 1)`` transitions, at least one, to task i, which takes
    those that its first critic values above the k-quantile of its own batch, and rewards them itself.

    :param quantile: k in [0, 1]; 0 takes everything
    """

    takes_others = True
    compiled = False

    def __init__(self, quantile: float = 0.0) -> None:
        if not 0.0 <= quantile <= 1.0:
            name = type(self).__name__.lower()
            hint = f"; {quantile:g} percent are {name}({quantile / 100:g})" if 1.0 < quantile <= 100.0 else ""
            raise ValueError(f"{name}({quantile}): the quantile is a fraction in [0, 1]{hint}")
        self.quantile = float(quantile)
        self._taken, self._offered = _NOTHING, 0

    def bind(self, task_set: TaskSet | None, n_steps: int) -> None:
        if n_steps > 1:
            raise ValueError(f"sharing={self!r} rewards single transitions anew; n_steps is {n_steps}, use 1")

    @abstractmethod
    def rewards(self, offered: Batch, receivers: np.ndarray) -> th.Tensor:
        """What the receiving tasks ``(tasks,)`` give for offered transitions, ``(tasks, offered)``."""

    def __call__(
        self, batch: Batch, replay: MultiTaskReplayBuffer, critic: ActionValues, env: VecNormalize | None
    ) -> Batch:
        tasks, size, _ = batch.rows.shape
        if tasks == 1:
            return batch
        each = max(1, size // (tasks - 1))
        receivers = np.arange(tasks)
        donors = np.array([np.delete(receivers, task) for task in receivers])  # (tasks, tasks - 1)
        drawn = replay.draw_places(donors.reshape(-1), each)
        offered = replay.gather(drawn.reshape(tasks, -1), env)
        there = np.repeat(replay.sizes[donors] > 0, each, axis=1)  # (tasks, offered)
        take = to_device(there, batch.rows.device)
        if self.quantile > 0.0:
            with th.no_grad():
                own = critic.values(batch.observation_actions, critics=1)[0].sort(dim=1).values  # (tasks, batch)
                values = critic.values(offered.observation_actions, critics=1)[0]
            rank = int(size * self.quantile)  # 1-based, so that rank 0 is minus infinity
            if rank > 0:
                take &= values > own[:, rank - 1 : rank]
        offered.rewards.copy_(self.rewards(offered, receivers))
        self._count(take.sum(dim=1), take.shape[1])
        return _joined(batch, offered, take)

    def _count(self, taken: th.Tensor, offered: int) -> None:
        self._taken = taken if self._offered == 0 else self._taken + taken
        self._offered += offered

    def kept(self) -> np.ndarray | None:
        if self._offered == 0:
            return None
        share = self._taken.cpu().numpy() / self._offered
        self._taken, self._offered = _NOTHING, 0
        return share


def _joined(batch: Batch, offered: Batch, take: th.Tensor) -> Batch:
    """Both batches, each task's transitions weighted alike; of the offered ones, those of the mask ``take``."""
    own = batch.weights > 0 if batch.weights is not None else th.ones_like(batch.rewards, dtype=th.bool)
    counts = th.cat([own, take], dim=1)
    weights = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    rows = th.cat([batch.rows, offered.rows], dim=1)
    return replace(
        batch,
        rows=rows,
        rewards=th.cat([batch.rewards, offered.rewards], dim=1),
        continuations=th.cat([batch.continuations, offered.continuations], dim=1),
        weights=weights,
        counts=counts.sum(dim=1),
    )


class UDS(_DataSharing):
    """Data of other tasks with the smallest reward that there is (Unlabeled Data Sharing; QMP, appendix H.6).

    :param quantile: k in [0, 1]; 0 takes everything
    :param reward: of the shared transitions; None for the task set's ``min_reward``
    """

    def __init__(self, quantile: float = 0.0, reward: float | None = None) -> None:
        super().__init__(quantile)
        self.reward = reward

    def __repr__(self) -> str:
        return f"uds({self.quantile:g})" if self.reward is None else f"uds({self.quantile:g}, {self.reward:g})"

    def bind(self, task_set: TaskSet | None, n_steps: int) -> None:
        super().bind(task_set, n_steps)
        known = self.reward if self.reward is not None else getattr(task_set, "min_reward", None)
        if known is None:
            name = "the environment" if task_set is None else task_set.name
            raise ValueError(f"{name} does not say its smallest reward; give it: sharing='uds({self.quantile:g}, -1)'")
        self._reward = float(known)

    def rewards(self, offered: Batch, receivers: np.ndarray) -> th.Tensor:
        return th.full_like(offered.rewards, self._reward)


class CDS(_DataSharing):
    """Data of other tasks with the true reward of the receiving task (Conservative Data Sharing; QMP, appendix H.6).

    :param quantile: k in [0, 1]; 0 takes everything
    """

    def __init__(self, quantile: float = 0.0) -> None:
        super().__init__(quantile)
        self._columns: dict[str, tuple[int, ...]] = {}

    def __repr__(self) -> str:
        return f"cds({self.quantile:g})"

    def bind(self, task_set: TaskSet | None, n_steps: int) -> None:
        super().bind(task_set, n_steps)
        if task_set is None or not task_set.relabel_columns:
            name = "the environment" if task_set is None else task_set.name
            raise ValueError(
                f"{name} cannot reward a transition as another task would, which sharing={self!r} needs; "
                f"sharing='uds({self.quantile:g})' (method data) gives shared transitions the smallest reward"
            )
        self._task_set: TaskSet | None = task_set
        self._columns = dict(task_set.relabel_columns)

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        return self._columns

    def rewards(self, offered: Batch, receivers: np.ndarray) -> th.Tensor:
        flat = {name: column.reshape(-1, *column.shape[2:]) for name, column in offered.columns().items()}
        tasks = np.repeat(receivers, offered.rewards.shape[1])
        assert self._task_set is not None
        rewards = self._task_set.reward({name: column.astype(np.float64) for name, column in flat.items()}, tasks)
        return th.from_numpy(rewards).to(offered.rewards).view_as(offered.rewards)

    def __getstate__(self) -> dict[str, Any]:
        """Without the task set: the environment that a model is loaded with brings its own."""
        return self.__dict__ | {"_task_set": None}


#: word -> class
SHARING: dict[str, type[KeepOwn]] = vocabulary("sharing", KeepOwn, {"none": KeepOwn, "uds": UDS, "cds": CDS})
