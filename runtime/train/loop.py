"""The training loop: what happens to a model between its first weights and its best ones.

    loss(step)  = sum over the step's samples / their number           whatever the number of processes and passes
    gradient   += l1 sign(w) + 2 l2 w                                   weights of convolutions, weights of norms
    gradient   <- gradient * min(1, clip_norm / |gradient|)
    w          <- Adam(w, gradient, lr(epoch))
    e          <- ema_decay e + (1 - ema_decay) w

    result = train(model, data, TrainConfig(epochs=100, batch_size=16, learning_rate=0.1), "runs/first")

Nothing is carried from step to step but weights, optimiser state and averages: the order of the samples and every
random draw follow from (seed, epoch, step, process), see `runtime.train.batches`. So a run that is stopped or killed
and resumed ends, on a CPU, with the same bits as one that never was.

Plain torch, after trying Lightning Fabric 2.6. Fabric works, under torchrun too, but stands for six lines of this file
(device, process group, wrapping, autocast, clipping, sums over processes), takes 2.5 s more to import (3.7 s against
1.2 s, its small package no less) and 30 microseconds more per step, and has none of what makes this file long: a resume
to the bit, whole and checked files, a stop that all processes agree on, and the name of the first bad layer.

The processes add up their gradients in one message after backward, with the loss and the wish to stop or save in it: no
wrapper, no rule about weights without gradient, nothing between torch.compile and the model. DistributedDataParallel
would overlap message and backward; the networks meant here have 10^5 weights and spend their time on voxels.
"""

import copy
import csv
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import Dataset

from runtime.train.batches import Part, Processes, TrainBatches, ValidationBatches, joined_processes, seed_generators
from runtime.train.checkpoint import BEST, checkpoints, load, load_weights, put_weights, rotate, save, step_path
from runtime.train.config import Precision, TrainConfig, TrainingError
from runtime.train.diagnosis import Place, bad_values
from runtime.train.penalties import penalties_of
from runtime.train.stop_signals import Interrupted, StopSignals

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

__all__ = [
    "Interrupted",
    "Precision",
    "TrainConfig",
    "TrainResult",
    "TrainingError",
    "classification_metrics",
    "load_weights",
    "log_to_stderr",
    "train",
]

LOG = "history.csv"
LOG_SECONDS = 30.0  # between lines of the log, but for the first epoch and the last
logger = logging.getLogger("runtime.train")

Loss = Callable[[Tensor, Tensor], Tensor]  # (output (batch, ...), label (batch, ...)) -> mean over the batch, ()
Row = dict[str, float]  # one epoch of the history: column -> value


