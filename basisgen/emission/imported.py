"""A package tried out: written to a temporary directory, imported, forgotten. For measurements and tests."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from basisgen.emission.write import write_package


@contextmanager
def imported(content: dict[str, bytes], name: str) -> Iterator[ModuleType]:
    """The files of a package as a module of that name, until the block ends; what was made of it lives on.

    Modules that torch.compile or pickle meet must still be importable: use them inside the block.
    """
    assert name not in sys.modules, f"a module {name} is imported already"
    with tempfile.TemporaryDirectory(prefix="basisgen-") as place:
        write_package(content, Path(place) / name)
        sys.path.insert(0, place)
        try:
            importlib.invalidate_caches()
            yield importlib.import_module(name)
        finally:
            sys.path.remove(place)
            for module in [module for module in sys.modules if module.partition(".")[0] == name]:
                del sys.modules[module]
