"""The 2D point of the paper's section 5.2: do fixed policies help a learner that sees no reward?

``python -m benchmarks.paper.point2d`` computes for a minute or two on one core and writes results/point2d.json.

A point has to cross a square, and the reward exp(-distance) is next to nothing where it starts. SAC alone is compared
with QMP whose Q-switch also chooses among three fixed policies: (up, right, down-left), of which none leads to the goal
alone, and (up, right, up-right), of which one does. Settings are the preset ``fast``; evaluated is the learner's own
deterministic policy.

All learners (3 arms, 5 seeds each) are the stacked "tasks" of one model, several times faster than one after the other;
nothing passes between them, and the arms of a seed start from the same networks.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks import machine
from qmp_sb3 import QMP, make_multitask_vec_env, presets
from qmp_sb3.behaviors import Also, Argmax, FixedGaussian, Proposals, QScore
from qmp_sb3.evaluation import OwnPolicy, evaluate_tasks
from qmp_sb3.networks.independent import IndependentMLP

ID = "QMP/Point2D-v0"
DIAGONAL = 0.7071  # all fixed policies have mean actions of length 1
FIXED = {
    "up": (0.0, 1.0),
    "right": (1.0, 0.0),
    "down-left": (-DIAGONAL, -DIAGONAL),
    "up-right": (DIAGONAL, DIAGONAL),
}
"""Name -> mean action; the standard deviation is 0.3."""
ARMS: dict[str, tuple[str, ...]] = {
    "SAC": (),
    "QMP + up, right, down-left": ("up", "right", "down-left"),
    "QMP + up, right, up-right": ("up", "right", "up-right"),
}
"""Name -> the fixed policies that its switch knows."""
STEPS, EVALUATIONS, SEEDS = 10_000, 4, 5
RESULTS = Path(__file__).parent / "results" / "point2d.json"


class AllowedOnly:
    """A score that rules out other learners' policies and the fixed ones of other arms.

    :param score: the score of all candidates
    :param allowed: ``(learners, candidates)`` bool
    """

    def __init__(self, score: QScore, allowed: np.ndarray) -> None:
        self.score, self.forbidden = score, th.from_numpy(~allowed)

    def __repr__(self) -> str:
        return repr(self.score)

    def __call__(self, proposals: Proposals) -> th.Tensor:
        """``(slots, candidates)``"""
        return self.score(proposals).masked_fill(self.forbidden[proposals.layout.tasks_tensor], -th.inf)


def switch(seeds: int) -> Also:
    """The Q-switch of learner ``arm * seeds + seed`` between itself and its arm's fixed policies."""
    learners = len(ARMS) * seeds
    arms = np.array([[name in known for name in FIXED] for known in ARMS.values()])
    allowed = np.concatenate([np.eye(learners, dtype=bool), arms.repeat(seeds, axis=0)], axis=1)
    return Also(Argmax(AllowedOnly(QScore(), allowed)), [FixedGaussian(mean) for mean in FIXED.values()])


def build(seeds: int) -> QMP:
    """The model of all learners."""
    learners = len(ARMS) * seeds
    settings = presets.settings("qmp", ID, "fast") | {"behavior": switch(seeds), "seed": 0, "device": "cpu"}
    settings["learning_starts"] *= learners  # it counts the steps of all learners together
    model = QMP("MlpPolicy", make_multitask_vec_env([gym.make(ID) for _ in range(learners)]), **settings)
    assert isinstance(model.actor.network, IndependentMLP) and isinstance(model.critic.network, IndependentMLP)
    for network in (model.actor.network, model.critic.network):
        for parameter in network.parameters():
            by_arm = parameter.data.view(network.copies, len(ARMS), seeds, *parameter.shape[1:])
            by_arm.copy_(by_arm[:, :1].clone().expand_as(by_arm))
    model.critic_target.load_state_dict(model.critic.state_dict())
    return model


class Curves(BaseCallback):
    """Return and success of the own policies at equal distances; one episode, for nothing in it is random."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self.steps: list[int] = []
        self.returns: list[np.ndarray] = []
        self.reached: list[np.ndarray] = []

    def _on_step(self) -> bool:
        assert isinstance(self.model, QMP)
        if self.n_calls % self.every == 0:
            env = make_multitask_vec_env([gym.make(ID) for _ in range(self.model.n_tasks)])
            result = evaluate_tasks(OwnPolicy(self.model), env, episodes=1)
            self.steps.append(self.n_calls)
            self.returns.append(result["return"][:, 0])
            self.reached.append(result["success_any"][:, 0])
        return True


def train(seeds: int, steps: int) -> list[dict[str, Any]]:
    """One result for each learner: its curve, and the share of its steps in which each policy acted."""
    model = build(seeds)
    curves = Curves(steps // EVALUATIONS)
    model.learn(steps * model.n_tasks, callback=curves)
    mixture = model.behavior.mixture()
    runs = []
    for learner in range(model.n_tasks):
        acted = {"own": mixture[learner, learner], **dict(zip(FIXED, mixture[learner, model.n_tasks :], strict=True))}
        runs.append(
            {
                "arm": list(ARMS)[learner // seeds],
                "seed": learner % seeds,
                "steps": curves.steps,
                "returns": [round(float(values[learner]), 4) for values in curves.returns],
                "reached": [bool(values[learner]) for values in curves.reached],
                "mixture": {name: round(float(share), 4) for name, share in acted.items() if share > 0},
            }
        )
    return runs


def table(runs: list[dict[str, Any]]) -> str:
    """Mean return / share of seeds that reach the goal, by arm and step, in Markdown."""
    steps = runs[0]["steps"]
    rows = ["| arm | " + " | ".join(f"{step:,}" for step in steps) + " |", "|---" * (len(steps) + 1) + "|"]
    for arm in ARMS:
        mine = [one for one in runs if one["arm"] == arm]
        returns, reached = (np.mean([one[key] for one in mine], axis=0) for key in ("returns", "reached"))
        cells = [f"{value:.2f} / {share:.1f}" for value, share in zip(returns, reached, strict=True)]
        rows.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(rows)


def write(path: Path, document: dict[str, Any]) -> None:
    """As a whole: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="the 2D point: SAC against QMP with fixed policies")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS, help="environment steps of each learner")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: the results in the repository")
    options = parser.parse_args(arguments)
    start, cpu = time.perf_counter(), time.process_time()
    runs = train(options.seeds, options.steps)
    seconds = {"wall": round(time.perf_counter() - start, 1), "cpu": round(time.process_time() - cpu, 1)}
    about = {
        "command": "python -m benchmarks.paper.point2d",
        "id": ID,
        "settings": presets.settings("qmp", ID, "fast"),
        "fixed": FIXED,
        "seconds": seconds,
        "machine": machine.description(),
    }
    write(options.out, about | {"runs": runs})
    print(f"return / share of {options.seeds} seeds that reach the goal, at environment steps\n\n{table(runs)}")
    print(f"\n{seconds['wall']:.0f} seconds, {seconds['cpu']:.0f} of them computing")


if __name__ == "__main__":
    main()
