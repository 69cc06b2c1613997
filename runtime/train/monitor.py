"""The monitored column of the history: which epoch was best, and whether patience has run out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config import TrainingError

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

Row = dict[str, float]  # one epoch of the history: column -> value


@dataclass(frozen=True)
class Monitor:
    """A column, and the sign that makes lower better."""

    name: str
    sign: int

    def best_epoch(self, history: Sequence[Row]) -> int:
        """The epoch with the best value; the first of equals."""
        values = [self.sign * row[self.name] for row in history]
        return min(range(len(values)), key=lambda epoch: math.inf if math.isnan(values[epoch]) else values[epoch])

    def out_of_patience(self, history: Sequence[Row], patience: int) -> bool:
        """Whether `patience` epochs have passed since the best one; never if patience is 0."""
        waited = len(history) - 1 - self.best_epoch(history) if history else 0
        return bool(patience) and waited >= patience


def monitor_of(wanted: str, validated: bool, metrics: "MetricCollection | None") -> Monitor:
    """The monitor a configuration names; validation_loss, or train_loss without validation, if it names none."""
    signs = {"train_loss": 1, "gradient_norm": 1}
    if validated:
        signs["validation_loss"] = 1
        for name, metric in metrics.items() if metrics is not None else ():
            if metric.higher_is_better is not None:
                signs[name] = -1 if metric.higher_is_better else 1
    elif metrics is not None:
        raise TrainingError("metrics are measured on the validation set, and there is none. Give validation=...")
    name = wanted or ("validation_loss" if validated else "train_loss")
    if name not in signs:
        raise TrainingError(
            f"monitor = {name!r} is not a column of the history, or has no better direction. "
            f"Choose: {', '.join(signs)}."
        )
    return Monitor(name, signs[name])
