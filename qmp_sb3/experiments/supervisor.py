"""What watches over a run while it learns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from qmp_envs.evaluation import Evaluation
from qmp_sb3 import MultiTaskSAC
from qmp_sb3.evaluation import MultiTaskEvalCallback
from qmp_sb3.experiments.live import Display
from qmp_sb3.experiments.recorder import Recorder
from qmp_sb3.experiments.run_directory import Checkpoint, RunDirectory
from qmp_sb3.experiments.run_spec import RunSpec

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
    """Between rollouts, where a run can be cut: checkpoints, progress, and the wish to stop."""

    def __init__(
        self,
        spec: RunSpec,
        directory: RunDirectory,
        checkpoint: Checkpoint | None,
        evaluate: MultiTaskEvalCallback,
        display: Display,
        newest: NewestValues,
        should_stop: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.spec, self.directory, self.evaluate = spec, directory, evaluate
        self.display, self.newest, self.should_stop = display, newest, should_stop
        self.recorder = Recorder(directory)
        self.stopped = False
        self._seconds_before = checkpoint.seconds if checkpoint is not None else 0.0
        self._began = time.monotonic()
        self.saved_at = checkpoint.steps if checkpoint is not None else 0
        self.evaluated_at = -1
        self._shown: Evaluation | None = None

    @property
    def seconds(self) -> float:
        """Wall time of the whole run so far."""
        return self._seconds_before + time.monotonic() - self._began

    def save_checkpoint(self) -> None:
        """Save where the model stands, unless that has been done."""
        assert isinstance(self.model, MultiTaskSAC)
        steps = self.model.num_timesteps
        if steps != self.saved_at:
            self.directory.save_checkpoint(steps, self.seconds, self.model.save, self.model.save_replay_buffer)
            self.saved_at = steps

    def finish(self) -> None:
        """After the last step: a checkpoint, and an evaluation of the final model if there was none yet."""
        steps = self.model.num_timesteps
        if self.evaluated_at != steps:
            if self.evaluate.last is None:
                self.evaluate.init_callback(self.model)
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
            # Saved now, not after learn(): SB3 takes a step that it does not store before it hears of this.
            self.save_checkpoint()

    def _on_step(self) -> bool:
        self._show()
        return not self.stopped

    def _show(self) -> None:
        if self.evaluate.last is not self._shown:
            self._shown = self.evaluate.last
            assert self._shown is not None
            assert isinstance(self.model, MultiTaskSAC)
            self.recorder.add(self.model, self.seconds, self._shown, self.evaluate.last_mixture)
            self.display.evaluated(self.num_timesteps, self._shown)
            self.evaluated_at = self.num_timesteps
        self.display.progress(self.num_timesteps, self.newest.values)
