"""Ctrl-C, SIGTERM and SIGHUP during training: what they interrupt, and what they wait for.

    while a step, a validation or a save is computed    noted; obeyed when that is done
    while the run is set up, or data are waited for     obeyed at once: nothing is half done then, and a data set that
                                                        hangs would never be done
    the same, with several processes that train         noted, since all must stop after the same step; obeyed at once
                                                        the second time

A second Ctrl-C always acts at once. A second signal counts if it comes more than a second after the
first: a launcher may pass on what the terminal has sent already.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Self, TypeVar

_Item = TypeVar("_Item")

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(SystemExit):
    """Training stopped by Ctrl-C, SIGTERM or SIGHUP, after saving; uncaught it ends the process, code 128 + signal."""


class StopNow(BaseException):
    """Raised by a signal where nothing is half done."""


class StopSignals:
    """Signals noted instead of obeyed. Only the main thread can listen. SIGHUP under nohup stays ignored.

    go_on: what a person does to go on after the stop.
    """

    def __init__(self, go_on: str = "start it again") -> None:
        self.requested = False
        self.go_on = go_on
        self.number = int(signal.SIGTERM)
        self._since = 0.0
        self._open: bool | None = None  # whether the first signal acts at once; None: neither does the second
        self._before: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """The signal's name; SIGTERM where another process received it."""
        return signal.Signals(self.number).name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number == signal.SIGTERM or number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def before_the_first_step(self) -> Iterator[None]:
        """The time in which a run is set up: a signal ends it at once, with nothing to save."""
        try:
            with self.acting():
                yield
        except StopNow:
            self.leave("before its first step; nothing was written")

    def leave(self, when: str, *, silent: bool = False) -> NoReturn:
        """Say when training stopped and how to go on, then raise Interrupted."""
        if not silent:
            with suppress(OSError):  # a terminal that is gone
                print(f"\nTraining stopped by {self.name} {when}.\nTo go on, {self.go_on}.", file=sys.stderr)
        raise Interrupted(128 + self.number)

    @contextmanager
    def acting(self, *, at_first: bool = True) -> Iterator[None]:
        """A block that a signal may leave with StopNow: the first one, or only the second."""
        if self.requested and at_first:
            raise StopNow
        self._open = at_first
        try:
            yield
        finally:
            self._open = None

    def drawn(self, items: Iterable[_Item], *, at_first: bool) -> Iterator[_Item]:
        """The items; a signal may interrupt the wait for the next one."""
        iterator, end = iter(items), object()
        while True:
            with self.acting(at_first=at_first):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def _note(self, number: int, _frame: FrameType | None) -> None:
        again = self.requested and time.monotonic() > self._since + 1
        at_once = self._open is not None and (again or (self._open and not self.requested))
        if not self.requested:
            self.requested, self.number, self._since = True, number, time.monotonic()
            if not at_once:
                with suppress(OSError):  # a terminal that is gone; print is not reentrant
                    os.write(2, b"\nFinishing the step, then saving. Ctrl-C to stop without.\n")
        elif number == signal.SIGINT and again:
            raise KeyboardInterrupt
        if at_once:
            raise StopNow
