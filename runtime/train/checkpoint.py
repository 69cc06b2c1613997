"""Checkpoints: files that are whole or absent, and that are checked before they are believed.

A checkpoint is a dictionary of tensors, numbers, texts, lists and dictionaries. On disk it is what `torch.save` makes
of it, so that `torch.load(path, weights_only=True)` reads it without this module, plus two entries:

    "format"   name and version of this layout
    "digest"   SHA-256 over every key, type, shape and byte of the rest

The digest finds damage (a zip archive of torch does not check its bytes); it is not a signature, and a forger can renew
it. That a file cannot run code when it is read is the work of weights_only. It is read through a memory map, so that a
storage is never larger than what the file holds of it, and its tensors and tables are counted before they are walked:
a small file cannot ask for much memory or time. What the values mean is checked where they are used.

Writing: to a temporary file in the same directory, flushed to the disk (fsync), then renamed. POSIX renames are
atomic: after a crash, a kill or a full disk the name holds the old checkpoint or the new one.
"""

import hashlib
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import TrainingError

FORMAT = "runtime.checkpoint 2"
BEST = "best.pt"
_STEP = re.compile(r"step-(\d+)\.pt")


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint so that `path` is at any moment the old file or the new one.

    Raises TrainingError if the content has a type that cannot be read back, or the disk refuses.
    """
    plain = _plain(content, str(path))
    whole = {"format": FORMAT, "digest": _digest(plain), **plain}
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(whole, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot write the checkpoint {path}: {error}. What was there before is untouched."
        ) from error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, checked against its digest.

    Raises TrainingError if the file is absent, truncated, altered, of another format, or not a checkpoint.
    """
    if not path.is_file():
        raise TrainingError(f"there is no checkpoint {path}.")
    try:
        whole = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        _check_size(whole, path.stat().st_size)
    except Exception as error:  # a damaged pickle or archive can raise anything
        raise TrainingError(_damaged(path, f"it cannot be read ({_first_line(error)})")) from error
    if not isinstance(whole, dict) or "format" not in whole or "digest" not in whole:
        raise TrainingError(f"{path} is not a checkpoint of this package: it lacks 'format' and 'digest'.")
    if whole["format"] != FORMAT:
        raise TrainingError(
            f"{path} has format {whole['format']!r}; this version reads {FORMAT!r}. Use the version that wrote it."
        )
    try:
        content = _plain({key: value for key, value in whole.items() if key not in ("format", "digest")}, str(path))
        intact = _digest(content) == whole["digest"]
    except Exception:  # a tensor may be damaged so that it cannot even be walked
        content, intact = {}, False
    if not intact:
        raise TrainingError(_damaged(path, "its content does not match its digest"))
    return dict(content)


def step_path(directory: Path, step: int) -> Path:
    """The name of the checkpoint after `step` optimiser steps."""
    return directory / f"step-{step:09d}.pt"


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first; the best weights are not among them."""
    found = (path for path in directory.glob("step-*.pt") if _STEP.fullmatch(path.name))
    return sorted(found, key=lambda path: int(path.stem.removeprefix("step-")))


def rotate(directory: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints; `best.pt` stays."""
    for path in checkpoints(directory)[:-keep]:
        path.unlink(missing_ok=True)


def _check_size(value: Any, bytes_left: int) -> int:
    """What is left of the file's size after a byte for every value and the numbers of every tensor.

    Raises ValueError if nothing is: then the file says the same thing many times over.
    """
    bytes_left -= value.numel() * value.element_size() if isinstance(value, Tensor) else 1
    if bytes_left < 0:
        raise ValueError("it unfolds to more than its size")
    items: Any = ()
    if isinstance(value, dict):
        items = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        items = value
    for item in items:
        bytes_left = _check_size(item, bytes_left)
    return bytes_left


def _plain(value: Any, where: str) -> Any:
    """A copy with its tensors detached, on the CPU and each in its own memory; only types that weights_only reads."""
    match value:
        case Tensor():
            return torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
        case Mapping():
            return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
        case list() | tuple() if type(value) in (list, tuple):
            return type(value)(_plain(item, f"{where}[{i}]") for i, item in enumerate(value))
        case None | bool() | int() | float() | str() if type(value) in (type(None), bool, int, float, str):
            return value
    raise TrainingError(f"cannot save {where} of type {type(value).__name__}. Use tensors, numbers and texts.")


def _digest(content: Any) -> str:
    """SHA-256 of a plain value: equal exactly if structure, types, shapes and bytes are."""
    sha = hashlib.sha256()

    def feed(value: Any) -> None:
        match value:
            case Tensor():
                sha.update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
                sha.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            case dict():
                sha.update(f"dict {len(value)};".encode())
                for key, item in value.items():
                    feed(key)
                    feed(item)
            case list() | tuple():
                sha.update(f"{type(value).__name__} {len(value)};".encode())
                for item in value:
                    feed(item)
            case _:
                text = repr(value).encode()
                sha.update(b"%s %d %s;" % (type(value).__name__.encode(), len(text), text))

    feed(content)
    return sha.hexdigest()


def _sync_directory(directory: Path) -> None:
    """Make a rename last through a power cut; not every system can open a directory."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, why: str) -> str:
    older = [other for other in checkpoints(path.parent) if other != path]
    cure = (
        f"Delete it to go on from {older[-1].name}."
        if older and _STEP.fullmatch(path.name)
        else "Restore it from a copy."
    )
    return f"the checkpoint {path} is damaged: {why}. {cure}"


def _first_line(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):  # torch's text advises to read the file without the safeguard
        return "it holds something else than tensors, numbers and texts"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
