"""What a part of a batch costs: the model's output and its loss, in one precision on one device.

Errors raised inside the caller's model keep their type and traceback; a note says which samples were in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from .batches import Part
from .config import Precision, TrainingError
from .samples import noun
from .trees import map_tensors, shapes

Loss = Callable[[Any, Any], Tensor]  # (output (batch, ...), label (batch, ...)) -> mean over the batch, ()
Forward = Callable[[nn.Module, Any], Any]  # (model, inputs) -> output


class Judged(NamedTuple):
    """A part of a batch and what the model made of it, on the device."""

    loss: Tensor  # (): mean over the part
    output: Any  # (batch, ...) in float32 or float64
    label: Any  # (batch, ...)


@dataclass(frozen=True)
class Task:
    """Forward and loss. `forward` is the caller's; None: model(inputs), whose output is one tensor."""

    loss: Loss
    forward: Forward | None
    precision: Precision
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of outputs and losses."""
        return torch.float64 if self.precision is Precision.FLOAT64 else torch.float32

    @property
    def model_dtype(self) -> torch.dtype | None:
        """The dtype of weights and inputs; None: as the caller made them."""
        return torch.float64 if self.precision is Precision.FLOAT64 else None

    def judge(self, model: nn.Module, part: Part) -> Judged:
        """The loss of a model on a part.

        Raises TrainingError if output or loss are not what they should be, or the loss rejects output and label.
        """
        inputs = map_tensors(lambda t: t.to(self.device, self._input_dtype(t), non_blocking=True), part.inputs)
        label = map_tensors(lambda t: t.to(self.device, non_blocking=True), part.label)  # (batch, ...)
        output = self._output(model, inputs, part)  # (batch, ...)
        value = self._loss(output, label, part)  # ()
        return Judged(value, output, label)

    def _input_dtype(self, tensor: Tensor) -> torch.dtype | None:
        return self.model_dtype if tensor.is_floating_point() else None

    def _output(self, model: nn.Module, inputs: Any, part: Part) -> Any:
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision is Precision.BF16_MIXED):
                output = model(inputs) if self.forward is None else self.forward(model, inputs)
        except Exception as error:
            error.add_note(f"raised by the model, given {noun(inputs, 1)}s {shapes(inputs)} ({_samples(part)})")
            if isinstance(inputs, Tensor) and inputs.ndim == 4:  # (batch, x, y, z), or (batch, channel, row, column)
                error.add_note("if these are volumes of a single channel, each needs that axis too: volume[None]")
            raise
        if self.forward is None and not isinstance(output, Tensor):
            raise TrainingError(
                f"the model returns a {type(output).__name__}, not a tensor. Pick what the loss takes: "
                f"train(..., forward=lambda model, inputs: model(inputs)[0])."
            )
        try:
            return map_tensors(lambda t: t.to(self.dtype) if t.is_floating_point() else t, output)
        except TypeError as error:
            raise TrainingError(f"forward returns {error}. Return what the loss takes, of tensors.") from error

    def _loss(self, output: Any, label: Any, part: Part) -> Tensor:
        try:
            value = self.loss(output, label)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise TrainingError(
                f"the loss rejects outputs {shapes(output)} with labels {shapes(label)} ({_samples(part)}): "
                f"{str(error).rstrip('.')}. {_cure(self.loss, output, label)}"
            ) from error
        except Exception as error:
            error.add_note(f"raised by the loss ({_samples(part)})")
            raise
        if not isinstance(value, Tensor):
            raise TrainingError(f"the loss is a {type(value).__name__}, not a tensor. Return the mean over the batch.")
        if value.ndim or not value.is_floating_point():
            raise TrainingError(
                f"the loss has shape {tuple(value.shape)}, not (), or is not real: {value.dtype}. "
                f"Return the mean over the batch."
            )
        if torch.is_grad_enabled() and not value.requires_grad:
            raise TrainingError(
                "the loss does not depend on any weight that learns: something detached it (.detach(), .item(), "
                "no_grad(), argmax). Nothing can be learned from it."
            )
        return value


def task_of(loss: Loss, forward: Forward | None, precision: Precision, device: torch.device) -> Task:
    """The task, with a loss that is a module taken to the device and the precision."""
    task = Task(loss, forward, precision, device)
    if isinstance(loss, nn.Module):
        loss.to(device, task.model_dtype)
    return task


def _cure(loss: Loss, output: Any, label: Any) -> str:
    """What to do about labels that a loss rejects."""
    of_classes = loss is cross_entropy or isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    if of_classes and isinstance(output, Tensor) and isinstance(label, Tensor) and label.dtype != torch.long:
        of_probabilities = label.is_floating_point() and label.ndim == output.ndim
        if not of_probabilities:
            return f"Classes are int64 numbers, and these are {label.dtype}: return label.long() from the data set."
    return "Check shapes, types and the number of classes."


def _samples(part: Part) -> str:
    more = ", ..." if len(part.indices) > 4 else ""
    return f"samples {', '.join(map(str, part.indices[:4]))}{more}"
