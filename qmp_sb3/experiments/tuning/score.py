"""An evaluation as one number, for a search that compares runs."""

from __future__ import annotations

import numpy as np

from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import RANKING


def score(evaluation: Evaluation) -> float:
    """The rule for the best model as one number: ``success_all``, then ``success_any``, subgoals, return.

    Each measure m_k of N results, the last first, enters as v_k = mean(m_k) + d_k / (4 N) v_(k-1), where d_k is the
    smallest difference between two of its results: what comes after it decides only between equals. The return enters
    as v_0 = r / (1 + |r|). Where a task set has no success at all, the score is the mean return itself.

    :param evaluation: of one model
    """
    returns = float(np.mean(evaluation["return"]))
    value, defined = returns / (1 + abs(returns)), False
    for results in (evaluation[measure] for measure in reversed(RANKING[:-1])):
        known = results[~np.isnan(results)]
        if len(known):
            defined = True
            smallest = np.diff(np.unique(np.append(known, (0.0, 1.0)))).min()
            value = float(np.nan_to_num(results).mean()) + smallest / (4 * results.size) * value
    return value if defined else returns
