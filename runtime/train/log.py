"""Where a run can be watched: CSV, TensorBoard, the log and, on a terminal, a progress bar; in rank 0 only.

A function of the caller, `on_epoch`, may take every row too, for W&B, MLflow or a file. Its errors are logged and
never end a run: an hour of training is worth more than a line on a server.
"""

import csv
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from .config import TrainingError
from .monitor import Row
from .run import LOG, Run

OnEpoch = Callable[[Row], object]  # gets a copy of the newest row of the history; what it returns is ignored

LOG_SECONDS = 30.0  # between lines of the log, except for the first epoch and the last
logger = logging.getLogger(__package__)


def log_to_stderr() -> None:
    """For commands: lets the log of this module, at level INFO, go to standard error where no progress bar can."""
    if not _bars_can_be_drawn():
        logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
        logger.setLevel(logging.INFO)


def _bars_can_be_drawn() -> bool:
    """On a terminal; not on that of a notebook's !, which keeps every frame. Jupyter and ipykernel set these names."""
    notebook = "JPY_PARENT_PID" in os.environ or "matplotlib_inline" in os.environ.get("MPLBACKEND", "")
    return sys.stderr.isatty() and not notebook


class Log:
    """Shows and writes what a run does; `step` and `epoch` are called after each."""

    def __init__(self, run: Run, on_epoch: OnEpoch | None = None) -> None:
        self._run, self._on_epoch = run, on_epoch
        self._csv: Any = None
        self._board: Any = None
        self._bar: Any = None
        self._row_logged_at, self._quiet_since = -math.inf, time.monotonic()

    def __enter__(self) -> Self:
        run = self._run
        start = _start(run)
        if start and run.processes.is_first:
            logger.info("%s: %s", run.directory, start)
        if run.processes.is_first and run.config.progress and _bars_can_be_drawn():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.start()
            done = run.epoch * run.batches.steps + run.step
            self._task = self._bar.add_task(start, total=run.config.epochs * run.batches.steps, completed=done)
        return self

    def step(self) -> None:
        """Move the progress bar; log that a long epoch goes on."""
        run = self._run
        epoch = f"epoch {run.epoch + 1}/{run.config.epochs}"
        if self._bar is not None:
            newest = run.history[-1][run.monitor.name] if run.history else math.nan
            self._bar.update(self._task, advance=1, description=f"{epoch}  {run.monitor.name} {newest:.4g}")
        now, steps = time.monotonic(), run.batches.steps
        if run.processes.is_first and run.step < steps and now - self._quiet_since >= LOG_SECONDS:
            logger.info("%s: %s, step %d/%d", run.directory, epoch, run.step, steps)
            self._quiet_since = now

    def epoch(self) -> None:
        """Write the newest row of the history; the first time, the earlier ones too."""
        run = self._run
        if not run.processes.is_first:
            return
        row = run.history[-1]
        self._log_row(row)
        try:
            self._write_row(row)
        except OSError as error:
            raise TrainingError(f"cannot write {run.directory / LOG}: {error}.") from error
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row["epoch"]))
        self._tell(row)

    def _tell(self, row: Row) -> None:
        """Give the caller's function the row; say what went wrong in it, and go on."""
        if self._on_epoch is None:
            return
        try:
            self._on_epoch(dict(row))
        except Exception:  # of any library, for example a server that is gone
            logger.warning("on_epoch failed after epoch %d; training goes on.", row["epoch"], exc_info=True)

    def _write_row(self, row: Row) -> None:
        run = self._run
        if self._csv is None:
            self._csv = (run.directory / LOG).open("w", newline="", encoding="utf-8")
            self._table = csv.DictWriter(self._csv, row.keys())
            self._table.writeheader()
            self._table.writerows(run.history[:-1])
            if run.config.tensorboard:
                self._board = _board(run.directory / "tensorboard", first_epoch=int(row["epoch"]))
        self._table.writerow(row)
        self._csv.flush()

    def _log_row(self, row: Row) -> None:
        run, now = self._run, time.monotonic()
        if run.is_done or now - self._row_logged_at >= LOG_SECONDS:
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


def _start(run: Run) -> str:
    """Where a run that was resumed takes up; empty for a new one."""
    done, wanted = run.epoch, run.config.epochs
    if run.is_done:
        why = (
            f"{done} epochs are done, and {wanted} wanted"
            if done >= wanted
            else f"patience ran out after {done} epochs"
        )
        return f"nothing left to train: {why}"
    steps = f" and {run.step} steps" if run.step else ""
    return f"goes on after {done} epochs{steps}" if done or steps else ""


def _board(directory: Path, first_epoch: int) -> Any:
    """A TensorBoard writer that hides what an interrupted run logged from `first_epoch` on; None if there is none."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("tensorboard is not installed, so the log is %s alone: pip install tensorboard.", LOG)
        return None
    return SummaryWriter(directory, purge_step=first_epoch)
