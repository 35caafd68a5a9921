"""Who acts in one episode, beside its film: QMP's Figure 9b."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import gymnasium as gym
import numpy as np

from qmp_envs.rendering.opengl import NoRendering
from qmp_sb3.evaluation import MixturePolicy
from qmp_sb3.experiments.report.figure import Chart, Figure, Panel, columns_of, data
from qmp_sb3.experiments.report.palette import INK, task_colors
from qmp_sb3.experiments.report.sources import Run, TaskSetRuns, slug
from qmp_sb3.experiments.runs import video
from qmp_sb3.experiments.runs.trained import TrainedRun

SIZE = 200
"""Height and width of a film, pixels."""
MOST_FRAMES = 80
FRAMES_PER_SECOND = 12


@dataclass(frozen=True)
class Episode:
    """One episode of a task, acted by the mixture.

    :param candidates: names of the policies that can act
    :param acted: index of the one that acted in each step, ``(steps,)``
    :param film: the film as mp4, None where nothing can be drawn
    :param step_of_frame: step that each frame shows, ``(frames,)``
    :param note: why there is no film
    """

    task: str
    candidates: tuple[str, ...]
    acted: np.ndarray
    total: float
    film: bytes | None
    step_of_frame: np.ndarray
    note: str = ""

    @property
    def stretches(self) -> list[tuple[int, int, str]]:
        """First step, step after the last, and policy of each stretch in which one policy acted."""
        borders = np.flatnonzero(np.diff(self.acted)) + 1
        starts, stops = [0, *borders.tolist()], [*borders.tolist(), len(self.acted)]
        return [(a, b, self.candidates[self.acted[a]]) for a, b in zip(starts, stops, strict=True)]


def play(run: Run, most: int, seed: int = 0, trust: bool = False) -> Iterator[Episode]:
    """One episode of up to ``most`` tasks of a run, by the mixture of its newest model.

    :param trust: as for :meth:`~qmp_sb3.experiments.TrainedRun.open`
    :raises ValueError: if the run's model cannot act here; the message says why
    """
    assert run.directory is not None
    trained = TrainedRun.open(run.directory, trust)
    tasks = np.unique(np.linspace(0, len(trained.task_names) - 1, min(most, len(trained.task_names))).round())
    for task in tasks.astype(int).tolist():
        yield _episode(trained, task, trained.model.candidates, seed)


def _episode(trained: TrainedRun, task: int, names: tuple[str, ...], seed: int) -> Episode:
    options = trained.spec.task_set_options
    env = gym.make(trained.spec.env, task=task, render_mode="rgb_array", width=SIZE, height=SIZE, **options)
    policy = MixturePolicy(trained.model, seed)
    policy.reset(np.ones(1, dtype=bool))
    frames: list[np.ndarray] = []
    shown: list[int] = []
    acted: list[int] = []
    total, note = 0.0, ""
    every = max(1, -(-(env.spec.max_episode_steps or 0) // MOST_FRAMES)) if env.spec is not None else 1
    try:
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            if not note and len(acted) % every == 0:
                try:
                    frames.append(np.asarray(env.render()))
                    shown.append(len(acted))
                except NoRendering as error:
                    note = f"no film: {error}"
            action = policy(observation[None], np.array([task]))[0]
            acted.append(int(policy.chosen[0]))
            observation, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            done = terminated or truncated
    finally:
        env.close()
    film = _encoded(np.stack(frames)) if frames else None
    return Episode(trained.task_names[task], names, np.array(acted), total, film, np.array(shown), note)


def _encoded(frames: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        video.write(path, frames, FRAMES_PER_SECOND)
        return path.read_bytes()


def timeline(runs: TaskSetRuns, run: Run, episodes: Sequence[Episode]) -> Figure:
    """A panel per episode: bars where each policy acted, and the film."""
    candidates = episodes[0].candidates
    panels, media = [], []
    for episode in episodes:
        records = [
            {"from": start, "to": stop, "policy": name, "own": name == episode.task}
            for start, stop, name in episode.stretches
        ]
        own = float((episode.acted == candidates.index(episode.task)).mean())
        description = (
            f"Timeline of one episode of {episode.task}, {len(episode.acted)} steps: its own policy acted in {own:.0%} "
            f"of them; the policy changed {len(records) - 1} times."
        )
        panels.append(Panel(episode.task, columns_of(records, ("from", "to", "policy", "own")), description))
        film = episode.film and f"data:video/mp4;base64,{base64.b64encode(episode.film).decode()}"
        media.append(
            {"film": film, "steps": episode.step_of_frame.tolist(), "rate": FRAMES_PER_SECOND, "note": episode.note}
        )
    used = {
        name: color
        for name, color in zip(candidates, task_colors(candidates), strict=True)
        if any(name in panel.columns["policy"] for panel in panels)
    }
    return Figure(
        f"{runs.slug}-episode-{slug(run.method)}-seed{run.seed}",
        f"Who acts in an episode: {run.method}, seed {run.seed}",
        "One episode of each task with the model at the end of training; the mixture chooses a policy in every step, "
        "and its mean action is executed. Bars: the policy of that row acts; the vertical line follows the film, a "
        "click into the bars moves it. QMP's Figure 9b.",
        _chart(used),
        tuple(panels),
        {"from": "from step", "to": "to step", "policy": "policy that acts"},
        kind="episode",
        settings={"media": media},
    )


def _chart(colors_of: Mapping[str, str]) -> Chart:
    policies = list(colors_of)
    colors = alt.Color("policy:N", legend=None).scale(domain=policies, range=list(colors_of.values()))
    y = alt.Y("policy:N", title=None, sort=policies).axis(ticks=False, domain=False, grid=True, labelPadding=6)
    y = y.scale(domain=policies, paddingInner=0.25)
    x = alt.X("from:Q", title="step of the episode").scale(nice=False, zero=True)
    tooltip = [alt.Tooltip("policy:N"), alt.Tooltip("from:Q", title="from step"), alt.Tooltip("to:Q", title="to step")]
    bars = alt.Chart(data()).mark_bar().encode(x=x, x2="to:Q", y=y, color=colors, tooltip=tooltip)
    now = (
        alt.Chart(data())
        .transform_aggregate(end="max(to)")
        .transform_calculate(now="now")
        .mark_rule(color=INK, strokeWidth=1.5)
        .encode(x="now:Q")
    )
    return alt.layer(bars, now).add_params(alt.param(name="now", value=0)).properties(height=22 * len(policies))
