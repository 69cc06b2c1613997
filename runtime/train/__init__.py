"""The training loop, its configuration and its checkpoints: what to import is listed here."""

from runtime.train.calibration import calibrate
from runtime.train.checkpoint import load_weights
from runtime.train.config import Precision, TrainConfig, TrainingError
from runtime.train.loop import TrainResult, classification_metrics, log_to_stderr, train
from runtime.train.stop_signals import Interrupted

__all__ = [
    "Interrupted",
    "Precision",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "calibrate",
    "classification_metrics",
    "load_weights",
    "log_to_stderr",
    "train",
]
