"""Packages on disk: read, compared, and exchanged in one step, so that simultaneous compiles leave one good package."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import unified_diff
from pathlib import Path
from typing import Any

from basisgen.emission.certificate import to_json
from basisgen.emission.manifest import MANIFEST, ManifestError, made_from, parse_manifest, read_manifest
from basisgen.errors import OutputError, SpecError, printable
from basisgen.files import fill, make_parents, read_directory, staged, sync_directory
from basisgen.spec import PackageSpec
from basisgen.tuning import Tuning

_OURS = re.compile(r"[a-z_][a-z0-9_]*\.(py|cpp)|[a-z]+\.safetensors|[a-z]+\.json", re.ASCII)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux, renameat2
_RENAME_SWAP = 2  # macOS, renamex_np


def read_package(directory: Path) -> dict[str, bytes]:
    """Every file of a package by name, as of one moment; none if the directory is missing.

    The interpreter's caches and other directories are left out. Raises OutputError where something cannot be read or
    is not a regular file.
    """
    return read_directory(directory)


def is_up_to_date(directory: Path, facts: dict[str, object]) -> bool:
    """Whether the package on disk was made from the same facts and none of its files has changed since."""
    try:
        content = read_package(directory)
        body = content.pop(MANIFEST)
        manifest = parse_manifest(body)
    except (OutputError, KeyError, ManifestError):
        return False
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in content.items()}
    return _made_from(manifest, facts) and manifest.get("sha256") == digests and to_json(manifest).encode() == body


def tuning_of(directory: Path, spec: PackageSpec) -> Tuning | None:
    """What `basisgen tune` measured for the package on disk, if it was made from the same spec."""
    try:
        manifest = read_manifest(directory)
        return Tuning.parse(manifest["tuned"], spec.kind_of) if _made_from(manifest, made_from(spec)) else None
    except (OutputError, ManifestError, SpecError, KeyError):  # or nothing was measured
        return None


def write_package(content: dict[str, bytes], directory: Path) -> None:
    """Puts a package in its place, whole or not at all.

    Raises OutputError where the place is a link, has no name, is not a package of ours, holds files that would be lost,
    or cannot be written.
    """
    try:
        _refuse_places(directory)
        make_parents(directory)
        with _one_writer(directory.parent):
            _check_contents(directory)
            _replace(directory, content)
    except OSError as error:
        raise OutputError(f"cannot write {directory}: {error.strerror or error}. The package is as it was.") from error


def check_place(directory: Path) -> None:
    """Raises OutputError where `write_package` would, as far as that can be told without writing."""
    _refuse_places(directory)
    _check_contents(directory)


def difference(old: dict[str, bytes], new: dict[str, bytes], *, longest: int | None = None) -> str:
    """What `compile --check` prints: a unified diff of text files, one line for each other file that differs.

    The manifest, which states the spec, is first. longest: lines of a file's diff that are shown, None for all.
    Characters that are not printable are escaped: the files on disk may come from anybody.
    """
    lines: list[str] = []
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name != MANIFEST, name)):
        if old.get(name) == new.get(name):
            continue
        if name not in old or name not in new:
            lines.append(f"{'only on disk' if name in old else 'missing on disk'}: {name}\n")
        elif name.endswith(".safetensors"):
            lines.append(f"differs: {name} ({len(old[name])} bytes on disk, {len(new[name])} compiled)\n")
        else:
            before, after = (text.decode("utf-8", "replace").splitlines(True) for text in (old[name], new[name]))
            found = list(unified_diff(before, after, f"{name} on disk", f"{name} compiled"))
            lines += found[:longest]
            if longest is not None and len(found) > longest:
                lines.append(f"... and {len(found) - longest} more lines of {name}: -v shows all\n")
    return printable("".join(lines), keep="\n\t")


def _refuse_places(directory: Path) -> None:
    if directory.name in ("", ".."):
        raise OutputError(f"{directory} cannot be replaced from inside. Name it from outside, by its path.")
    for place in (directory, directory.parent):
        if place.is_symlink():
            raise OutputError(f"{place} is a symbolic link: packages are not written through links. Name a directory.")


def _made_from(manifest: Mapping[str, Any], facts: Mapping[str, object]) -> bool:
    return all(key in manifest and manifest[key] == fact for key, fact in facts.items())


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
    """Writes beside the place, swaps in, and removes what was there; nothing else is left, even after an error."""
    with staged(directory) as temporary:
        fill(temporary, content)
        _swap_in(temporary, directory)
        with suppress(OSError):  # the new package is in place
            sync_directory(directory.parent)


def _check_contents(directory: Path) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputError(f"{directory} is not a directory. Choose another name, or remove it.")
    present = {path.name for path in directory.iterdir()} - {"__pycache__"}
    if present and MANIFEST not in present:
        raise OutputError(f"{directory} is not a package of basisgen's: it has no {MANIFEST}. Choose another name.")
    try:
        stated = read_manifest(directory)["sha256"] if present else {}
        ours = {MANIFEST, *filter(_OURS.fullmatch, stated)}
    except (ManifestError, KeyError, TypeError):
        raise OutputError(
            f"{directory / MANIFEST} is damaged: it does not tell which of the files beside it are basisgen's. "
            f"Remove {directory}, or choose another name."
        ) from None
    foreign = sorted(present - ours)
    if foreign:
        raise OutputError(
            f"{directory / foreign[0]} was not written by basisgen and would be lost. Move it elsewhere first."
        )


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
