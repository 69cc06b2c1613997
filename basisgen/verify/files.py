"""The files of a package, read through one handle of its directory, so that none is of a package that replaces it.

Nothing is opened that is not a regular file of a name a package can have; links are not followed, sizes are bounded.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from basisgen.errors import OutputError

MANIFEST = "manifest.json"
CERTIFICATE = "certificate.json"
TENSORS = "basis.safetensors"
CACHE = "__pycache__"

MAX_BYTES = {MANIFEST: 4 << 20, CERTIFICATE: 16 << 20, TENSORS: 128 << 20}
MAX_MODULE_BYTES = 16 << 20
MAX_TOTAL_BYTES = 256 << 20
MAX_ENTRIES = 600

_ATTEMPTS = 20
_PAUSE = 0.05  # seconds
_MODULE = re.compile(r"[a-z_][a-z0-9_]{0,79}\.(py|cpp)", re.ASCII)
_BYTECODE = re.compile(r"[a-z_][a-z0-9_]{0,79}\.[a-z0-9_-]{1,40}(\.opt-[12])?\.pyc", re.ASCII)
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WHICH = "Name the directory that `basisgen compile` wrote, for example generated/tetris."


@dataclass
class Contents:
    """What a directory holds: files by name, modification times, the interpreter's cache; complaints about the rest."""

    files: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)  # seconds
    bytecode: dict[str, bytes] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    def size(self) -> int:
        """The number of bytes that have been read."""
        return sum(map(len, self.files.values())) + sum(map(len, self.bytecode.values()))


def read_contents(directory: Path) -> Contents:
    """Everything in a package's directory, as it was at one moment.

    Raises OutputError if the directory cannot be read or is not a package: it has no manifest.json.
    """
    try:
        for _ in range(_ATTEMPTS):
            contents = _attempt(directory)
            if contents is not None:
                return contents
            sleep(_PAUSE)
    except OSError as error:
        raise OutputError(f"cannot read {directory}: {error.strerror or error}. {_WHICH}") from None
    raise OutputError(f"cannot read {directory}: it keeps being replaced. Try again when nothing compiles.")


def _attempt(directory: Path) -> Contents | None:
    """The contents, or None if the directory was replaced meanwhile."""
    with _opened(directory) as handle:
        contents = Contents()
        try:
            names = _names(handle, contents.complaints)
            missing = MANIFEST not in names
            for name in names:
                _take(name, handle, contents)
        except FileNotFoundError:
            return None
        there, opened = directory.stat(), os.fstat(handle)
        if (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino):
            return None
    if missing:
        raise OutputError(f"{directory} is not a package of basisgen's: it has no {MANIFEST}. {_WHICH}")
    return contents


def _names(handle: int, complaints: list[str]) -> list[str]:
    names = []
    with os.scandir(handle) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MAX_ENTRIES:
                complaints.append(f"there are more than {MAX_ENTRIES} entries")
                break
    return sorted(names)


def _take(name: str, handle: int, contents: Contents) -> None:
    mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    if name == CACHE and stat.S_ISDIR(mode):
        with _opened(name, handle) as cache:
            for entry in _names(cache, contents.complaints):
                room = min(MAX_MODULE_BYTES, MAX_TOTAL_BYTES - contents.size())
                body = _read(entry, cache, room) if _BYTECODE.fullmatch(entry) else None
                if body is None:
                    contents.complaints.append(f"{CACHE}/{entry!r:.200} is not a module in bytecode. Remove {CACHE}")
                else:
                    contents.bytecode[entry] = body[0]
        return
    limit = min(MAX_BYTES.get(name, MAX_MODULE_BYTES), MAX_TOTAL_BYTES - contents.size())
    if not (name in MAX_BYTES or _MODULE.fullmatch(name)):
        contents.complaints.append(f"{name!r:.200} is not a name of a package's file")
    elif (found := _read(name, handle, limit)) is None:
        contents.complaints.append(f"{name} is not a regular file of at most {limit} bytes")
    else:
        contents.files[name], contents.times[name] = found


def _read(name: str, handle: int, limit: int) -> tuple[bytes, int] | None:
    """Bytes and modification time; None for what is not a regular file of at most `limit` bytes."""
    if not stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
        return None
    try:
        descriptor = os.open(name, _FILE, dir_fd=handle)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            return None
        body = file.read(limit + 1)
        return (body, int(facts.st_mtime)) if len(body) <= limit else None


@contextmanager
def _opened(directory: Path | str, parent: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
    handle = os.open(directory, flags, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)
