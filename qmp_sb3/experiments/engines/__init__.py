"""Engines: where many runs compute. The run is the unit; an engine only maps it over specs."""

from qmp_sb3.experiments.engines.base import Engine
from qmp_sb3.experiments.engines.board import Board, LiveBoard, PlainBoard
from qmp_sb3.experiments.engines.choice import ENGINES, make_engine
from qmp_sb3.experiments.engines.job import Job, Outcome
from qmp_sb3.experiments.engines.local import Local
from qmp_sb3.experiments.engines.preflight import check_specs
from qmp_sb3.experiments.engines.ray import Ray
from qmp_sb3.experiments.engines.slurm import Slurm

__all__ = [
    "ENGINES",
    "Board",
    "Engine",
    "Job",
    "LiveBoard",
    "Local",
    "Outcome",
    "PlainBoard",
    "Ray",
    "Slurm",
    "check_specs",
    "make_engine",
]
