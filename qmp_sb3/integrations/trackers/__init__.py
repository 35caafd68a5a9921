"""Trackers: Weights & Biases and MLflow, for ``qmp train --track`` and as a callback of any SB3 model."""

from qmp_sb3.integrations.trackers.callback import TrackingCallback
from qmp_sb3.integrations.trackers.choice import TRACKERS
from qmp_sb3.integrations.trackers.mlflow import MLflowTracker
from qmp_sb3.integrations.trackers.tracker import Tracker
from qmp_sb3.integrations.trackers.wandb import WandbTracker

__all__ = ["TRACKERS", "MLflowTracker", "Tracker", "TrackingCallback", "WandbTracker"]
