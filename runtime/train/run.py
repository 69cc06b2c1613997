"""A run's state and what happens to it: a step, the end of an epoch, a save, a stop, a resume."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from .batches import Part, TrainBatches
from .checkpoint import BEST, checkpoints, load, rotate, save, step_path
from .config import TrainingError
from .diagnosis import Phase, bad_values
from .learner import Learner
from .monitor import Row
from .processes import Processes, seed_generators
from .restore import Facts, Progress, content_of, restore
from .stop_signals import StopSignals
from .validation import NotFiniteError, Validation
from .weights import cpu_state

LOG = "history.csv"


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


class Totals(NamedTuple):
    """What is summed up over steps and processes, () each, on the device: looking at it waits for the device."""

    loss: Tensor  # samples * loss, over this epoch
    gradient_norm: Tensor  # before clipping, over this epoch
    stop: Tensor  # wishes to stop, since the last look
    save: Tensor  # wishes to save, since the last look


@dataclass
class Agreement:
    """What the processes agreed on at the last look."""

    stop: bool = False
    save: bool = False


class Run:
    """A run's state. The methods are called in every process, and only that of rank 0 writes."""

    def __init__(
        self,
        learner: Learner,
        batches: TrainBatches,
        validation: Validation | None,
        facts: Facts,
        directory: Path,
        processes: Processes,
        stop: StopSignals,
    ) -> None:
        self.config, self.directory, self.processes = facts.config, directory, processes
        self.learner, self.batches, self.monitor, self.stop = learner, batches, facts.monitor, stop
        self._validation, self._facts = validation, facts
        self.epoch, self.step = 0, 0  # epochs done; steps done in this one
        self.history: list[Row] = []
        self._totals = Totals(*torch.zeros(4, dtype=processes.widest, device=processes.device))
        self._agreed = Agreement()
        self._best_weights: Mapping[str, Any] | None = None  # best since the last save
        self._saved_at = time.monotonic()

    # -- a start ------------------------------------------------------------------------------------------------------

    def start(self, resume: bool) -> None:
        """Take up the newest checkpoint, if there is one; give all processes the same weights.

        A start never overwrites what another run left.
        """
        found = checkpoints(self.directory)
        left = [*found, *self.directory.glob(BEST), *self.directory.glob(LOG)]
        if left and not resume:
            raise TrainingError(
                f"{self.directory} holds an earlier run ({left[-1].name}). To go on with it, {self.stop.go_on}; "
                f"or choose another directory."
            )
        if found:
            progress = restore(load(found[-1]), found[-1], self.learner, self._facts)
            self.epoch, self.step, self.history = progress.epoch, progress.step, progress.history
            self._totals.loss.fill_(progress.loss)
            self._totals.gradient_norm.fill_(progress.gradient_norm)
        model, average = self.learner.model, self.learner.average
        tensors = [*model.parameters(), *model.buffers(), *(average.parameters() if average is not None else ())]
        self.processes.copy_from_first_(tensor.detach() for tensor in tensors)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over, or patience."""
        return self.epoch >= self.config.epochs or self.out_of_patience

    @property
    def out_of_patience(self) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        return self.monitor.out_of_patience(self.history, self.config.patience)

    # -- a step -------------------------------------------------------------------------------------------------------

    def train_step(self, parts: list[Part]) -> None:
        """One optimiser step on this process's parts of a batch."""
        self._seed()
        mine = self._totals_of_step(self.learner.backward(parts))
        self.processes.sum_([*self.learner.gradients(self.processes.size), mine.loss, mine.stop, mine.save])
        norm = self.learner.penalise_and_clip()  # () before clipping
        self._look(mine._replace(gradient_norm=norm), parts)
        self.learner.step()
        self.step += 1

    def _seed(self) -> None:
        rank, device = self.processes.rank, self.processes.device
        seed_generators(self.config.seed, "step", self.epoch, self.step, rank, device=device)

    def _totals_of_step(self, loss: Tensor) -> Totals:
        """What this process tells the others about a step; its loss is a share of the mean over the step's samples."""
        mine = Totals(*torch.zeros(4, dtype=loss.dtype, device=loss.device))
        mine.loss.copy_(loss * self.batches.samples_in(self.step))
        mine.stop.fill_(float(self.stop.requested))
        is_due = time.monotonic() - self._saved_at >= self.config.checkpoint_seconds
        mine.save.fill_(float(self.processes.is_first and is_due))
        return mine

    def _look(self, totals: Totals, parts: list[Part]) -> None:
        """Add a step to the totals and, every few steps, look: all finite? does any process want to stop or save?"""
        for total, new in zip(self._totals, totals, strict=True):
            total += new
        if (self.step + 1) % self.config.check_every and self.step + 1 < self.batches.steps:
            return
        loss, norms, stops, saves = torch.stack(self._totals).tolist()  # waits for the device
        if not math.isfinite(loss) or not math.isfinite(norms):
            raise TrainingError(self._explain(parts, "loss" if not math.isfinite(loss) else "gradient"))
        self._agreed = Agreement(stop=stops > 0, save=saves > 0)
        self._totals.stop.zero_()
        self._totals.save.zero_()

    # -- the end of an epoch ------------------------------------------------------------------------------------------

    def finish_epoch(self) -> None:
        """Validate, add a row to the history, note the best weights."""
        validated = self._validated()
        if validated is None:
            self._agreed.stop = True
            self.save_or_stop_if_agreed()
        loss, norms, _, _ = torch.stack(self._totals).tolist()
        row = {
            "epoch": self.epoch,
            "learning_rate": self.config.learning_rate_at(self.epoch),
            "train_loss": loss / self.batches.drawn,
            "gradient_norm": norms / self.batches.steps,
        }
        self.history.append(row | (validated or {}))
        if self.monitor.best_epoch(self.history) == self.epoch:
            self._best_weights = cpu_state(self.learner.judged())
        self.epoch, self.step = self.epoch + 1, 0
        for total in self._totals:
            total.zero_()

    def _validated(self) -> Row | None:
        """The columns of the validation; none without one; None if a stop was wanted before its end."""
        if self._validation is None:
            return {}
        # buffers differ between processes unless the norms are synchronised
        self.processes.copy_from_first_(self.learner.model.buffers())
        try:
            return self._validation.measure(self.learner.judged(), self.stop)
        except NotFiniteError as error:
            raise TrainingError(self._explain([error.part], "validation loss")) from None
        finally:
            self.learner.train()

    # -- a save, a stop -----------------------------------------------------------------------------------------------

    def save_or_stop_if_agreed(self) -> None:
        """Save if the processes agreed on it; stop, after saving, if one of them was asked to."""
        if self._agreed.save or self._agreed.stop:
            self.save()
        if self._agreed.stop:
            self._leave(f"saved to {self._last_path()}")

    def stop_now(self) -> NoReturn:
        """Stop between two steps. One process saves what it has; one of several cannot know where the others are."""
        loss, norms, _, _ = torch.stack(self._totals).tolist()
        if self.processes.size == 1 and math.isfinite(loss) and math.isfinite(norms):
            self.save()
            self._leave(f"saved to {self._last_path()}")
        found = checkpoints(self.directory)
        self._leave(f"without saving; {f'{found[-1]} is' if found else 'there is no'} the newest checkpoint")

    def _leave(self, saved: str) -> NoReturn:
        when = f"after {self.epoch} epochs and {self.step} steps, {saved}"
        self.stop.leave(when, silent=not self.processes.is_first)

    def save(self) -> None:
        """Write the best weights, if they are new, and the state; the process of rank 0 alone."""
        if self.processes.is_first:
            config = self.config.as_dict()
            if self._best_weights is not None:
                best = self.history[self.monitor.best_epoch(self.history)]
                save(self.directory / BEST, {"config": config, "row": best, "model": self._best_weights})
            loss, norms, _, _ = torch.stack(self._totals).tolist()
            progress = Progress(self.epoch, self.step, loss, norms, self.history)
            save(self._last_path(), content_of(self.learner, self._facts, progress))
            rotate(self.directory, self.config.keep)
        self._best_weights = None
        self._agreed.save = False
        self._saved_at = time.monotonic()

    def _last_path(self) -> Path:
        return step_path(self.directory, self.epoch * self.batches.steps + self.step)

    def result(self) -> TrainResult:
        """The run as it stands, once rank 0 has written its files."""
        self.processes.wait_for_first()
        return TrainResult(
            history=tuple(self.history),
            best=self.history[self.monitor.best_epoch(self.history)],
            monitor=self.monitor.name,
            stopped_early=self.out_of_patience and self.epoch < self.config.epochs,
            last_path=self._last_path(),
            best_path=self.directory / BEST,
            log_path=self.directory / LOG,
        )

    # -- what went wrong ----------------------------------------------------------------------------------------------

    def _explain(self, parts: list[Part], what: str) -> str:
        """Why a value is not finite: every process looks at its own parts, all give the same answer."""
        self._seed()  # the same draws as in the step
        validating = what == "validation loss"
        model = self.learner.judged() if validating else self.learner.model
        found = bad_values(model, self.learner.task, parts)
        if not validating:
            found = self.processes.gathered(found)
        saved = checkpoints(self.directory)
        cure = (
            "Correct the data, or leave the sample out."
            if found and min(found)[0] is Phase.DATA
            else f"Lower learning_rate = {self.config.learning_rate} or set clip_norm = 1.0."
        )
        return (
            f"the {what} is not finite at epoch {self.epoch}, step {self.step}: "
            f"{min(found)[2] if found else 'a second pass finds no layer, so that a sum overflowed'}. "
            f"Nothing was written; {f'{saved[-1]} is the newest checkpoint' if saved else 'there is no checkpoint'}. "
            f"{cure}"
        )
