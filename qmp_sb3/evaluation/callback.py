"""Evaluation of every task alike: the tasks' own policies (the headline) and the mixture (a second curve)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback, EventCallback

from qmp_envs.evaluation import Evaluation
from qmp_envs.measures import MEASURES, RANKING
from qmp_envs.results.table import FILE_NAME, Results
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.evaluation import npz_export
from qmp_sb3.evaluation.policies import MixturePolicy, OwnPolicy, evaluate_tasks
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env


class MultiTaskEvalCallback(EventCallback):
    """Evaluates every task equally and logs ``eval/<task>/...`` for the tasks' own deterministic policies and
    ``eval_mixture/<task>/...`` for the mixture that collects the data.

    The best model is the one with the highest mean ``success_all``, then ``success_any``, share of subgoals and return.
    ``best_mean_reward`` is the highest mean return so far, for SB3's stopping rules.

    :param eval_env: id of a task set, vector environment or :class:`~qmp_sb3.vec_env.multitask_vec_env.MultiTaskVecEnv`
    :param eval_freq: environment steps, all tasks together, between evaluations
    :param n_eval_episodes: episodes per task
    :param log_path: directory for ``results.parquet``, a row per episode: a training that is resumed goes on with it.
        From it ``evaluations.npz`` is written: SB3's arrays ``timesteps (evaluations,)``, ``results``, ``ep_lengths``,
        ``successes`` (``success_all``), each ``(evaluations, tasks * episodes)``; beside them ``successes_any``,
        ``stages``, ``task_ids (tasks * episodes,)``, ``task_names`` and, with ``mixture_`` before the name, the
        mixture's
    :param best_model_save_path: directory for ``best_model.zip``
    :param seed: every evaluation runs the same episodes, seeded with it
    :param mixture: whether to evaluate the mixture too
    :param env_kwargs: options of the environment if ``eval_env`` is an id
    :param callback_on_new_best: called when there is a new best model
    :param callback_after_eval: called after every evaluation
    :param verbose: 1 prints a line per evaluation
    """

    def __init__(
        self,
        eval_env: str | VectorEnv | MultiTaskVecEnv,
        eval_freq: int = 25_000,
        n_eval_episodes: int = 10,
        log_path: str | os.PathLike | None = None,
        best_model_save_path: str | os.PathLike | None = None,
        seed: int = 0,
        mixture: bool = True,
        env_kwargs: dict[str, Any] | None = None,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_eval: BaseCallback | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(callback_after_eval, verbose=verbose)
        if eval_freq < 1 or n_eval_episodes < 1:
            raise ValueError(f"eval_freq={eval_freq} and n_eval_episodes={n_eval_episodes} must be at least 1")
        env = eval_env
        if not isinstance(env, MultiTaskVecEnv):
            copies = n_eval_episodes if isinstance(env, str) else 1
            env = make_multitask_vec_env(env, envs_per_task=copies, **(env_kwargs or {}))
        self.eval_env, self.eval_freq, self.n_eval_episodes = env, eval_freq, n_eval_episodes
        self.log_path, self.best_model_save_path = log_path, best_model_save_path
        self.seed, self.mixture = seed, mixture
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self  # SB3's stopping rules read the next line from it
        self.best_mean_reward = -np.inf
        self.last: Evaluation | None = None
        self.last_mixture: Evaluation | None = None
        self.best: tuple[float, ...] | None = None
        self.results: Results | None = None
        self._task_set = eval_env if isinstance(eval_env, str) else _name_of(self.eval_env.envs)
        self._restored = False

    def _init_callback(self) -> None:
        if not isinstance(self.model, MultiTaskOffPolicyAlgorithm):
            raise TypeError(f"MultiTaskEvalCallback asks each task's policy; {type(self.model).__name__} has no tasks")
        if tuple(self.model.task_names) != self.eval_env.task_names:
            raise ValueError(
                f"the evaluation has the tasks {', '.join(self.eval_env.task_names)}, "
                f"the model {', '.join(self.model.task_names)}"
            )
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        self._run = (self._task_set, type(self.model).__name__, self.model.seed or 0)
        if not self._restored:
            self._restore()

    def snapshot(self) -> dict[str, Any]:
        """All evaluations so far, as plain values."""
        rows = None if self.results is None else np.frombuffer(self.results.to_bytes(), np.uint8)
        return {"rows": rows, "best": self.best, "best_mean_reward": float(self.best_mean_reward)}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on after the evaluations of a :meth:`snapshot`, whatever the files hold; they are written again."""
        self.best, self.best_mean_reward = snapshot["best"], snapshot["best_mean_reward"]
        self._restored = True
        if snapshot["rows"] is not None:
            self.results = Results.from_bytes(snapshot["rows"].tobytes())
            self.last, self.last_mixture = self._newest("own"), self._newest("mixture")
            self._write()

    @property
    def evaluated_at(self) -> int | None:
        """Environment steps at the last evaluation; None before the first."""
        return None if self.results is None else int(self.results.column("step").max())

    def _newest(self, policy: str) -> Evaluation | None:
        """The last evaluation of a policy, from its rows."""
        assert self.results is not None
        rows = self.results.where(policy=policy, step=self.evaluated_at)
        return rows.evaluation() if len(rows) else None

    def _restore(self) -> None:
        """A resumed training goes on with the results that its directory has, up to the model's step."""
        if self.log_path is None or self.model.num_timesteps == 0 or not (Path(self.log_path) / FILE_NAME).is_file():
            return
        kept = Results.read(self.log_path).until(self.model.num_timesteps)
        if not len(kept):
            return
        self.results, self._run = kept, kept.key
        own = kept.where(policy="own")
        for step in own.unique("step"):
            evaluation = own.where(step=step).evaluation()
            self.best = _merit(evaluation) if self.best is None else max(self.best, _merit(evaluation))
            self.best_mean_reward = max(self.best_mean_reward, evaluation.mean("return"))

    def _on_training_start(self) -> None:
        self._next = (self.model.num_timesteps // self.eval_freq + 1) * self.eval_freq

    def _on_step(self) -> bool:
        if self.num_timesteps < self._next:
            return True
        self._next = (self.num_timesteps // self.eval_freq + 1) * self.eval_freq
        return self.evaluate()

    def evaluate(self) -> bool:
        """Evaluate now; False if a child callback wants training to stop."""
        model = self.model
        assert isinstance(model, MultiTaskOffPolicyAlgorithm)
        model.policy.set_training_mode(False)
        self.last = evaluate_tasks(OwnPolicy(model), self.eval_env, self.n_eval_episodes, self.seed)
        rows = self._record("own", self.last)
        if self.mixture and model.n_tasks > 1:
            mixture = MixturePolicy(model, self.seed)
            self.last_mixture = evaluate_tasks(mixture, self.eval_env, self.n_eval_episodes, self.seed)
            rows = rows.with_rows(self._record("mixture", self.last_mixture))
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        self._keep(rows)
        if self.verbose >= 1:
            print(
                f"{self.num_timesteps} steps: "
                + ", ".join(f"{m.logged} {self.last.mean(name):.3g}" for name, m in MEASURES.items())
            )
        return self._compare() and (self.callback is None or self._on_event())

    def _record(self, policy: str, evaluation: Evaluation) -> Results:
        """Log an evaluation; its rows."""
        prefix = "eval" if policy == "own" else f"eval_{policy}"
        for name, measure in MEASURES.items():
            by_task = evaluation.per_task(name)
            if np.isnan(by_task).all():
                continue
            self.logger.record(f"{prefix}/{measure.logged}", float(by_task.mean()))
            for task, value in zip(evaluation.task_names, by_task, strict=True):
                self.logger.record(f"{prefix}/{task}/{measure.logged}", float(value), exclude="stdout")
        return self._rows(policy, evaluation)

    def _rows(self, policy: str, evaluation: Evaluation) -> Results:
        """The rows of an evaluation made now."""
        return Results.of(evaluation, *self._run, self.num_timesteps, policy)

    def _keep(self, rows: Results) -> None:
        """Add the rows of the evaluation made now, in place of any that a training had that began anew."""
        before = None if self.results is None else self.results.until(self.num_timesteps - 1)
        self.results = before.with_rows(rows) if before else rows
        self._write()

    def _write(self) -> None:
        """Write the files, each whole or not at all: the results first, as the others are made from them."""
        if self.log_path is not None and self.results is not None:
            self.results.write(Path(self.log_path) / FILE_NAME)
            npz_export.write_evaluations(self.results, Path(self.log_path) / npz_export.FILE_NAME)

    def _compare(self) -> bool:
        assert self.last is not None
        self.best_mean_reward = max(self.best_mean_reward, self.last.mean("return"))
        current = _merit(self.last)
        if self.best is not None and current <= self.best:
            return True
        self.best = current
        if self.best_model_save_path is not None:
            directory = Path(self.best_model_save_path)
            directory.mkdir(parents=True, exist_ok=True)
            self.model.save(directory / "best_model")
        return self.callback_on_new_best is None or self.callback_on_new_best.on_step()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        if self.callback is not None:
            self.callback.update_locals(locals_)


def _merit(evaluation: Evaluation) -> tuple[float, ...]:
    """What makes a model the best one, the first difference deciding; NaN measures count as 0."""
    return tuple(float(np.nan_to_num(evaluation[measure]).mean()) for measure in RANKING)


def _name_of(envs: VectorEnv) -> str:
    """The id of environments, or what they are where they were made without one."""
    return envs.spec.id if envs.spec is not None else type(envs.unwrapped).__name__
