"""Which family of networks, with which settings: ``"paco"``, ``"soft_modules(layers=4, width=128)"``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmp_sb3.common.expressions import build
from qmp_sb3.networks import NETWORKS
from qmp_sb3.networks.common_modules import CommonModule
from qmp_sb3.networks.spec import NetworkSpec
from qmp_sb3.networks.task_module import TaskModule

_SUPPLIED = ("common", "learned")


@dataclass(frozen=True)
class NetworkChoice:
    """A family and its settings.

    :param family: the class
    :param settings: its own arguments, all of them
    """

    family: type[TaskModule]
    settings: Mapping[str, Any]

    def in_common(self, spec: NetworkSpec) -> dict[str, CommonModule]:
        """As :meth:`~qmp_sb3.networks.task_module.TaskModule.in_common`."""
        return self.family.in_common(spec, **self.settings)

    def network(self, role: str, spec: NetworkSpec, common: Mapping[str, CommonModule] | None = None) -> TaskModule:
        """A network of an actor or of critics.

        :param role: ``"actor"`` or ``"critic"``
        :param spec: sizes, and how the layers look and start
        :param common: what it has in common with others; None to make it
        """
        common = self.in_common(spec) if common is None else common
        if not common:
            return self.family(spec, **self.settings)
        learned = [name for name, part in common.items() if role in part.learns_from]
        return self.family(spec, common=common, learned=learned, **self.settings)


class _Word:
    """A family's name in an expression: a call with the family's own settings makes the choice."""

    def __init__(self, family: type[TaskModule]) -> None:
        self.family = family
        given = inspect.signature(family).parameters.values()
        own = [one for one in given if one.kind is one.KEYWORD_ONLY and one.name not in _SUPPLIED]
        self.__signature__ = inspect.Signature(own)

    def __call__(self, **settings: Any) -> NetworkChoice:
        bound = self.__signature__.bind(**settings)
        bound.apply_defaults()
        self.family.check(**bound.arguments)
        return NetworkChoice(self.family, bound.arguments)


def network_choice(expression: str) -> NetworkChoice:
    """The family and the settings that an expression names.

    :raises ValueError: if a word or a setting is unknown, or a value has no meaning
    """
    choice = build(expression, {name: _Word(family) for name, family in NETWORKS.items()}, "networks")
    assert isinstance(choice, NetworkChoice)
    return choice


def without_files(expression: str) -> str:
    """The same choice with what it names a file for written out, so that a saved model needs no file."""
    choice = network_choice(expression)
    read = choice.family.read(**choice.settings)
    if read == choice.settings:
        return expression
    return f"{expression.partition('(')[0].strip()}({', '.join(f'{name}={value!r}' for name, value in read.items())})"


def common_modules_of(
    families: Mapping[str, str], n_state: int, n_tasks: int, **settings: Any
) -> dict[str, dict[str, CommonModule]]:
    """What actor and critics have in common, by the expression of their networks: only those with the same one share.

    :param families: role, ``"actor"`` or ``"critic"``, -> expression
    :param n_state: size of an encoded observation
    :param n_tasks: number of tasks
    :param settings: ``activation_fn`` and ``generator``
    :raises ValueError: if no loss would train a part
    """
    spec = NetworkSpec(n_state, 0, n_tasks, **settings)  # each part decides the size of its own output
    found: dict[str, dict[str, CommonModule]] = {}
    for family in families.values():
        if family in found:
            continue
        found[family] = network_choice(family).in_common(spec)
        roles = {role for role, one in families.items() if one == family}
        for name, part in found[family].items():
            if part.learns_from and not roles & set(part.learns_from):
                needed = " or ".join(part.learns_from)
                raise ValueError(
                    f"networks={dict(families)!r}: the {name} of {family!r} learns from the loss of the {needed} only; "
                    f"give the {needed} the same networks"
                )
    return found
