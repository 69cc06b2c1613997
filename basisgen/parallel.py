"""One function on many arguments, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


def each(function: Callable[[_A], _B], arguments: Collection[_A], jobs: int) -> list[_B]:
    """[function(a) for a in arguments], with `jobs` > 1 in that many fresh processes, which exit silently on Ctrl-C.

    The function must be importable, arguments and results picklable. Exceptions arrive as they were raised.
    """
    if jobs == 1 or len(arguments) < 2:
        return [function(argument) for argument in arguments]
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    from signal import SIG_DFL, SIGINT, signal

    with ProcessPoolExecutor(min(jobs, len(arguments)), get_context("spawn"), signal, (SIGINT, SIG_DFL)) as pool:
        return list(pool.map(function, arguments))