@dataclass(frozen=True)
class TrainResult:
    """What a finished training run leaves behind.

    history        one row per epoch: epoch, learning_rate, train_loss, gradient_norm (mean, before clipping) and, with
                   validation, validation_loss and the metrics
    best           the row of the best epoch by `monitor`
    stopped_early  whether patience ran out before the last epoch
    last_path      checkpoint after the last step: `train(..., resume=True)` goes on from it
    best_path      weights of the best epoch, for `load_weights`
    log_path       the history as CSV
    """

    history: tuple[Row, ...]
    best: Row
    monitor: str
    stopped_early: bool
    last_path: Path
    best_path: Path
    log_path: Path


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
    resume: bool = False,
) -> TrainResult:
    """Train a model in place; under torchrun, together with the other processes.

    model       any module volume (batch, channel, x, y, z) -> output (batch, ...); ends with its last weights
    data        map-style data set of pairs (volume (channel, x, y, z), label); may draw from the global generators
    directory   of checkpoints and logs; only the process of rank 0 writes, all must be able to read
    validation  measured after every epoch, on the averaged weights if there are any
    loss        (output in float32, or in float64 with that precision, label) -> mean over the batch; a module, for
                example with a weight for every class, is taken to the model's device and dtype
    metrics     of the validation set, for example `classification_metrics(10)`
    optimizer   called as optimizer(parameters, lr=...)
    resume      go on from the newest checkpoint in `directory`; start anew where there is none

    The global random generators are reseeded at every step. Batch statistics are those of one part of a step unless the
    model's norms are synchronised (runtime.BatchNorm, nn.SyncBatchNorm).

    Raises TrainingError if data, configuration, model or checkpoint do not fit together, or loss or gradient stop being
    finite; nothing on disk is overwritten then. Raises Interrupted after saving on Ctrl-C or SIGTERM.
    """
    with ExitStack() as stack:
        processes = stack.enter_context(joined_processes(config.device))
        batches = TrainBatches(data, config, processes)
        held_out = None if validation is None else ValidationBatches(validation, config, processes)
        stop = stack.enter_context(StopSignals())
        run = _Run(model, config, Path(directory), processes, batches, held_out, loss, metrics, optimizer, stop, resume)
        log = stack.enter_context(_Log(run))
        while run.epoch < config.epochs and not run.out_of_patience():
            run.set_learning_rate(config.learning_rate_at(run.epoch))
            for parts in batches.epoch(run.epoch, run.step):
                run.train_step(parts)
                log.step(run)
                run.save_or_stop_if_agreed()
            run.finish_epoch()
            log.epoch(run)
        run.save()
        return run.result()


def classification_metrics(classes: int) -> "MetricCollection":
    """Accuracy over samples, and balanced_accuracy: the mean over classes of the accuracy within the class."""
    from torchmetrics import MetricCollection  # takes a second to import
    from torchmetrics.classification import MulticlassAccuracy

    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "balanced_accuracy": MulticlassAccuracy(classes, average="macro"),
        }
    )


def log_to_stderr() -> None:
    """For commands: lets the log of this module, at level INFO, go to standard error where no progress bar can."""
    if not sys.stderr.isatty():
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logger.setLevel(logging.INFO)


