"""Training runs: what a run is, its directory, its life, and what it shows."""

from qmp_sb3.experiments.runs.checkpoints import Checkpoint, Checkpoints
from qmp_sb3.experiments.runs.run import RunStatus, run
from qmp_sb3.experiments.runs.run_directory import RunDirectory
from qmp_sb3.experiments.runs.run_spec import RunSpec
from qmp_sb3.experiments.runs.trained import TrainedRun

__all__ = ["Checkpoint", "Checkpoints", "RunDirectory", "RunSpec", "RunStatus", "TrainedRun", "run"]
