"""RL Baselines3 Zoo with the methods of this suite: ``python -m qmp_sb3.integrations.rl_zoo --algo qmp --env QMP/...``.

All other words are the zoo's: of ``rl_zoo3.train``, or after the word ``enjoy`` of ``rl_zoo3.enjoy``. Hyper-parameters
are those of :mod:`qmp_sb3.methods.presets`. A task set becomes one environment with a slot for each task;
``--eval-episodes`` are of each task.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import qmp_envs
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.common.validation import one_of
from qmp_sb3.evaluation import MultiTaskEvalCallback
from qmp_sb3.methods import presets
from qmp_sb3.vec_env import make_multitask_vec_env

try:
    import rl_zoo3.enjoy
    import rl_zoo3.train
    from rl_zoo3.callbacks import SaveVecNormalizeCallback
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.utils import ALGOS
except ModuleNotFoundError as error:
    sys.exit(f"qmp_sb3.integrations.rl_zoo: {error.name} is not installed; pip install 'qmp-suite[zoo]'")

STEPS_WITHOUT_PRESET = 1_000_000


STOCK = frozenset(ALGOS)
"""The zoo's own algorithms."""


def algorithms(words: Sequence[str] = ()) -> dict[str, type[MultiTaskOffPolicyAlgorithm]]:
    """Name of ``--algo``: class, for every method, and for the composition that the command line names.

    :raises ValueError: for a composition without meaning
    """
    given = [words[place + 1] for place, word in enumerate(words[:-1]) if word == "--algo" and "+" in words[place + 1]]
    return {name: presets.method(name).algorithm for name in (*presets.methods(), *given)}


def hyperparameters(method: str, env: str, preset: str = "fast") -> dict[str, Any]:
    """A method's settings for an id, as the zoo's files have them; of an id that is no task set, only its parts."""
    if qmp_envs.is_task_set(env):
        settings, steps = presets.settings(method, env, preset), presets.default_steps(env)
    else:
        settings, steps = presets.method(method).arguments, STEPS_WITHOUT_PRESET
    return {"policy": "MlpPolicy", "n_timesteps": steps, **settings}