class _Run:
    """A run's state and the four things that happen to it: a step, the end of an epoch, a save, a start."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        directory: Path,
        processes: Processes,
        batches: TrainBatches,
        held_out: ValidationBatches | None,
        loss: Loss,
        metrics: "MetricCollection | None",
        optimizer: Callable[..., Optimizer],
        stop: "StopSignals",
        resume: bool,
    ) -> None:
        self.config, self.directory, self.processes = config, directory, processes
        self.batches, self._held_out, self._stop = batches, held_out, stop
        self._metrics = metrics.clone().to(processes.device) if metrics is not None else None
        self.monitor, self._sign = _monitor(config.monitor, held_out is not None, self._metrics)

        double = config.precision is Precision.FLOAT64
        self._model_dtype = torch.float64 if double else None  # None: as the caller made it
        self._dtype = self._model_dtype or torch.float32  # of outputs and losses
        self.model = model.to(processes.device, self._model_dtype).train()
        self._loss = loss.to(processes.device, self._model_dtype) if isinstance(loss, nn.Module) else loss
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._penalties = penalties_of(model, config)
        self._optimizer = optimizer(self._parameters, lr=config.learning_rate)

        self.epoch, self.step = 0, 0  # epochs done; steps done in this one
        self.history: list[Row] = []
        # totals over the steps of this epoch: samples * loss, wishes to stop, wishes to save, gradient norm
        widest = torch.float32 if processes.device.type == "mps" else torch.float64
        self._totals = torch.zeros(4, dtype=widest, device=processes.device)
        self._stop_agreed = self._save_agreed = False
        self._best_weights: dict[str, Tensor] | None = None  # best since the last save
        self._saved_at = time.monotonic()

        found = self._checkpoint_to_resume(resume)
        content = load(found) if found else None
        if content is not None and found is not None:
            self._restore(content, found)
        processes.copy_from_first_(t.detach() for t in (*self.model.parameters(), *self.model.buffers()))
        self._forward = torch.compile(self.model) if config.compile else self.model
        self._average = copy.deepcopy(self.model).requires_grad_(False) if config.ema_decay else None
        if self._average is not None:
            self._update_average = get_ema_multi_avg_fn(config.ema_decay)  # type: ignore[no-untyped-call]
            self._averaged = list(self._average.parameters())
            self._averaging = list(self.model.parameters())
            if content is not None and found is not None:
                put_weights(self._average, content["average"], found)

    # -- a step -------------------------------------------------------------------------------------------------------

    def train_step(self, parts: list[Part]) -> None:
        """One optimiser step on this process's parts of a batch."""
        config, processes = self.config, self.processes
        self._seed()
        step_loss = torch.zeros(
            (), dtype=self._dtype, device=processes.device
        )  # (): this process's share of the mean over samples
        for part in parts:
            value = self._apply(self._forward, part)[0] * part.share  # ()
            value.backward()  # type: ignore[no-untyped-call]
            step_loss += value.detach()
        report = self._report(step_loss)  # (3,)
        processes.sum_([*self._gradients(), report])
        for weight, l1, l2 in self._penalties:
            if weight.grad is not None:
                weight.grad.add_(weight.detach().sign(), alpha=l1).add_(weight.detach(), alpha=2 * l2)
        norm = clip_grad_norm_(self._parameters, config.clip_norm)  # () before clipping
        self._look(report, norm, parts)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._average is not None:
            self._update_average(self._averaged, self._averaging, None)
        self.step += 1

    def _seed(self) -> None:
        seed_generators(
            self.config.seed, "step", self.epoch, self.step, self.processes.rank, device=self.processes.device
        )

    def _apply(self, forward: Callable[[Tensor], Tensor], part: Part) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss (), output in float32 or float64 (batch, ...) and label (batch, ...) of a part, on the device."""
        device = self.processes.device
        volume = part.volume.to(device, self._model_dtype, non_blocking=True)  # (batch, channel, x, y, z)
        label = part.label.to(device, non_blocking=True)  # (batch, ...)
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision is Precision.BF16_MIXED):
                output = forward(volume)
            output = output.to(self._dtype)  # (batch, ...)
            value = self._loss(output, label)  # ()
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise TrainingError(
                f"the model or the loss rejects volumes {tuple(volume.shape)} with labels {tuple(label.shape)} "
                f"(samples {_some(part.indices)}): {str(error).rstrip('.')}. "
                f"Check channels, sizes and the number of classes."
            ) from error
        if value.ndim:
            raise TrainingError(f"the loss has shape {tuple(value.shape)}, not (). Return the mean over the batch.")
        return value, output, label

    def _gradients(self) -> list[Tensor]:
        """The gradient of every weight; zeros where other processes may have one and this one has not."""
        if self.processes.size > 1:
            for parameter in self._parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _report(self, step_loss: Tensor) -> Tensor:
        """What a process tells the others about a step: samples * loss, wish to stop, wish to save; (3,)."""
        report = torch.zeros(3, dtype=self._dtype, device=self.processes.device)
        report[0] = step_loss * self.batches.samples_in(self.step)
        report[1] = float(self._stop.requested)
        report[2] = float(self.processes.rank == 0 and self._save_due())
        return report

    def _look(self, report: Tensor, norm: Tensor, parts: list[Part]) -> None:
        """Add a step to the totals and, every few steps, look: all finite? does any process want to stop or save?"""
        self._totals[:3] += report
        self._totals[3] += norm
        if (self.step + 1) % self.config.check_every and self.step + 1 < self.batches.steps:
            return
        loss, stops, saves, norms = self._totals.tolist()  # waits for the device
        if not math.isfinite(loss) or not math.isfinite(norms):
            raise TrainingError(self._explain(parts, "loss" if not math.isfinite(loss) else "gradient"))
        self._stop_agreed, self._save_agreed = stops > 0, saves > 0
        self._totals[1:3] = 0

    # -- the end of an epoch ------------------------------------------------------------------------------------------

    def finish_epoch(self) -> None:
        """Validate, add a row to the history, note the best weights."""
        validated = self._validate() if self._held_out is not None else {}
        if self._stop_agreed:
            self.save_or_stop_if_agreed()
        loss, _, _, norms = self._totals.tolist()
        row = {
            "epoch": self.epoch,
            "learning_rate": self.config.learning_rate_at(self.epoch),
            "train_loss": loss / self.batches.samples,
            "gradient_norm": norms / self.batches.steps,
        }
        self.history.append(row | validated)
        if self._best_epoch() == self.epoch:
            self._best_weights = {k: v.cpu().clone() for k, v in self._judged().state_dict().items()}
        self.epoch, self.step = self.epoch + 1, 0
        self._totals.zero_()

    def _judged(self) -> nn.Module:
        """The model that is validated and kept as best: the averaged weights if there are any, with today's buffers."""
        if self._average is None:
            return self.model
        for average, buffer in zip(self._average.buffers(), self.model.buffers(), strict=True):
            average.copy_(buffer)
        return self._average

    @torch.no_grad()
    def _validate(self) -> Row:
        """Mean loss and metrics over the validation set; cut short when a stop is wanted."""
        self.processes.copy_from_first_(self.model.buffers())  # they differ unless the norms are synchronised
        judged = self._judged().eval()
        totals = torch.zeros_like(self._totals[:3])  # samples * loss, samples, wishes to stop
        assert self._held_out is not None
        for part in self._held_out:
            value, output, label = self._apply(judged, part)
            if not torch.isfinite(value):
                raise TrainingError(self._explain([part], "validation loss"))
            totals[0] += value * len(part.indices)
            totals[1] += len(part.indices)
            if self._metrics is not None:
                self._metrics.update(output, label)
            if self._stop.requested:
                break
        self.model.train()
        totals[2] = float(self._stop.requested)
        self.processes.sum_([totals])
        loss, samples, stops = totals.tolist()
        row = {"validation_loss": loss / samples}
        self._stop_agreed = stops > 0
        if self._metrics is not None:
            if not self._stop_agreed:
                row |= {name: _single(name, value) for name, value in self._metrics.compute().items()}
            self._metrics.reset()
        return row

    def _best_epoch(self) -> int:
        """The epoch with the best value of the monitor; the first of equals."""
        values = [self._sign * row[self.monitor] for row in self.history]
        return min(range(len(values)), key=lambda epoch: math.inf if math.isnan(values[epoch]) else values[epoch])

    def out_of_patience(self) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        waited = len(self.history) - 1 - self._best_epoch() if self.history else 0
        return bool(self.config.patience) and waited >= self.config.patience

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the learning rate of all parameters."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate

    # -- a save, a start ----------------------------------------------------------------------------------------------

    def _save_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.config.checkpoint_seconds

    def save_or_stop_if_agreed(self) -> None:
        """Save if the processes agreed on it; stop, after saving, if one of them was asked to."""
        if self._save_agreed or self._stop_agreed:
            self.save()
        if self._stop_agreed:
            if self.processes.rank == 0:
                print(
                    f"\nTraining stopped by {self._stop.name} after {self.epoch} epochs and {self.step} steps, "
                    f"saved to {self._last_path()}.\nTo go on, run the same with resume=True.",
                    file=sys.stderr,
                )
            raise Interrupted(128 + self._stop.number)

    def save(self) -> None:
        """Write the best weights, if they are new, and the state; the process of rank 0 alone."""
        if self.processes.rank == 0:
            config = self.config.as_dict()
            if self._best_weights is not None:
                best = self.history[self._best_epoch()]
                save(self.directory / BEST, {"config": config, "row": best, "model": self._best_weights})
            content = {
                "config": config,
                **self._identity(),
                "epoch": self.epoch,
                "step": self.step,
                "totals": self._totals,
                "history": self.history,
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": self._average.state_dict() if self._average is not None else None,
            }
            save(self._last_path(), content)
            rotate(self.directory, self.config.keep)
        self._best_weights = None
        self._save_agreed = False
        self._saved_at = time.monotonic()

    def _last_path(self) -> Path:
        return step_path(self.directory, self.epoch * self.batches.steps + self.step)

    def _checkpoint_to_resume(self, resume: bool) -> Path | None:
        """The newest checkpoint, or None to start anew; a start never overwrites what another run left."""
        found = checkpoints(self.directory)
        left = [*found, *self.directory.glob(BEST), *self.directory.glob(LOG)]
        if left and not resume:
            raise TrainingError(
                f"{self.directory} holds an earlier run ({left[-1].name}). Go on from it with resume=True, "
                f"or choose another directory."
            )
        return found[-1] if found else None

    def _identity(self) -> dict[str, Any]:
        """What, besides the configuration, a run must share with the checkpoint it resumes from."""
        metrics = sorted(self._metrics.keys()) if self._metrics is not None else []
        return {"samples": self.batches.samples, "monitor": self.monitor, "metrics": metrics}

    def _restore(self, content: Mapping[str, Any], path: Path) -> None:
        """Take up the state of a checkpoint, all but the averaged weights."""
        try:
            then = {**content["config"], **{name: content[name] for name in self._identity()}}
            now = {**self.config.as_dict(), **self._identity()}
            differing = [
                f"{name} was {then.get(name)!r}, is {now.get(name)!r}"
                for name in sorted(then.keys() | now.keys())
                if name not in _MAY_CHANGE and then.get(name) != now.get(name)
            ]
            if differing:
                raise TrainingError(
                    f"{path} belongs to another run: {'; '.join(differing)}. "
                    f"Restore the values, or train into another directory."
                )
            put_weights(self.model, content["model"], path)
            self._optimizer.load_state_dict(content["optimizer"])
            self._totals.copy_(content["totals"])
            self.epoch, self.step, self.history = content["epoch"], content["step"], content["history"]
        except (KeyError, ValueError, TypeError) as error:
            raise TrainingError(
                f"{path} does not fit this run: {error}. Resume with the model and the optimizer it was written by."
            ) from error

    def result(self) -> TrainResult:
        """The run as it stands, once rank 0 has written its files."""
        self.processes.copy_from_first_([self._totals])
        self._totals.tolist()  # waits for the message
        return TrainResult(
            history=tuple(self.history),
            best=self.history[self._best_epoch()],
            monitor=self.monitor,
            stopped_early=self.out_of_patience() and self.epoch < self.config.epochs,
            last_path=self._last_path(),
            best_path=self.directory / BEST,
            log_path=self.directory / LOG,
        )

    # -- what went wrong ----------------------------------------------------------------------------------------------

    def _explain(self, parts: list[Part], what: str) -> str:
        """Why a value is not finite: every process looks at its own parts, all give the same answer."""
        self._seed()  # the same draws as in the step
        validating = what == "validation loss"
        found = bad_values(self._judged() if validating else self.model, self._apply, parts)
        if self.processes.size > 1 and not validating:
            of_all: list[list[Place]] = [[] for _ in range(self.processes.size)]
            dist.all_gather_object(of_all, found)
            found = [place for places in of_all for place in places]
        saved = checkpoints(self.directory)
        return (
            f"the {what} is not finite at epoch {self.epoch}, step {self.step}: "
            f"{min(found)[2] if found else 'a second pass finds no layer, so that a sum overflowed'}. "
            f"Nothing was written; {f'{saved[-1]} is the newest checkpoint' if saved else 'there is no checkpoint'}. "
            f"If the data are sound, lower learning_rate = {self.config.learning_rate} or set clip_norm = 1.0."
        )


