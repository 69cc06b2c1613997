"""The training loop, its configuration and its checkpoints: what to import is listed here."""

from runtime.train.calibration import calibrate
from runtime.train.config import Precision, TrainConfig, TrainingError
from runtime.train.log import log_to_stderr
from runtime.train.loop import classification_metrics, train
from runtime.train.run import TrainResult
from runtime.train.stop_signals import Interrupted
from runtime.train.weights import load_weights

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
