"""QMP: behavior sharing by a Q-switched mixture of the task policies."""

from __future__ import annotations

from typing import Any, ClassVar

from qmp_sb3.algorithms.sac import MultiTaskSAC


class QMP(MultiTaskSAC):
    """Q-switch Mixture of Policies (Zhang et al., ICLR 2025): multi-task SAC whose data are collected by whichever
    task policy the task's own Q-function rates best.

    For task i in state s the policy j* = argmax_j Q_i(s, mu_j(s)) acts (definition 4.2, with the mean action mu_j for
    the expectation as in section 4.2); learning is untouched. Arguments are those of
    :class:`~qmp_sb3.algorithms.sac.MultiTaskSAC`.
    """

    default_behavior: ClassVar[str] = "argmax(q)"

    @classmethod
    def from_preset(cls, env: str, preset: str = "fast", method: str = "qmp", **overrides: Any) -> MultiTaskSAC:
        """A model with the hyper-parameters that ``qmp train`` uses (:func:`qmp_sb3.methods.presets.make`).

        :param env: id of a task set
        :param preset: ``"fast"``, ``"official"``, ``"paper"`` or ``"ctpg-paper"``
        :param method: name of the method
        :param overrides: constructor arguments that differ
        """
        from qmp_sb3 import presets  # the table builds on this class

        return presets.make(method, env, preset, **overrides)
