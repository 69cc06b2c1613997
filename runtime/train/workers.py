"""Processes that load data, and how they end: with the training, however that ends.

Ctrl-C and a scheduler's SIGTERM reach workers too; the training process alone decides what they mean, so workers ignore
them. Hence they must be ended in other ways:

    the training ends, well or with an error     every worker is killed
    the training process is killed               each worker has a thread that notices, and ends it
    a worker is killed, crashes or exits         torch notices within seconds; one TrainingError says so
"""

import atexit
import copy
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Self

from torch.utils.data import DataLoader, Dataset

from .config import TrainConfig, TrainingError
from .processes import WORKER_ENDED, Processes
from .samples import Draws, Key, stack
from .stop_signals import SIGNALS


class Loader:
    """Batches (inputs, label) of the samples that `keys` lists, read afresh at each iteration.

    `with` it: at the end of the block its workers end. Raises TrainingError if the first sample is malformed.
    """

    def __init__(
        self, dataset: "Dataset[Any]", keys: list[list[Key]], config: TrainConfig, processes: Processes
    ) -> None:
        draws = Draws(dataset, config.seed)
        if isinstance(first := draws["check", 0], TrainingError):  # fails here, not in a worker
            raise first
        self._workers: list[BaseProcess] = []
        self._loader: DataLoader[Any] = DataLoader(
            draws,
            batch_sampler=keys,
            collate_fn=stack,
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            worker_init_fn=_prepare_worker,
            multiprocessing_context=self._context() if config.workers else None,
            pin_memory=processes.device.type == "cuda",
        )

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for batch in self._loader:
            if isinstance(batch, TrainingError):
                raise batch
            yield batch

    def __enter__(self) -> Self:
        atexit.register(self._end_workers)  # should a signal's error cut __exit__ short
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with _children_may_end():
            # a worker on its way out takes batches with it that were promised: they cannot be opened any more
            sentinels = [worker.sentinel for worker in self._workers if worker.pid is not None]
            lost = isinstance(error, OSError | EOFError) and bool(sentinels) and bool(wait(sentinels, timeout=3))
            self._end_workers()
        atexit.unregister(self._end_workers)
        if lost or str(error).startswith(WORKER_ENDED):
            why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise TrainingError(
                f"a process that loads data ended: {why}. It crashed, was killed (out of memory?) or the data set "
                f"left it. Set workers = 0 to see what the data set does."
            ) from error

    def _end_workers(self) -> None:
        for worker in self._workers:
            if worker.is_alive():
                worker.kill()
        for worker in self._workers:
            if worker.pid is not None:
                worker.join(10)

    def _context(self) -> Any:
        """The usual multiprocessing context, which notes the processes it makes."""
        usual = multiprocessing.get_context()

        def make(*arguments: Any, **options: Any) -> BaseProcess:
            self._workers.append(usual.Process(*arguments, **options))
            return self._workers[-1]

        context = copy.copy(usual)
        context.Process = make  # type: ignore[assignment, misc]
        return context


def _prepare_worker(_worker: int) -> None:
    """In a new worker: ignore what the training process answers to, and end when that process ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


@contextmanager
def _children_may_end() -> Iterator[None]:
    """torch raises an error in the main thread when a worker is killed: not when it is killed on purpose."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
