"""What supervises a run while it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from qmp_envs.evaluation import Evaluation
from qmp_sb3.algorithms.base import MultiTaskOffPolicyAlgorithm
from qmp_sb3.algorithms.training_state import pending_log, restore_pending_log
from qmp_sb3.experiments.runs.live import Display
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_evaluation import RunEvaluation
from qmp_sb3.experiments.runs.run_lock import RunLock
from qmp_sb3.experiments.runs.run_spec import RunSpec

NUMBER = (int, float, np.integer, np.floating)


class NewestValues(KVWriter):
    """A log writer that remembers the newest value of every key."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.values.update((key, float(value)) for key, value in key_values.items() if isinstance(value, NUMBER))

    def close(self) -> None:
        pass


class Supervisor(BaseCallback):
    """Between rollouts, where a run can be interrupted: checkpoints, progress, and requests to stop."""

    def __init__(
        self,
        spec: RunSpec,
        directory: RunDirectory,
        lock: RunLock,
        evaluate: RunEvaluation,
        display: Display,
        newest: NewestValues,
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.spec, self.directory, self.lock, self.evaluate = spec, directory, lock, evaluate
        self.display, self.newest, self.should_stop = display, newest, should_stop
        self.stopped = False
        self._config = directory.config()
        self.saved_at = 0
        self._shown: Evaluation | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the whole run so far."""
        return self.evaluate.watch.seconds

    def resume(self, model: MultiTaskOffPolicyAlgorithm, about: Mapping[str, Any]) -> None:
        """Resume from a checkpoint, with its evaluations, and with what was recorded but not yet logged.

        :param about: what :meth:`save_checkpoint` stored with it
        """
        self.evaluate.restore(about["evaluations"])
        self._shown = self.evaluate.last
        restore_pending_log(model.logger, about["log"])
        self.saved_at = model.num_timesteps

    def save_checkpoint(self) -> None:
        """Save the state of the model, unless that has been done."""
        assert isinstance(self.model, MultiTaskOffPolicyAlgorithm)
        if self.model.num_timesteps == self.saved_at:
            return
        self.lock.check()
        about = {
            "evaluations": self.evaluate.snapshot(),
            "log": pending_log(self.logger),
        }
        checkpoint = self.directory.checkpoints.save(self.model, self.seconds, about, self._config)
        self.saved_at = checkpoint.steps
        self.logger.record("time/checkpoint_seconds", checkpoint.note["took"], exclude="stdout")
        self.logger.record("time/checkpoint_megabytes", checkpoint.note["bytes"] / 1e6, exclude="stdout")

    def finish(self) -> None:
        """After the last step: a checkpoint, and an evaluation of the final model if there was none yet."""
        steps = self.model.num_timesteps
        if self.evaluate.evaluated_at != steps:
            self.evaluate.num_timesteps = self.num_timesteps = steps
            self.evaluate.evaluate()
            self._show()
        self.save_checkpoint()

    def _on_rollout_start(self) -> None:
        every = self.spec.checkpoint_every
        if self.num_timesteps // every > self.saved_at // every:
            self.save_checkpoint()
        self.stopped = self.should_stop()
        if self.stopped:
            # Saved now, not after learn(): SB3 takes a step that it does not store before it learns of this.
            self.save_checkpoint()

    def _on_step(self) -> bool:
        self._show()
        return not self.stopped

    def _show(self) -> None:
        if self.evaluate.last is not self._shown:
            self._shown = self.evaluate.last
            assert self._shown is not None
            self.display.evaluated(self.num_timesteps, self._shown)
        self.display.progress(self.num_timesteps, self.newest.values)
