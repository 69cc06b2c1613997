"""One training at a time in a directory.

The lock is the kernel's (flock on `training.lock`), so a process that is killed leaves none behind. The file is removed
with the lock; one that lost its name while it was waited for does not count, hence the second look.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .config import TrainingError

try:
    import fcntl
except ImportError:  # not on Windows: there two trainings in one directory go unnoticed
    fcntl = None  # type: ignore[assignment]

LOCK = "training.lock"
_held: set[int] = set()  # file descriptors: a forked worker must not keep its parent's lock alive


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep every other training out of the directory; it is made if need be, and removed again if it stays empty.

    Raises TrainingError if another training is at work in it, or files cannot be made in it.
    """
    missing = [parent for parent in (directory, *directory.parents) if not parent.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        held = _lock(directory / LOCK)
    except OSError as error:
        raise TrainingError(
            f"cannot train into {directory}: {error.strerror or error}. Choose a directory that can be written."
        ) from error
    _held.add(held)
    try:
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        _held.discard(held)
        os.close(held)
        with suppress(OSError):  # not empty
            for made in missing:
                made.rmdir()


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _flock(descriptor)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
            os.close(descriptor)  # it was removed by the training that had it
        except BlockingIOError as error:
            owner = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise TrainingError(
                f"another training is at work in {path.parent}: {owner or 'it has just begun'}. "
                f"Wait for it, stop it, or choose another directory."
            ) from error
        except OSError:
            os.close(descriptor)
            raise


def _flock(descriptor: int) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
            raise


def _let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
