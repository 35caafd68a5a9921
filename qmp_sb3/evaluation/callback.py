"""Evaluation of every task alike: the tasks' own policies (the headline) and the mixture (a second curve)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from stable_baselines3.common.callbacks import BaseCallback, EventCallback

from qmp_envs import atomic_files
from qmp_envs.evaluation import Evaluation
from qmp_sb3.algorithms.sac import MultiTaskSAC
from qmp_sb3.evaluation.policies import MixturePolicy, OwnPolicy, evaluate_tasks
from qmp_sb3.vec_env import MultiTaskVecEnv, make_multitask_vec_env

#: measure of :class:`qmp_envs.evaluation.Evaluation` -> its name in the log
LOGGED = {
    "returns": "mean_reward",
    "lengths": "mean_ep_length",
    "success_any": "success_any",
    "success_all": "success_all",
    "stages": "subgoals",
}
#: the same measure -> its array in ``evaluations.npz``, the first three as SB3's ``EvalCallback`` names them
SAVED = {
    "returns": "results",
    "lengths": "ep_lengths",
    "success_all": "successes",
    "success_any": "successes_any",
    "stages": "stages",
}


class MultiTaskEvalCallback(EventCallback):
    """Evaluates every task equally and logs ``eval/<task>/...`` for the tasks' own deterministic policies and
    ``eval_mixture/<task>/...`` for the mixture that collects the data.

    The best model is the one with the highest mean ``success_all``, then ``success_any``, share of stages and return.
    ``best_mean_reward`` is the highest mean return so far, for SB3's stopping rules.

    :param eval_env: id of a task set, vector environment or :class:`~qmp_sb3.vec_env.multitask_vec_env.MultiTaskVecEnv`
    :param eval_freq: environment steps, all tasks together, between evaluations
    :param n_eval_episodes: episodes per task
    :param log_path: directory for ``evaluations.npz``: SB3's arrays ``timesteps (evaluations,)``, ``results``,
        ``ep_lengths``, ``successes`` (``success_all``), each ``(evaluations, tasks * episodes)``; beside them
        ``successes_any``, ``stages``, ``task_ids (tasks * episodes,)``, ``task_names`` and, with ``mixture_`` before
        the name, the mixture's
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
        if not isinstance(eval_env, MultiTaskVecEnv):
            copies = n_eval_episodes if isinstance(eval_env, str) else 1
            eval_env = make_multitask_vec_env(eval_env, envs_per_task=copies, **(env_kwargs or {}))
        self.eval_env, self.eval_freq, self.n_eval_episodes = eval_env, eval_freq, n_eval_episodes
        self.log_path, self.best_model_save_path = log_path, best_model_save_path
        self.seed, self.mixture = seed, mixture
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self  # SB3's stopping rules read the next line from it
        self.best_mean_reward = -np.inf
        self.last: Evaluation | None = None
        self.last_mixture: Evaluation | None = None
        self.best: tuple[float, ...] | None = None
        self._columns: dict[str, list[np.ndarray]] = {}
        self._timesteps: list[int] = []
        self._restored = False

    def _init_callback(self) -> None:
        if not isinstance(self.model, MultiTaskSAC):
            raise TypeError(f"MultiTaskEvalCallback asks each task's policy; {type(self.model).__name__} has no tasks")
        if tuple(self.model.task_names) != self.eval_env.task_names:
            raise ValueError(
                f"the evaluation has the tasks {', '.join(self.eval_env.task_names)}, "
                f"the model {', '.join(self.model.task_names)}"
            )
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        if not self._restored:
            self._restore()

    def snapshot(self) -> dict[str, Any]:
        """All evaluations so far, as plain values."""
        return {
            "timesteps": list(self._timesteps),
            "columns": {key: np.array(rows) for key, rows in self._columns.items()},
            "best": self.best,
            "best_mean_reward": float(self.best_mean_reward),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on after the evaluations of a :meth:`snapshot`; ``evaluations.npz`` is written again."""
        self._timesteps = list(snapshot["timesteps"])
        self._columns = {key: list(rows) for key, rows in snapshot["columns"].items()}
        self.best, self.best_mean_reward = snapshot["best"], snapshot["best_mean_reward"]
        self.last, self.last_mixture = self._newest(""), self._newest("mixture_")
        self._restored = True
        self._write()

    @property
    def evaluated_at(self) -> int | None:
        """Environment steps at the last evaluation that is kept for ``log_path``; None before the first."""
        return self._timesteps[-1] if self._timesteps else None

    def _newest(self, twin: str) -> Evaluation | None:
        """The last evaluation, from its columns."""
        names = self.eval_env.task_names
        if twin + "results" not in self._columns:
            return None
        newest = {measure: self._columns[twin + column][-1] for measure, column in SAVED.items()}
        return Evaluation(names, **{measure: row.reshape(len(names), -1) for measure, row in newest.items()})

    def _restore(self) -> None:
        """A resumed run goes on with the evaluations that its directory has, up to the model's step."""
        path = None if self.log_path is None else Path(self.log_path) / "evaluations.npz"
        if path is None or not path.exists() or self.model.num_timesteps == 0:
            return
        with np.load(path) as saved:
            kept = int((saved["timesteps"] <= self.model.num_timesteps).sum())
            self._timesteps = saved["timesteps"][:kept].tolist()
            for key in saved.files:
                if key not in ("timesteps", "task_ids", "task_names"):
                    self._columns[key] = list(saved[key][:kept])
        for row in range(kept):
            merit = _merit({measure: self._columns[column][row] for measure, column in SAVED.items()})
            self.best = merit if self.best is None else max(self.best, merit)
            self.best_mean_reward = max(self.best_mean_reward, float(self._columns["results"][row].mean()))

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
        assert isinstance(model, MultiTaskSAC)
        model.policy.set_training_mode(False)
        self.last = evaluate_tasks(OwnPolicy(model), self.eval_env, self.n_eval_episodes, self.seed)
        self._record("eval", self.last)
        if self.mixture and model.n_tasks > 1:
            mixture = MixturePolicy(model, self.seed)
            self.last_mixture = evaluate_tasks(mixture, self.eval_env, self.n_eval_episodes, self.seed)
            self._record("eval_mixture", self.last_mixture)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        self._save()
        if self.verbose >= 1:
            print(f"{self.num_timesteps} steps: " + ", ".join(f"{LOGGED[m]} {self.last.mean(m):.3g}" for m in LOGGED))
        return self._compare() and (self.callback is None or self._on_event())

    def _record(self, prefix: str, evaluation: Evaluation) -> None:
        for measure, key in LOGGED.items():
            by_task = evaluation.per_task(measure)
            if np.isnan(by_task).all():
                continue
            self.logger.record(f"{prefix}/{key}", float(by_task.mean()))
            for task, value in zip(evaluation.task_names, by_task, strict=True):
                self.logger.record(f"{prefix}/{task}/{key}", float(value), exclude="stdout")
        if self.log_path is None:
            return
        twin = "" if prefix == "eval" else "mixture_"
        for measure, column in SAVED.items():
            self._columns.setdefault(twin + column, []).append(getattr(evaluation, measure).reshape(-1))

    def _save(self) -> None:
        """Write ``evaluations.npz`` whole: to a temporary file, then in its place."""
        if self.log_path is not None:
            self._timesteps.append(self.num_timesteps)
        self._write()

    def _write(self) -> None:
        if self.log_path is None or self.last is None:
            return
        directory = Path(self.log_path)
        directory.mkdir(parents=True, exist_ok=True)
        tasks, episodes = self.last.returns.shape
        arrays = dict(
            timesteps=np.array(self._timesteps),
            task_ids=np.repeat(np.arange(tasks), episodes),
            task_names=np.array(self.last.task_names),
        ) | {key: np.array(rows) for key, rows in self._columns.items()}
        atomic_files.replace(directory / "evaluations.npz", lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]

    def _compare(self) -> bool:
        assert self.last is not None
        self.best_mean_reward = max(self.best_mean_reward, self.last.mean("returns"))
        current = _merit({measure: getattr(self.last, measure) for measure in SAVED})
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


def _merit(results: dict[str, np.ndarray]) -> tuple[float, ...]:
    """What makes a model the best one, the first difference deciding; NaN measures count as 0."""
    measures = ("success_all", "success_any", "stages", "returns")
    return tuple(float(np.nan_to_num(results[measure]).mean()) for measure in measures)
