"""The validation set: mean loss and metrics of a model over it, over all processes."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .batches import Part, ValidationBatches
from .config import TrainingError
from .monitor import Row
from .processes import Processes
from .stop_signals import StopSignals
from .task import Judged, Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class NotFiniteError(Exception):
    """The loss of a part of the validation set is not a finite number."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part


class _Totals(NamedTuple):
    """Sums over the validation set, () each."""

    loss: Tensor  # samples * loss
    samples: Tensor
    stop: Tensor  # processes that were asked to stop


class Validation:
    """The validation set and what is measured on it."""

    def __init__(
        self, batches: ValidationBatches, metrics: "MetricCollection | None", task: Task, processes: Processes
    ) -> None:
        self._batches, self._metrics = batches, metrics
        self._task, self._processes = task, processes

    @torch.no_grad()
    def measure(self, model: nn.Module, stop: StopSignals) -> Row | None:
        """validation_loss and the metrics; None if a stop was wanted before the end. The model is left in eval().

        Raises NotFiniteError at a loss that is not finite, TrainingError if a metric rejects what it is given.
        """
        model.eval()
        totals = _Totals(*torch.zeros(3, dtype=self._processes.widest, device=self._task.device))
        for part in stop.drawn(self._batches, at_first=self._processes.size == 1):
            judged = self._task.judge(model, part)
            if not torch.isfinite(judged.loss):
                raise NotFiniteError(part)
            totals.loss.add_(judged.loss * len(part.indices))
            totals.samples.add_(len(part.indices))
            self._update(judged)
            if stop.requested:
                break
        totals.stop.fill_(float(stop.requested))
        self._processes.sum_(totals)
        loss, samples, stops = torch.stack(totals).tolist()
        measured = self._computed() if not stops else {}
        if self._metrics is not None:
            self._metrics.reset()
        return None if stops else {"validation_loss": loss / samples} | measured

    def _update(self, judged: Judged) -> None:
        if self._metrics is not None:
            try:
                self._metrics.update(judged.output, judged.label)
            except Exception as error:
                raise TrainingError(f"the metrics reject outputs and labels: {_one_line(error)}.") from error

    def _computed(self) -> Row:
        if self._metrics is None:
            return {}
        try:
            values = self._metrics.compute()
        except Exception as error:
            raise TrainingError(f"the metrics cannot be computed: {_one_line(error)}.") from error
        return {name: _single(name, value) for name, value in values.items()}


def _single(name: str, value: Tensor) -> float:
    if value.numel() != 1:
        raise TrainingError(
            f"the metric {name!r} has {value.numel()} values, not one. Average it, for example average='macro'."
        )
    return float(value)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
