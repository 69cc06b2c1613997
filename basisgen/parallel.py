"""One function on many arguments, in this process or in several, none of which outlives this one.

Every worker reads from a pipe whose other end only this process holds. Nothing is ever written to it: it ends when
this process ends, in any way, or gives up the work; a worker then exits at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from multiprocessing.connection import Connection, wait
from signal import SIG_DFL, SIGINT, signal
from threading import Thread
from typing import TypeVar

from basisgen.errors import MachineError

_A = TypeVar("_A")
_B = TypeVar("_B")


def each(function: Callable[[_A], _B], arguments: Collection[_A], jobs: int) -> list[_B]:
    """[function(a) for a in arguments], with `jobs` > 1 in that many fresh processes.

    The function must be importable, arguments and results picklable. Exceptions arrive as they were raised, at once:
    other workers are not waited for. Raises MachineError where a worker ends without an answer.
    """
    if jobs == 1 or len(arguments) < 2:
        return [function(argument) for argument in arguments]
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    context, workers = get_context("spawn"), min(jobs, len(arguments))
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours, ProcessPoolExecutor(workers, context, _watch, (theirs,)) as pool:
        try:
            return list(pool.map(function, arguments))
        except BrokenProcessPool:
            ours.close()
            raise MachineError(
                f"one of {workers} worker processes ended without an answer. Most often it was killed because memory "
                "ran out: take fewer --jobs."
            ) from None
        except BaseException:
            ours.close()
            raise


def _watch(lifeline: Connection) -> None:
    """Makes a worker end silently on Ctrl-C and when the process that started it ends."""
    signal(SIGINT, SIG_DFL)
    Thread(target=_exit_with, args=(lifeline,), daemon=True).start()


def _exit_with(lifeline: Connection) -> None:
    wait([lifeline])
    os._exit(1)
