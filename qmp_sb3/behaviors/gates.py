"""CTPG's two gates: which candidates are worth following, and which tasks need no guidance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th

from qmp_sb3.learner import Learner

MASTERED = 0.8  # success rate from which a task counts as learned (the released code)
_ROUNDING = 1e-6  # equal temperatures differ from their mean by no more than this


# ---- the policy filter: probabilities of the candidates, ``(rows, candidates)`` ----


def masked(logits: th.Tensor, passes: th.Tensor) -> th.Tensor:
    """Pi(j|s) over the candidates that pass: the others have probability exactly 0."""
    return th.softmax(logits.masked_fill(~passes, -th.inf), dim=-1)


def unmasked(logits: th.Tensor, passes: th.Tensor) -> th.Tensor:
    """Pi(j|s) whatever passes, as the released code has it: there the filter can only say that none does."""
    return th.softmax(logits, dim=-1)


#: name -> function of the logits and the mask ``(rows, candidates)``; without a filter nothing is compared
FILTERS: dict[str, Callable[[th.Tensor, th.Tensor], th.Tensor] | None] = {
    "mask": masked,
    "veto": unmasked,
    "none": None,
}


def filtered(
    rule: Callable[[th.Tensor, th.Tensor], th.Tensor], logits: th.Tensor, passes: th.Tensor, own: th.Tensor
) -> th.Tensor:
    """Probabilities under a filter; where no candidate passes, the task's own policy acts.

    :param rule: one of :data:`FILTERS`
    :param logits: of the guide, ``(rows, candidates)``
    :param passes: m_j = 1[Q^c_i(s, j) >= V_i(s)], ``(rows, candidates)`` bool
    :param own: the task of each row, ``(rows,)``
    """
    alone = th.nn.functional.one_hot(own, logits.shape[-1]).to(logits)
    return th.where(passes.any(dim=-1, keepdim=True), rule(logits, passes), alone)


# ---- the guide-block gate: tasks whose own policy acts alone, ``(tasks,)`` bool ----


def hot(log_temperatures: np.ndarray) -> np.ndarray:
    """Tasks with ln alpha_i > mean_j ln alpha_j: their policies have become sure, so they are the easy ones."""
    return log_temperatures > log_temperatures.mean() + _ROUNDING


def by_temperature(learner: Learner) -> np.ndarray:
    """:func:`hot`"""
    return hot(learner.temperature.double().log().numpy(force=True))


def by_success(learner: Learner) -> np.ndarray:
    """Tasks that succeed in more than 80 % of the last episodes that were collected; none where there is no success."""
    means = learner.statistics.means()
    return np.array([means.get(f"{name}/success_any", 0.0) > MASTERED for name in learner.task_names])


def nobody(learner: Learner) -> np.ndarray:
    """No task."""
    return np.zeros(learner.n_tasks, dtype=bool)


#: name -> function of the model
BLOCKS: dict[str, Callable[[Learner], np.ndarray]] = {
    "temperature": by_temperature,
    "success": by_success,
    "none": nobody,
}
