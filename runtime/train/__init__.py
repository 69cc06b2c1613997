"""The training loop, its configuration and its checkpoints: what to import is listed here."""

from .calibration import calibrate
from .config import Precision, TrainConfig, TrainingError
from .log import log_to_stderr
from .loop import classification_metrics, train
from .run import TrainResult
from .stop_signals import Interrupted
from .weights import load_weights

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
