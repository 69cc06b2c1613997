"""The package of a module's SPEC, compiled once and imported."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from tests.spheres.forging import Files


@pytest.fixture(scope="module")
def files(request: pytest.FixtureRequest) -> Files:
    """The files of the package of SPEC."""
    return compile_package(parse_package(request.module.SPEC))


@pytest.fixture(scope="module")
def package(request: pytest.FixtureRequest, files: Files) -> Iterator[ModuleType]:
    """The package of SPEC."""
    with imported(files, parse_package(request.module.SPEC).name) as module:
        yield module
