"""Every test runs on one thread, from one seed; packages are compiled once for all tests."""

from contextlib import ExitStack

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def compiled():
    """compiled(text): the imported package of a spec."""
    from basisgen.emission.imported import imported
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    with ExitStack() as stack:
        packages = {}

        def package(text):
            if text not in packages:
                spec = parse_package(text)
                packages[text] = stack.enter_context(imported(compile_package(spec), f"{spec.name}_{len(packages)}"))
            return packages[text]

        yield package
