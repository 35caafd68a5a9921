"""Training runs: what a run is, its directory, its life, and what it shows."""

from qmp_sb3.experiments.checkpoints import Checkpoint, Checkpoints
from qmp_sb3.experiments.run import RunStatus, run
from qmp_sb3.experiments.run_directory import RunDirectory
from qmp_sb3.experiments.run_spec import RunSpec
from qmp_sb3.experiments.trained import TrainedRun

__all__ = ["Checkpoint", "Checkpoints", "RunDirectory", "RunSpec", "RunStatus", "TrainedRun", "run"]
