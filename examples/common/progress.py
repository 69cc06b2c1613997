"""Signs of life from a long test: a counter on a terminal, else a line in the log every half minute."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SECONDS = 30.0  # between lines of the log
logger = logging.getLogger("runtime.train")


class _Counter:
    """Samples tested so far, shown where people look."""

    def __init__(self, what: str) -> None:
        self.what, self.count = what, 0
        self._said = time.monotonic()
        self._bar: Any = None

    def start(self) -> None:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=Console(stderr=True)
            )
            self._bar.start()
            self._task = self._bar.add_task(self._text(), total=None)
        else:
            logger.info("%s", self.what)

    def add(self, samples: int) -> None:
        self.count += samples
        if self._bar is not None:
            self._bar.update(self._task, description=self._text())
        elif time.monotonic() - self._said >= SECONDS:
            logger.info("%s", self._text())
            self._said = time.monotonic()

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _text(self) -> str:
        return f"{self.what}: {self.count:,} samples so far"


_counters: list[_Counter] = []


@contextmanager
def counting(what: str) -> Iterator[None]:
    """The time of a test. What is tested in it counts, by `counted`."""
    counter = _Counter(f"testing {what}")
    counter.start()
    _counters.append(counter)
    try:
        yield
    finally:
        _counters.remove(counter)
        counter.stop()


def counted(samples: int) -> None:
    """So many samples more are tested."""
    for counter in _counters:
        counter.add(samples)
