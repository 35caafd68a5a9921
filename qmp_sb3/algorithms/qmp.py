"""QMP: behavior sharing by a Q-switched mixture of the task policies."""

from __future__ import annotations

from typing import ClassVar

from qmp_sb3.algorithms.sac import MultiTaskSAC


class QMP(MultiTaskSAC):
    """Q-switch Mixture of Policies (Zhang et al., ICLR 2025): multi-task SAC whose data are collected by whichever
    task policy the task's own Q-function rates best.

    For task i in state s the policy j* = argmax_j Q_i(s, mu_j(s)) acts (definition 4.2, with the mean action mu_j for
    the expectation as in section 4.2); learning is untouched. Arguments are those of
    :class:`~qmp_sb3.algorithms.sac.MultiTaskSAC`.
    """

    default_behavior: ClassVar[str] = "argmax(q)"
