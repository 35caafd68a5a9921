"""Trackers by name."""

from qmp_sb3.integrations.trackers.mlflow import MLflowTracker
from qmp_sb3.integrations.trackers.tracker import Tracker
from qmp_sb3.integrations.trackers.wandb import WandbTracker

TRACKERS: dict[str, type[Tracker]] = {tracker.name: tracker for tracker in (WandbTracker, MLflowTracker)}
"""Name on the command line: class."""
