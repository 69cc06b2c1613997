"""Files and directories: written whole or not at all, read without waiting forever. Only this module does either.

What is new is made in a temporary directory beside its place and put there by a rename, so that a crash, a kill or a
full disk leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import TextIO

from basisgen.errors import OutputError

PATIENCE = 10.0  # seconds without a byte, after which a pipe or a terminal is given up
_ATTEMPTS = 50
_PAUSE = 0.02  # seconds
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LONGEST_PATH = 4096  # of Linux, in bytes; macOS has less, and says so itself
_ROOM = 2 * 255  # for a temporary directory and a file in it


def read_bounded(path: Path, most: int, what: str) -> bytes:
    """The bytes of a file or a pipe, at most `most` of them; `what` it should be, for the message.

    Raises OutputError where it cannot be read, holds more, or is a pipe into which nobody writes.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            body = b""
            while len(body) <= most:
                if not select.select([file], [], [], PATIENCE)[0]:
                    raise OutputError(f"cannot read {path}: it is a pipe or a terminal, and nothing comes out of it.")
                part = file.read(min(1 << 20, most + 1 - len(body)))
                if part == b"":
                    return body
                body += part or b""  # None: another reader was faster
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}.") from None
    raise OutputError(f"{path} is larger than {most} bytes: not {what}.")


def read_directory(directory: Path) -> dict[str, bytes]:
    """The files of a directory by name, as of one moment: none if it is missing; its subdirectories are left out.

    Raises OutputError where something cannot be read or is not a regular file: links are not followed. A directory that
    takes the place of this one meanwhile is read instead.
    """
    try:
        for _ in range(_ATTEMPTS):
            content = _read_at_once(directory)
            if content is not None:
                return content
            sleep(_PAUSE)
    except OSError as error:
        raise OutputError(f"cannot read {error.filename or directory}: {error.strerror or error}.") from error
    raise OutputError(f"cannot read {directory}: it keeps being replaced. Try again when nothing compiles.")


def _read_at_once(directory: Path) -> dict[str, bytes] | None:
    """Through one handle of the directory, so that all is of one; None if another took its place meanwhile."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        content = {}
        for name in sorted(entry.name for entry in os.scandir(handle)):
            kind = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
            if stat.S_ISREG(kind):
                with os.fdopen(os.open(name, _REGULAR, dir_fd=handle), "rb") as file:
                    content[name] = file.read()
            elif not stat.S_ISDIR(kind):
                raise OutputError(f"{directory / name} is not a regular file. Remove it.")
        opened, there = os.fstat(handle), directory.stat()
        return content if (opened.st_dev, opened.st_ino) == (there.st_dev, there.st_ino) else None
    except FileNotFoundError:
        return None
    finally:
        os.close(handle)


def write_file(path: Path, text: str) -> None:
    """Puts a file in its place, whole or not at all; links and devices are written to as they are.

    Raises OutputError.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            with _opened_without_waiting(path) as file:
                file.write(text)
            return
        with staged(path) as temporary:
            write_durably(temporary / path.name, text.encode())
            (temporary / path.name).replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from None


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """An empty directory beside a place, for what is to be renamed onto it; it is always removed in the end.

    Removes what writers that were killed have left. Raises OSError.
    """
    _remove_abandoned(place)
    temporary = Path(tempfile.mkdtemp(prefix=f"{_prefix(place)}{os.getpid()}.", dir=place.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def fill(directory: Path, content: Mapping[str, bytes]) -> None:
    """Writes files into a staged directory, readable for everybody; all of it is on the disk at return.

    Raises OSError.
    """
    for name, body in content.items():
        write_durably(directory / name, body)
    directory.chmod(0o755)
    sync_directory(directory)


def make_parents(place: Path) -> None:
    """Makes the directories above a place. Raises OSError, before any is made where the path is too long."""
    if len(os.fsencode(place)) + _ROOM > _LONGEST_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    for parent in reversed(place.parents):
        parent.mkdir(exist_ok=True)


def write_durably(path: Path, body: bytes) -> None:
    """Writes a file and waits until it is on the disk. Raises OSError."""
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Waits until the names in a directory are on the disk. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _opened_without_waiting(path: Path) -> TextIO:
    """A link or a device, opened for text; a pipe that nobody reads from is an error."""
    kind = path.stat().st_mode if path.exists() else stat.S_IFREG
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK * stat.S_ISFIFO(kind), 0o666)
    os.set_blocking(handle, True)
    return os.fdopen(handle, "w", encoding="utf-8")


def _prefix(place: Path) -> str:
    return f".{place.name}."


def _remove_abandoned(place: Path) -> None:
    """Removes staged directories of processes that no longer run."""
    for path in place.parent.glob(f"{_prefix(place)}*.*"):
        process = path.name.removeprefix(_prefix(place)).split(".")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
