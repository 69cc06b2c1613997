"""Columns of names and explanations in docstrings become lists; formulas, prose and lone lines stay as they are."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

pytest.importorskip("griffe")
from docs.docstrings import as_lists
from runtime.train import TrainConfig, train
from tests.conftest import REPOSITORY

TEXT = """What it is.

epochs       passes over the data
batch_size   samples of a step,
             all processes together

    x = 1    a formula
lone         line
"""


def test_columns_become_a_list() -> None:
    assert as_lists(TEXT).split("\n") == [
        *("What it is.", "", ""),
        "* `epochs` passes over the data",
        "* `batch_size` samples of a step, all processes together",
        *("", "", "    x = 1    a formula", "lone         line", ""),
    ]


def test_every_option_of_the_training_has_its_own_entry() -> None:
    for thing, names in (
        (TrainConfig, {"epochs", "batch_size", "burn_in, decay", "conv_l1, conv_l2", "check_every", "progress"}),
        (train, {"model", "data", "loss", "resume"}),
    ):
        listed = as_lists(inspect.getdoc(thing) or "").split("\n")
        entries = {line.split("`")[1] for line in listed if line.startswith("* `")}
        assert names <= entries


def test_a_list_loses_no_word() -> None:
    text = inspect.getdoc(TrainConfig) or ""
    assert as_lists(text).replace("* `", "").replace("`", "").split() == text.replace("`", "").split()


def test_code_in_docstrings_is_indented_so_that_pages_show_it_as_code() -> None:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    flat = re.compile(r"^(from \S+ import |import \S+$|print\()", re.MULTILINE)
    assert flat.search(inspect.cleandoc("A test.\n\n    print(1)\n"))  # what has no prose behind it loses its indent
    for path in sorted([*REPOSITORY.glob("runtime/**/*.py"), *REPOSITORY.glob("basisgen/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                assert not flat.search(text), (path, text)
