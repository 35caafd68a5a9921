"""CTPG: a guide for each task chooses whose policy acts for K steps, and learns from what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import get_actor_critic_arch
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from qmp_envs.suggestions import closest
from qmp_envs.task_set import TaskSet
from qmp_sb3.behaviors.behavior import Behavior
from qmp_sb3.behaviors.gates import BLOCKS, FILTERS, filtered
from qmp_sb3.behaviors.guide_learning import MEASURES, learn_from, record
from qmp_sb3.behaviors.guide_networks import GuideForm, GuideNetworks
from qmp_sb3.behaviors.proposals import Proposals
from qmp_sb3.behaviors.rules import categorical
from qmp_sb3.common.task_layout import TaskLayout
from qmp_sb3.learner import Learner
from qmp_sb3.replay import SEGMENT_COLUMNS

VALUE_SAMPLES = 5
"""Own actions that V_i(s) is a mean over (the released code)."""


class Guide(Behavior):
    """Cross-task policy guidance (He et al., NeurIPS 2024): discrete soft actor-critic over the candidate policies.

    Every ``steps`` steps and when an episode begins, task i's guide draws j ~ Pi_i(.|s), and policy j acts until the
    next decision. Two gates restrict it: candidates with Q^c_i(s, j) < V_i(s) are not drawn, and tasks that need no
    guidance act by themselves. The guide learns from segments of ``steps`` transitions of the replay buffer. Defaults
    are those of the paper's released code, but ``hindsight``, which its scripts turn on, and ``filter``.

    :param steps: K, environment steps of one slot for which a decision holds
    :param hindsight: learn about the candidate that most likely did what was done, not about the one that did
    :param filter: ``"mask"``; ``"veto"``: only when no candidate passes, the task's own policy acts (the released
        code); ``"none"``
    :param filter_from: environment steps per task before the filter begins
    :param block: tasks without guidance: those with an above-average ``"temperature"`` or more than 80 % ``"success"``;
        ``"none"``
    :param block_every: environment steps per task after which these are determined anew, for episodes that then begin
    :param learn_every: vector steps for each of the guide's updates, which begin when the model's do
    :param segments: in an update, of all tasks that are guided together; None for ``batch_size`` times the tasks
    :param tau: Polyak coefficient of the guide's target critics
    :param max_temperature: upper bound of the guide's temperatures, which start at 1 or at it
    :param net_arch: hidden widths of the guide's networks; None for those of the model's actor
    """

    def __init__(
        self,
        steps: int = 10,
        hindsight: bool = True,
        filter: str = "mask",
        filter_from: float = 10_000,
        block: str = "temperature",
        block_every: float = 10_000,
        learn_every: int = 10,
        segments: int | None = None,
        tau: float = 0.01,
        max_temperature: float = 1.0,
        net_arch: list[int] | None = None,
    ) -> None:
        self.settings: dict[str, Any] = {key: value for key, value in locals().items() if key != "self"}
        for name in ("steps", "block_every", "learn_every", "segments"):
            value = self.settings[name]
            if value is not None and (value < 1 or value != int(value)):
                raise ValueError(f"guide({name}={value}): it must be a whole number, at least 1")
            self.settings[name] = None if value is None else int(value)
        if filter_from < 0 or not 0.0 < tau <= 1.0 or not max_temperature > 0.0:
            raise ValueError(
                f"guide(filter_from={filter_from}, tau={tau}, max_temperature={max_temperature}): filter_from is not "
                "negative, tau lies in (0, 1], and max_temperature is positive"
            )
        for name, known in (("filter", FILTERS), ("block", BLOCKS)):
            if self.settings[name] not in known:
                value, near = self.settings[name], closest(str(self.settings[name]), list(known))
                raise ValueError(f"guide({name}={value!r}) is unknown; did you mean {near!r}?")
        self.steps, self.segments = self.settings["steps"], self.settings["segments"]
        self.networks: GuideNetworks | None = None
        self._waiting = 0  # vector steps since the last update
        self._periods = 0  # of the guide-block gate

    def __repr__(self) -> str:
        defaults = inspect.signature(Guide).parameters
        changed = [f"{key}={value!r}" for key, value in self.settings.items() if value != defaults[key].default]
        return f"guide({', '.join(changed)})" if changed else "guide"

    # ---- set-up ----

    def bind(self, n_tasks: int, task_set: TaskSet | None = None) -> None:
        self.blocked = np.zeros(n_tasks, dtype=bool)  # the tasks that act by themselves

    def attach(self, learner: Learner) -> None:
        if learner.n_steps > 1:
            raise ValueError(
                f"behavior={self!r} sums the rewards of its segments itself; n_steps is {learner.n_steps}, use 1"
            )
        form = self._form(learner)
        if self.networks is None:
            self.networks = GuideNetworks(form, learner.streams.guide)
            self.networks.bound_temperature_(self.settings["max_temperature"])
        for size in ("features", "candidates", "n_tasks"):
            own, needed = getattr(self.networks.form, size), getattr(form, size)
            if own != needed:
                raise ValueError(f"behavior={self!r} has learned with {size}={own}; the model has {needed}")
        self.networks.to(learner.device)

    def _form(self, learner: Learner) -> GuideForm:
        policy, hidden = learner.policy, self.settings["net_arch"]
        initialization = policy.initialization
        if isinstance(initialization, str):
            initialization = dict.fromkeys(("actor", "critic"), initialization)
        return GuideForm(
            features=get_flattened_obs_dim(learner.observation_space),
            candidates=learner.n_candidates,
            n_tasks=learner.n_tasks,
            hidden=get_actor_critic_arch(policy.net_arch)[0] if hidden is None else hidden,
            activation_fn=policy.activation_fn,
            initialization=initialization,
            optimizer_class=policy.optimizer_class,
            optimizer_kwargs=policy.optimizer_kwargs,
            learning_rate=learner.first_learning_rate,
        )

    # ---- acting ----

    def restart(self, n_slots: int) -> None:
        self._held = np.zeros(n_slots, dtype=np.int64)  # the candidate that acts
        self._left = np.zeros(n_slots, dtype=np.int64)  # steps for which the decision still holds
        self._alone = np.zeros(n_slots, dtype=bool)  # whether the episode goes without guidance
        self._fresh = np.ones(n_slots, dtype=bool)  # whether the episode is about to begin
        self._begun = np.zeros(n_slots, dtype=bool)  # whether the last step began a segment

    def ended(self, dones: np.ndarray) -> None:
        self._left[dones], self._fresh[dones] = 0, True

    def choose(self, proposals: Proposals) -> np.ndarray:
        tasks = proposals.tasks
        if self._fresh.any():
            self._alone = np.where(self._fresh, self.blocked[tasks], self._alone)
            self._fresh[:] = False
        self._begun = self._left == 0
        if self._begun.any():
            self._held = np.where(self._begun, tasks, self._held)
            guided = np.flatnonzero(self._begun & ~self._alone)
            if len(guided) and proposals.candidates > 1:
                self._held[guided] = self._draw(proposals, guided)
            self._left[self._begun] = self.steps
        self._left -= 1
        return self._held

    def _draw(self, proposals: Proposals, slots: np.ndarray) -> np.ndarray:
        """j ~ Pi_i(.|s) in some slots, among the candidates that pass the filter."""
        assert self.networks is not None
        features = proposals.features if len(slots) == len(proposals.tasks) else proposals.features[slots]
        self.networks.to(features.device)
        layout = TaskLayout.of(proposals.tasks[slots], proposals.n_tasks)
        logits = self.networks.actor.by_row(features, layout)[0].double()  # (slots, candidates)
        rule = FILTERS[self.settings["filter"]]
        if rule is None or proposals.num_timesteps < self.settings["filter_from"] * proposals.n_tasks:
            probabilities = th.softmax(logits, dim=-1)
        else:
            values = self.networks.modules["filter_critic"].by_row(features, layout).mean(dim=0)
            passes = values >= proposals.own_values(features, layout, VALUE_SAMPLES)[:, None]
            probabilities = filtered(rule, logits, passes, layout.tasks_tensor.to(logits.device))
        return categorical(probabilities.numpy(force=True), proposals.rng)

    # ---- learning ----

    def columns(self) -> Mapping[str, tuple[int, ...]]:
        return SEGMENT_COLUMNS

    def staged(self) -> dict[str, np.ndarray]:
        """Who acted and where segments begin; steps in which the guide was not asked belong to none."""
        begun, self._begun = self._begun, np.zeros_like(self._begun)
        self._waiting += 1
        return {"chosen": self._held, "segment_start": begun}

    def learn(self, learner: Learner) -> None:
        """The guide's updates that are due, and the gate that says who needs guidance."""
        periods = int(learner.num_timesteps // (self.settings["block_every"] * learner.n_tasks))
        if periods != self._periods:
            self._periods, self.blocked = periods, BLOCKS[self.settings["block"]](learner)
        every, rollout = self.settings["learn_every"], learner.rollout
        if rollout.unit == TrainFrequencyUnit.STEP:  # steps before the model learned are not made up for
            self._waiting = min(self._waiting, rollout.frequency + every - 1)
        updates, self._waiting = divmod(self._waiting, every)
        guided = np.flatnonzero(~self.blocked & (learner.whole_segments() > 0))
        if updates == 0 or len(guided) == 0 or self.networks is None or self.networks.form.candidates == 1:
            return
        each = max(1, (self.segments or learner.batch_size * learner.n_tasks) // len(guided))
        sums = th.zeros(len(MEASURES), len(guided), device=learner.device)
        for _ in range(updates):
            segments = learner.segments(guided, each, self.steps)
            sums += learn_from(self.networks, segments, learner, self.settings)
        record(learner, guided, self.blocked, sums / updates)
