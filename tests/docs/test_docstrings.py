"""Columns of names and explanations in docstrings become lists; formulas, prose and lone lines stay as they are."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("griffe")
from docs.docstrings import as_lists
from runtime.train import TrainConfig, train

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
