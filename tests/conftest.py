"""Shared by all tests: one thread, and packages compiled to a temporary directory and imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def compile_and_import(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Compiles a spec given as TOML text, writes the package and imports it."""
    from basisgen.emission.write import write_package
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    imported: list[str] = []

    def compile_and_import(text: str) -> ModuleType:
        spec = parse_package(text)
        write_package(compile_package(spec), tmp_path / "packages" / spec.name)
        imported.append(spec.name)
        importlib.invalidate_caches()
        return importlib.import_module(spec.name)

    sys.path.insert(0, str(tmp_path / "packages"))
    yield compile_and_import
    sys.path.remove(str(tmp_path / "packages"))
    for name in imported:
        for module in [name_ for name_ in sys.modules if name_.split(".")[0] == name]:
            del sys.modules[module]
