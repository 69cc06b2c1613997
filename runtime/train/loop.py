"""The training loop: what happens to a model between its first weights and its best ones.

    loss(step)  = sum over the step's samples / their number           for any number of processes and passes
    gradient   += l1 sign(w) + 2 l2 w                                   weights of convolutions, weights of norms
    gradient   <- gradient * min(1, clip_norm / |gradient|)
    w          <- Adam(w, gradient, lr(epoch))
    e          <- ema_decay e + (1 - ema_decay) w

    result = train(model, data, TrainConfig(epochs=100, batch_size=16, learning_rate=0.1), "runs/first")

Nothing is carried from step to step but weights, optimiser state and averages: the order of the samples and every
random draw follow from (seed, epoch, step, process), see `runtime.train.batches`. So a run that is stopped or killed
and resumed ends, on a CPU, with the same bits as one that never was. The processes add up their gradients in one
message after backward, with the loss and the wish to stop or save in it.

docs/training.md says why it is written in plain torch.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import Dataset

from .arguments import check_arguments
from .batches import TrainBatches, ValidationBatches
from .config import TrainConfig, TrainingError
from .learner import Learner
from .lock import locked
from .log import Log, OnEpoch
from .processes import Processes, joined_processes
from .restore import facts_of
from .run import Run, TrainResult
from .stop_signals import StopNow, StopSignals
from .task import Forward, Loss, task_of
from .validation import Validation

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

__all__ = ["classification_metrics", "train"]


def train(
    model: nn.Module,
    data: "Dataset[Any]",
    config: TrainConfig,
    directory: str | Path,
    *,
    validation: "Dataset[Any] | None" = None,
    loss: Loss = F.cross_entropy,
    metrics: "MetricCollection | None" = None,
    optimizer: Callable[..., Optimizer] = torch.optim.Adam,
    forward: Forward | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
    go_on: str | None = None,
) -> TrainResult:
    """Train a model in place; under torchrun, together with the other processes. docs/training.md says more.

    model       any module inputs (batch, ...) -> output (batch, ...); ends with its last weights; eval() parts stay so
    data        map-style data set of pairs (inputs, label), each a tensor of any shape, or a tuple, list or dictionary
                of them; it may draw from the global generators, which are reseeded for every sample and step
    directory   of checkpoints and logs; only the process of rank 0 writes, all must be able to read
    validation  measured after every epoch, on the averaged weights if there are any
    loss        (output in float32, or in float64 with that precision, label) -> mean over the batch
    metrics     of the validation set, for example `classification_metrics(10)`
    optimizer   called as optimizer(parameters, lr=...); the rates of parameter groups keep their ratios to `lr`
    forward     called as forward(model, inputs) instead of model(inputs); all it returns goes to loss and metrics
    on_epoch    called as on_epoch(row) after every epoch, in the process of rank 0, with a copy of the newest row of
                the history: column -> number. An error in it is logged, and training goes on; the other processes
                wait for it. The epoch is not saved yet: a run that is killed and resumed may report it again
    resume      continue from the newest checkpoint in `directory`, if there is one
    go_on       what messages tell a person to do to continue the run, for commands: "add --resume"

    Raises TrainingError if data, configuration, model or checkpoint do not fit together, another training runs in the
    directory, or loss or gradient stop being finite; then nothing on disk is overwritten. Errors raised inside the
    model or the data set keep their type, with a note that names the samples. Raises Interrupted after saving on
    Ctrl-C, SIGTERM or SIGHUP.
    """
    check_arguments(model, config, directory, loss, metrics, optimizer, forward, on_epoch)
    work = _Work(model, data, config, Path(directory), validation, loss, metrics, optimizer, forward)
    go_on = go_on or ("run the same again" if resume else "run the same with resume=True")
    with ExitStack() as stack:
        run = work.started(stack, resume, go_on)
        log = stack.enter_context(Log(run, on_epoch))
        if not run.is_done:  # else the checkpoint stays: one of `epochs` below what it has done would be refused
            _train_epochs(run, log)
            run.save()
        return run.result()


@dataclass(frozen=True)
class _Work:
    """What is to be done: the arguments of `train`."""

    model: nn.Module
    data: "Dataset[Any]"
    config: TrainConfig
    directory: Path
    validation: "Dataset[Any] | None"
    loss: Loss
    metrics: "MetricCollection | None"
    optimizer: Callable[..., Optimizer]
    forward: Forward | None

    def started(self, stack: ExitStack, resume: bool, go_on: str) -> Run:
        """The run at its first step; what it has opened is closed with the stack."""
        processes = stack.enter_context(joined_processes(self.config.device))
        stop = stack.enter_context(StopSignals(go_on))
        with stop.before_the_first_step():
            if processes.is_first:
                stack.enter_context(locked(self.directory))
            run = self._run(stack, processes, stop)
            run.start(resume)
        return run

    def _run(self, stack: ExitStack, processes: Processes, stop: StopSignals) -> Run:
        batches = TrainBatches(self.data, self.config, processes)
        held_out = ValidationBatches(self.validation, self.config, processes) if self.validation is not None else None
        for loader in [batches.loader, *([held_out.loader] if held_out is not None else [])]:
            stack.enter_context(loader)
        measures = self.metrics.clone().to(processes.device) if self.metrics is not None else None
        task = task_of(self.loss, self.forward, self.config.precision, processes.device)
        learner = Learner(self.model, task, self.config, self.optimizer)
        validation = Validation(held_out, measures, task, processes) if held_out is not None else None
        facts = facts_of(self.config, batches, held_out is not None, measures)
        return Run(learner, batches, validation, facts, self.directory, processes, stop)


def _train_epochs(run: Run, log: Log) -> None:
    """All epochs that are left, step by step."""
    try:
        while not run.is_done:
            run.learner.set_learning_rate(run.config.learning_rate_at(run.epoch))
            for parts in run.stop.drawn(run.batches.epoch(run.epoch, run.step), at_first=run.processes.size == 1):
                run.train_step(parts)
                log.step()
                run.save_or_stop_if_agreed()
            run.finish_epoch()
            log.epoch()
    except StopNow:
        run.stop_now()


def classification_metrics(classes: int) -> "MetricCollection":
    """Accuracy over samples, and balanced_accuracy: the mean over classes of the accuracy within the class.

    Raises TrainingError where torchmetrics is not installed.
    """
    try:
        from torchmetrics import MetricCollection  # takes a second to import
        from torchmetrics.classification import MulticlassAccuracy
    except ImportError as error:
        raise TrainingError(
            f"classification_metrics needs torchmetrics ({error}): pip install 'basisgen[train]'. Without metrics "
            "train reports the loss of the validation set."
        ) from None
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "balanced_accuracy": MulticlassAccuracy(classes, average="macro"),
        }
    )