class MultiTaskManager(ExperimentManager):
    """The zoo's manager, whose algorithms may be ours: then with a slot per task, evaluated task by task."""

    preset = "fast"
    eval_freq: int
    _read: Any = None

    def __init__(self, args: Any, algo: str, env_id: str, *rest: Any, **options: Any) -> None:
        self.ours = algo not in STOCK
        if self.ours and args.optimize_hyperparameters:
            raise SystemExit(f"-optimize has no search space for {algo}; use: qmp tune --env {env_id} --method {algo}")
        with contextlib.ExitStack() as stack:
            if self.ours and options.get("config") is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                values = hyperparameters(algo, env_id, self.preset)
                (folder / f"{algo}.yml").write_text(yaml.safe_dump({env_id: values}), encoding="utf-8")
                options["config"] = str(folder / f"{algo}.yml")
            super().__init__(args, algo, env_id, *rest, **options)
            self.read_hyperparameters()

    def read_hyperparameters(self) -> Any:
        """The zoo's, once: the file is gone after :meth:`__init__`."""
        if self._read is None:
            self._read = super().read_hyperparameters()
        return self._read

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        if self.ours:
            tasks = 1 if "task" in self.env_kwargs else self._tasks()
            hyperparams = {**hyperparams, "n_envs": max(int(hyperparams.get("n_envs", 1)), tasks)}
        processed = super()._preprocess_hyperparams(hyperparams)
        policy = processed[0].get("policy_kwargs", {})
        if isinstance(policy.get("activation_fn"), str):
            name = one_of("activation_fn", policy["activation_fn"], presets.ACTIVATIONS)
            processed[0]["policy_kwargs"] = {**policy, "activation_fn": presets.ACTIVATIONS[name]}
        return processed

    def _tasks(self) -> int:
        id = self.env_name.gym_id
        return len(qmp_envs.task_names(id, **self.env_kwargs)) if qmp_envs.is_task_set(id) else 1

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """One slot per task, or as many of each as ``n_envs`` says; for the zoo's own algorithms the zoo's."""
        if not self.ours:
            return super().create_envs(n_envs, eval_env, no_log)
        options = (self.eval_env_kwargs if eval_env else None) or self.env_kwargs
        tasks = 1 if "task" in options else self._tasks()
        if n_envs % tasks:
            raise ValueError(f"n_envs={n_envs} is not a multiple of the {tasks} tasks of {self.env_name.gym_id}")
        env: VecEnv = make_multitask_vec_env(self.env_name.gym_id, n_envs // tasks, self.seed, **options)
        if eval_env:
            return env
        if not no_log:
            env = VecMonitor(env, str(Path(self.save_path) / "0"))
        return self._maybe_normalize(env, eval_env)

    def create_callbacks(self) -> None:
        """The zoo's, but for the evaluation, which is of every task alike."""
        every, self.eval_freq = self.eval_freq, -1 if self.ours else self.eval_freq
        super().create_callbacks()
        if self.ours and every > 0 and not self.optimize_hyperparameters:
            self.callbacks.append(
                MultiTaskEvalCallback(
                    self.create_envs(self.n_eval_envs * self._tasks_of_evaluation(), eval_env=True),  # type: ignore[arg-type]
                    eval_freq=every,
                    n_eval_episodes=self.n_eval_episodes,
                    log_path=self.save_path,
                    best_model_save_path=self.save_path,
                    callback_on_new_best=SaveVecNormalizeCallback(1, self.params_path),
                    verbose=self.verbose,
                )
            )

    def _tasks_of_evaluation(self) -> int:
        return 1 if "task" in (self.eval_env_kwargs or self.env_kwargs) else self._tasks()


def main(arguments: Sequence[str]) -> None:
    """Run the zoo's ``train``, or its ``enjoy`` if that is the first word. An unknown name ends it with one line."""
    words = list(arguments)
    try:
        if "--preset" in words:
            place = words.index("--preset")
            MultiTaskManager.preset = one_of("--preset", " ".join(words[place + 1 : place + 2]), presets.PRESETS)
            del words[place : place + 2]
        ALGOS.update(algorithms(words))
        _check_names(words)
    except ValueError as error:
        sys.exit(f"qmp_sb3.integrations.rl_zoo: {error}")
    playing = words[:1] == ["enjoy"]
    sys.argv = [sys.argv[0], *(words[1:] if playing or words[:1] == ["train"] else words)]
    if playing:
        _enjoy(words)
    else:
        rl_zoo3.train.ExperimentManager = MultiTaskManager
        rl_zoo3.train.train()


def _check_names(words: Sequence[str]) -> None:
    for option, name in pairwise(words):
        if option == "--algo":
            one_of(option, name, ALGOS)
        elif option == "--env" and name.startswith("QMP/"):
            one_of(option, name, qmp_envs.ids())


def _enjoy(words: Sequence[str]) -> None:
    """The zoo's ``enjoy``, which asks a model for actions without saying for which task."""
    made: list[VecEnv] = []
    make = rl_zoo3.enjoy.create_test_env

    def remember(*positional: Any, **named: Any) -> VecEnv:
        made.append(make(*positional, **named))
        return made[-1]

    rl_zoo3.enjoy.create_test_env = remember
    for name, algorithm in algorithms(words).items():
        ALGOS[name] = _playing(algorithm, made)
    rl_zoo3.enjoy.enjoy()


def _playing(algorithm: type[MultiTaskOffPolicyAlgorithm], made: list[VecEnv]) -> type[MultiTaskOffPolicyAlgorithm]:
    """``algorithm``, whose ``predict`` finds the task of each row in the environment that was made last."""

    class Playing(algorithm):  # type: ignore[misc, valid-type]
        def predict(self, observation: Any, *positional: Any, **named: Any) -> Any:
            tasks = [info.get("task_name") for info in made[-1].unwrapped.reset_infos]
            return super().predict(observation, *positional, task=None if None in tasks else tasks, **named)

    return Playing


if __name__ == "__main__":
    main(sys.argv[1:])
