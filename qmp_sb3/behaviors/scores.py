"""Scores of a behavior: how good is each candidate policy for the task of a slot?"""

from __future__ import annotations

import torch as th

from qmp_sb3.behaviors.proposals import Proposals

#: name -> (critics to ask, how to reduce ``(critics, slots, candidates)`` over them)
_CRITICS = {
    "first": (1, lambda values: values[0]),
    "min": (None, lambda values: values.amin(dim=0)),
    "mean": (None, lambda values: values.mean(dim=0)),
}
_ENTROPY_SAMPLES = 10


class QScore:
    """E_{a ~ pi_j}[Q_i(s, a)] of QMP's Q-switch (ICLR 2025, definition 4.2 and equation 3).

    With ``samples=0`` the expectation is Q_i at the mean action, the paper's practical choice (section 4.2). Otherwise
    it is a Monte Carlo mean (appendix G.2); with ``entropy`` the mean of Q_i(s, a) - alpha_i log pi_j(a|s), which is
    equation 3 whole.

    :param samples: actions drawn from each candidate; 0 for its mean action
    :param entropy: add alpha_i H[pi_j(.|s)]; draws 10 samples unless ``samples`` says otherwise
    :param critic: ``"first"`` (as the released code acts), ``"min"`` or ``"mean"`` of the critics
    """

    def __init__(self, samples: int = 0, entropy: bool = False, critic: str = "first") -> None:
        if critic not in _CRITICS:
            raise ValueError(f"critic={critic!r} is none of {', '.join(map(repr, _CRITICS))}")
        if samples < 0:
            raise ValueError(f"samples={samples}; it must be 0 (the mean action) or more")
        self.samples, self.entropy, self.critic = samples, entropy, critic

    def __repr__(self) -> str:
        defaults = dict(samples=0, entropy=False, critic="first")
        changed = [f"{key}={getattr(self, key)!r}" for key, value in defaults.items() if getattr(self, key) != value]
        return f"q({', '.join(changed)})" if changed else "q"

    def __call__(self, proposals: Proposals) -> th.Tensor:
        """Scores of all candidates, ``(slots, candidates)``."""
        samples = self.samples or (_ENTROPY_SAMPLES if self.entropy else 0)
        if samples == 0:
            return self._values(proposals, proposals.mean_actions())
        actions, log_prob = proposals.sampled_actions(samples)
        count, slots, candidates = log_prob.shape
        flat = actions.transpose(0, 1).flatten(1, 2)  # (slots, samples * candidates, act)
        values = self._values(proposals, flat).view(slots, count, candidates)
        if self.entropy:
            alpha = proposals.temperature()[proposals.layout.tasks_tensor.to(values.device)]
            values = values - alpha[:, None, None] * log_prob.transpose(0, 1)
        return values.mean(dim=1)

    def _values(self, proposals: Proposals, actions: th.Tensor) -> th.Tensor:
        critics, reduce = _CRITICS[self.critic]
        return reduce(proposals.action_values(actions, critics))
