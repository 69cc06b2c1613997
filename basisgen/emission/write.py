"""Packages on disk. Only this module and the command line touch files.

A package is written to a temporary directory beside its place and swapped in by one rename, so that a crash, a kill or
a full disk leaves the old package whole, and two compiles at once leave one good package.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import unified_diff
from pathlib import Path

from basisgen.emission.manifest import MANIFEST
from basisgen.errors import OutputError, SpecError
from basisgen.volumes.execution import Tuning

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2
_RENAME_SWAP = 2  # macOS, renamex_np


def read_package(directory: Path) -> dict[str, bytes]:
    """Every file of a package by name, nothing where the directory is missing; caches of the interpreter left out.

    Raises OutputError where a file cannot be read.
    """
    try:
        if not directory.is_dir():
            return {}
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
    except OSError as error:
        raise OutputError(f"cannot read {error.filename or directory}: {error.strerror or error}.") from error


def is_up_to_date(directory: Path, facts: dict[str, object]) -> bool:
    """Whether the package on disk was made from the same facts and none of its files has changed since."""
    try:
        content = read_package(directory)
        manifest = json.loads(content.pop(MANIFEST))
        made_from = {key: manifest[key] for key in facts}
        digests = manifest["sha256"]
    except (OutputError, KeyError, ValueError, TypeError, RecursionError):
        return False
    return made_from == facts and digests == {name: hashlib.sha256(body).hexdigest() for name, body in content.items()}


def tuning_of(directory: Path, facts: dict[str, object]) -> Tuning | None:
    """What `basisgen tune` measured for the package on disk, if it was made from the same facts."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        same = {key: manifest[key] for key in facts} == facts
        return Tuning.parse(manifest["tuned"]) if same else None
    except (OSError, KeyError, ValueError, TypeError, RecursionError, SpecError):
        return None


def write_package(content: dict[str, bytes], directory: Path) -> None:
    """Puts a package in its place, whole or not at all.

    Raises OutputError where the place is a link, has no name, is not a package of ours, holds files that would be lost,
    or cannot be written.
    """
    try:
        _refuse_places(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _one_writer(directory.parent):
            _check_contents(directory)
            _remove_abandoned(directory)
            _replace(directory, content)
    except OSError as error:
        raise OutputError(f"cannot write {directory}: {error.strerror or error}. The package is as it was.") from error


def write_file(path: Path, text: str) -> None:
    """Puts a file in its place, whole or not at all; links and devices are written to as they are.

    Raises OutputError.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_text(text, "utf-8")
            return
        with tempfile.TemporaryDirectory(prefix=_prefix(path, os.getpid()), dir=path.parent) as temporary:
            written = Path(temporary) / path.name
            _write_durably(written, text.encode())
            written.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from None


def check_place(directory: Path) -> None:
    """Raises OutputError where `write_package` would, as far as that can be told without writing."""
    _refuse_places(directory)
    _check_contents(directory)


def difference(old: dict[str, bytes], new: dict[str, bytes]) -> str:
    """What `compile --check` prints: a unified diff of text files, one line for each other file that differs."""
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) == new.get(name):
            continue
        if name not in old or name not in new:
            lines.append(f"{'only on disk' if name in old else 'missing on disk'}: {name}\n")
        elif name.endswith(".safetensors"):
            lines.append(f"differs: {name} ({len(old[name])} bytes on disk, {len(new[name])} compiled)\n")
        else:
            before, after = (text.decode("utf-8", "replace").splitlines(True) for text in (old[name], new[name]))
            lines += unified_diff(before, after, f"{name} on disk", f"{name} compiled")
    return "".join(lines)


def _refuse_places(directory: Path) -> None:
    if directory.name in ("", ".."):
        raise OutputError(f"{directory} cannot be exchanged from within. Name the directory from outside, by its name.")
    for place in (directory, directory.parent):
        if place.is_symlink():
            raise OutputError(f"{place} is a symbolic link: packages are not written through links. Name a directory.")


@contextmanager
def _one_writer(parent: Path) -> Iterator[None]:
    """Compiles into one directory take turns, so that none meets a package half exchanged.

    The system ends the turn of a process that dies. Where the file system has no locks there are no turns, and each
    exchange is still one step.
    """
    handle = os.open(parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(directory: Path, content: dict[str, bytes]) -> None:
    """Writes beside the place, swaps in, and removes what was there; nothing else is left, whatever goes wrong."""
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(directory, os.getpid()), dir=directory.parent))
    try:
        for name, body in content.items():
            _write_durably(temporary / name, body)
        temporary.chmod(0o755)
        _sync_directory(temporary)
        _swap_in(temporary, directory)
        with suppress(OSError):  # the new package is in place
            _sync_directory(directory.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_contents(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputError(f"{directory} is not a directory. Choose another name, or remove it.")
    present = {path.name for path in directory.iterdir()} - {"__pycache__"}
    if present and MANIFEST not in present:
        raise OutputError(f"{directory} is not a package of basisgen's: it has no {MANIFEST}. Choose another name.")
    try:
        ours = {MANIFEST, *json.loads((directory / MANIFEST).read_bytes())["sha256"]} if present else set()
    except (ValueError, KeyError, TypeError, RecursionError):
        raise OutputError(
            f"{directory / MANIFEST} is damaged: it does not tell which of the files beside it are basisgen's. "
            f"Remove {directory}, or choose another name."
        ) from None
    foreign = sorted(present - ours)
    if foreign:
        raise OutputError(
            f"{directory / foreign[0]} was not written by basisgen and would be lost. Move it elsewhere first."
        )


def _prefix(directory: Path, process: int) -> str:
    return f".{directory.name}.{process}."


def _remove_abandoned(directory: Path) -> None:
    """Removes temporary directories of compiles that no longer run."""
    for path in directory.parent.glob(f".{directory.name}.*.*"):
        process = path.name.removeprefix(f".{directory.name}.").split(".")[0]
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


def _write_durably(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(temporary: Path, directory: Path) -> None:
    """Renames onto an empty place, else exchanges the two directories in one step; the old one is then `temporary`."""
    try:
        temporary.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(temporary, directory)


def _exchange(a: Path, b: Path) -> None:
    """Swaps two directories atomically; by two renames where the system offers no exchange."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and hasattr(libc, "renameat2"):
        failed = libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    elif sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(os.fsencode(a), os.fsencode(b), _RENAME_SWAP)
    else:
        failed = True
        ctypes.set_errno(errno.ENOSYS)
    if not failed:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    aside = a.with_name(a.name + ".old")
    b.rename(aside)
    try:
        a.rename(b)
    except OSError:
        aside.rename(b)
        raise
    aside.rename(a)
