"""The networks part: which parameters does task i see?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

import torch as th
from torch import nn

from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.networks.common_modules import CommonModule
from qmp_sb3.networks.flat_parameters import FlatParameters
from qmp_sb3.networks.spec import NetworkSpec


class PolicyHead(Protocol):
    """What networks ask of an action head (:mod:`qmp_sb3.policies.action_heads`)."""

    compiled: ClassVar[bool]

    def mean_actions(self, outputs: th.Tensor) -> th.Tensor: ...


class TaskModule(nn.Module, ABC):
    """A function approximator indexed by task.

    A family's own settings, which an expression such as ``"paco(sets=5)"`` may give, are its keyword-only arguments.

    :param spec: sizes, and how the layers look and start
    :param common: parts that other networks have too, by name (:meth:`in_common`)
    :param learned: the names of those that this network's losses train; None for all that learn from such losses
    """

    #: False where the output is the same for all tasks: then there is no policy of another task to act with
    knows_tasks: ClassVar[bool] = True

    def __init__(
        self,
        spec: NetworkSpec,
        common: Mapping[str, CommonModule] | None = None,
        learned: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.n_in, self.n_out, self.n_tasks, self.copies = spec.n_in, spec.n_out, spec.n_tasks, spec.copies
        self.register_load_state_dict_pre_hook(_refuse_other_parameters)
        self.common = nn.ModuleDict(dict(common or {}))
        trainable = (name for name, part in (common or {}).items() if part.learns_from)
        self.learned = tuple(trainable if learned is None else learned)

    @classmethod
    def check(cls, **settings: Any) -> None:
        """Refuse settings of the family that have no meaning, before anything is built.

        :raises ValueError: naming the setting, its value and what is allowed
        """

    @classmethod
    def read(cls, **settings: Any) -> dict[str, Any]:
        """The settings with what a file holds in place of its path.

        :raises ValueError: if there is no such file
        """
        return settings

    @classmethod
    def in_common(cls, spec: NetworkSpec, **settings: Any) -> dict[str, CommonModule]:
        """What actor and critics have in common, by name; each of them is given it as ``common``. Without it, a network
        makes its own.

        :param spec: of any of these networks: sizes of state and output, copies and hidden layers do not matter
        :param settings: the family's own
        """
        return {}

    def flat_parameters(self) -> FlatParameters:
        """The module's own parameters in one tensor, next to those of the common parts."""
        parts: dict[str, Any] = dict(self.common.items())
        common = [part.flat for part in parts.values()]
        theirs = {id(parameter) for flat in common for parameter in flat.parameters}
        own = [parameter for parameter in self.parameters() if id(parameter) not in theirs]
        learned = [parts[name].flat for name in self.learned]
        return FlatParameters(own, self.copies, self.own_parameters(), common, learned)

    def own_parameters(self) -> list[nn.Parameter]:
        """Parameters with one part for each task, ``(copies * tasks, ...)``, on which no other task's loss depends."""
        return []

    @abstractmethod
    def forward(self, inputs: th.Tensor, tasks: th.Tensor | None = None, copies: int | None = None) -> th.Tensor:
        """Each block of rows through the parameters of its task.

        :param inputs: ``(tasks, batch, n_in)``
        :param tasks: the task of each block, None for all tasks in order
        :param copies: how many of the copies to evaluate, from the first; None for all
        :return: ``(copies, tasks, batch, n_out)``
        """

    @abstractmethod
    def every(self, inputs: th.Tensor) -> th.Tensor:
        """All rows through the parameters of every task.

        :param inputs: ``(batch, n_in)``
        :return: ``(copies, tasks, batch, n_out)``
        """

    def every_policy(self, inputs: th.Tensor, head: PolicyHead) -> tuple[th.Tensor, th.Tensor]:
        """As :meth:`every`, for policies: their first copy's outputs ``(tasks, batch, n_out)``, and the mean action
        that a head makes of each, ``(batch, tasks, act)``.
        """
        outputs = self.every(inputs)[0]
        return outputs, head.mean_actions(outputs).transpose(0, 1)

    def by_row(self, inputs: th.Tensor, layout: TaskLayout) -> th.Tensor:
        """Each row through the parameters of its own task.

        :param inputs: ``(rows, n_in)``
        :param layout: the task of each row
        :return: ``(copies, rows, n_out)``
        """
        blocks = self(layout.to_tasks(inputs), layout.present)  # (copies, tasks, batch, n_out)
        return layout.to_rows(blocks.permute(1, 2, 0, 3)).transpose(0, 1)

    def candidates(
        self, states: th.Tensor, candidates: th.Tensor, layout: TaskLayout, copies: int | None = None
    ) -> th.Tensor:
        """Each row's state, joined with each of the row's candidates, through the parameters of its own task.

        :param states: ``(rows, first part of the input)``
        :param candidates: ``(rows, candidates, second part)``
        :param layout: the task of each row
        :param copies: how many of the copies to evaluate, from the first; None for all
        :return: ``(copies, rows, candidates, n_out)``
        """
        joined = th.cat([states[:, None].expand(*candidates.shape[:2], -1), candidates], dim=-1)
        blocks = layout.to_tasks(joined)  # (tasks, batch, candidates, n_in)
        outputs = self(blocks.flatten(1, 2), layout.present, copies)
        outputs = outputs.view(len(outputs), *blocks.shape[:3], self.n_out).permute(1, 2, 0, 3, 4)
        return layout.to_rows(outputs).transpose(0, 1)


def _refuse_other_parameters(
    module: nn.Module, state_dict: Mapping[str, Any], prefix: str, local_metadata: Mapping[str, Any], *_: Any
) -> None:
    if local_metadata.get("assign_to_params_buffers"):
        raise ValueError(
            "load_state_dict(assign=True) would give the networks other parameters than the optimizer has; "
            "without assign it copies the numbers"
        )
