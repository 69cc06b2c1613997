from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package

NAME = "tried_out"
CONTENT = compile_package(
    parse_package(f'name = "{NAME}"\n[[conv]]\nname = "Conv"\nin = "1x0"\nout = "1x1"\nkernel_size = 3\n')
)


def test_a_package_is_there_inside_and_forgotten_afterwards() -> None:
    path = list(sys.path)
    with imported(CONTENT, NAME) as package:
        place = Path(package.__file__).parent
        assert importlib.import_module(NAME) is package and place.name == NAME and place.is_dir()
        conv = package.Conv()
    assert sys.path == path and not place.parent.exists()
    assert not [name for name in sys.modules if name.startswith(NAME)]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)
    assert conv.double()(torch.randn(1, 1, 4, 4, 4, dtype=torch.float64)).shape == (1, 3, 4, 4, 4), "it lives on"


def test_a_package_is_forgotten_after_an_error_and_can_be_made_again() -> None:
    path = list(sys.path)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), imported(CONTENT, NAME) as package:
            raise ZeroDivisionError
        assert sys.path == path and NAME not in sys.modules and not Path(package.__file__).exists()
    with pytest.raises(SyntaxError), imported({**CONTENT, "conv.py": b"def"}, NAME):
        pass
    assert sys.path == path and not [name for name in sys.modules if name.startswith(NAME)]


def test_a_module_that_is_there_is_not_mistaken_for_the_package() -> None:
    with pytest.raises(AssertionError, match="a module json is imported already"), imported(CONTENT, "json"):
        pass
