"""Ctrl-C and SIGTERM during training: noted, then obeyed when the step is done and saved."""

import os
import signal
import threading
import time
from types import FrameType
from typing import Any, Self


class Interrupted(SystemExit):
    """Training stopped by Ctrl-C or SIGTERM, after saving; uncaught it ends the process with code 128 + signal."""


class StopSignals:
    """Ctrl-C and SIGTERM noted instead of obeyed. Only the main thread can listen.

    A second Ctrl-C acts at once, if it comes more than a second later: a launcher may pass on what the terminal has
    sent already. For the same reason a second SIGTERM changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self.number = int(signal.SIGTERM)
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def name(self) -> str:
        """The signal's name; SIGTERM where another process received it."""
        return signal.Signals(self.number).name

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self.number, self._since = True, number, time.monotonic()
            os.write(2, b"\nFinishing the step, then saving. Ctrl-C to stop without.\n")  # print is not reentrant
        elif number == signal.SIGINT and time.monotonic() > self._since + 1:
            raise KeyboardInterrupt
