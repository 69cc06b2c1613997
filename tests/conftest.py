"""Shared by all tests: one thread, seeds, packages compiled and imported, what is skipped without ruff."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from zlib import crc32

import pytest
from hypothesis import settings

# No deadline: a busy machine is no failure. In CI the same examples each time; elsewhere Hypothesis looks for new ones.
settings.register_profile("basisgen", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("basisgen")

REPOSITORY = Path(__file__).parent.parent


def gloo_threads() -> list[str]:
    """The threads of gloo in this process, where the system lists threads: none may outlive its process group."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def pytest_configure() -> None:
    """Signals act as in a terminal: a job in the background, or under nohup, inherits that they are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def seed(name: str) -> None:
    """Seeds torch and numpy by a name, where a test has imported them: a test draws the same numbers in any company."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(crc32(name.encode()))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(crc32(name.encode()))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    seed(fixturedef.argname)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    seed(item.nodeid)


needs_ruff = pytest.mark.skipif(find_spec("ruff") is None, reason="ruff checks the code: pip install 'basisgen[lint]'")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def compile_and_import() -> Iterator[Callable[[str], ModuleType]]:
    """Compiles a spec given as TOML text and imports the package, for the time of a test."""
    from basisgen.emission.imported import imported
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    with ExitStack() as stack:

        def compile_and_import(text: str) -> ModuleType:
            spec = parse_package(text)
            return stack.enter_context(imported(compile_package(spec), spec.name))

        yield compile_and_import