# a resumed run may differ from its checkpoint in these
_MAY_CHANGE = {
    *("epochs", "patience", "keep", "checkpoint_seconds", "check_every"),
    *("device", "compile", "workers", "tensorboard", "progress"),
}


def _monitor(wanted: str, validated: bool, metrics: "MetricCollection | None") -> tuple[str, int]:
    """The monitored column and the sign that makes lower better."""
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
        raise TrainingError(f"monitor = {name!r} is no column with a better end. Choose: {', '.join(signs)}.")
    return name, signs[name]


def _single(name: str, value: Tensor) -> float:
    if value.numel() != 1:
        raise TrainingError(
            f"the metric {name!r} has {value.numel()} values, not one. Average it, for example average='macro'."
        )
    return float(value)


def _some(indices: list[int]) -> str:
    return ", ".join(map(str, indices[:4])) + (", ..." if len(indices) > 4 else "")


# -- the log ----------------------------------------------------------------------------------------------------------


class _Log:
    """Where a run can be watched: CSV, TensorBoard, the log and, on a terminal, a progress bar; in rank 0 only."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._csv: Any = None
        self._board: Any = None
        self._bar: Any = None
        self._writes = run.processes.rank == 0
        self._row_logged_at, self._quiet_since = -math.inf, time.monotonic()

    def __enter__(self) -> Self:
        run = self._run
        if self._writes and run.config.progress and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.start()
            done = run.epoch * run.batches.steps + run.step
            self._task = self._bar.add_task("", total=run.config.epochs * run.batches.steps, completed=done)
        return self

    def step(self, run: _Run) -> None:
        """Move the progress bar; log that a long epoch goes on."""
        epoch = f"epoch {run.epoch + 1}/{run.config.epochs}"
        if self._bar is not None:
            best = run.history[-1][run.monitor] if run.history else math.nan
            self._bar.update(self._task, advance=1, description=f"{epoch}  {run.monitor} {best:.4g}")
        now, steps = time.monotonic(), run.batches.steps
        if self._writes and run.step < steps and now - self._quiet_since >= LOG_SECONDS:
            logger.info("%s: %s, step %d/%d", run.directory, epoch, run.step, steps)
            self._quiet_since = now

    def epoch(self, run: _Run) -> None:
        """Write the newest row of the history; the first time, the earlier ones too."""
        if not self._writes:
            return
        row = run.history[-1]
        self._log_row(run, row)
        if self._csv is None:
            run.directory.mkdir(parents=True, exist_ok=True)
            self._csv = (run.directory / LOG).open("w", newline="", encoding="utf-8")
            self._table = csv.DictWriter(self._csv, row.keys())
            self._table.writeheader()
            self._table.writerows(run.history[:-1])
            if run.config.tensorboard:
                self._board = _board(run.directory / "tensorboard", first_epoch=int(row["epoch"]))
        self._table.writerow(row)
        self._csv.flush()
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["epoch"]))

    def _log_row(self, run: _Run, row: Row) -> None:
        now, is_last = time.monotonic(), run.epoch == run.config.epochs or run.out_of_patience()
        if is_last or now - self._row_logged_at >= LOG_SECONDS:
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "epoch")
            logger.info("%s: epoch %d/%d, %s", run.directory, run.epoch, run.config.epochs, values)
            self._row_logged_at = now
        self._quiet_since = now

    def __exit__(self, *_: object) -> None:
        for thing in (self._csv, self._board):
            if thing is not None:
                thing.close()
        if self._bar is not None:
            self._bar.stop()


def _board(directory: Path, first_epoch: int) -> Any:
    """A TensorBoard writer that hides what an interrupted run logged from `first_epoch` on; None if there is none."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("tensorboard is not installed, so the log is %s alone: pip install tensorboard.", LOG)
        return None
    return SummaryWriter(directory, purge_step=first_epoch)
