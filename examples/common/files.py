"""The two kinds of files an experiment needs: the user's data, and the packages compiled from the example's specs."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

GENERATED = Path(__file__).parents[2] / "generated"


class DataError(Exception):
    """The data of an experiment are missing or not in their format; the message shows the cure."""


def find_data(given: Path | None, variable: str, what: str, source: str) -> Path:
    """The data's path: `given` (the option --data), else the environment variable's.

    Raises DataError if there is neither, or nothing at the path; the message says where the public data come from.
    """
    text = str(given) if given is not None else os.environ.get(variable, "")
    if not text:
        raise DataError(f"the path of {what} is not given. Use --data PATH or set {variable}. Source: {source}")
    if not Path(text).exists():
        raise DataError(f"{text} does not exist. --data or {variable} must lead to {what}. Source: {source}")
    return Path(text)


def read_arrays(path: Path, needed: tuple[str, ...], expected: str) -> dict[str, Any]:
    """The arrays a format names, from an npz file; nothing in it is unpickled.

    Raises DataError, which says what is `expected`, if the file cannot be read or lacks one of them.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in needed if key not in file.files]
            if missing:
                holds = ", ".join(sorted(file.files)) or "nothing"
                raise DataError(f"{path} lacks {', '.join(missing)}; it holds {holds}.")
            return {key: file[key] for key in needed}
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}. Expected is {expected}.") from error


def compiled(spec: Path) -> ModuleType:
    """The package of a spec, compiled into `generated/` if it is missing there or out of date."""
    from basisgen.emission.manifest import made_from
    from basisgen.emission.write import is_up_to_date, write_package
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    package = parse_package(spec.read_text("utf-8"))
    if not is_up_to_date(GENERATED / package.name, made_from(package)):
        write_package(compile_package(package), GENERATED / package.name)
    if str(GENERATED) not in sys.path:
        sys.path.append(str(GENERATED))
    importlib.invalidate_caches()
    return importlib.import_module(package.name)
