"""The configuration: its rules, its schedule, its file."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from runtime.train.config import _RULES, Precision, TrainConfig, TrainingError

PLAIN: dict[str, Any] = {"epochs": 100, "batch_size": 16, "learning_rate": 0.1}


def test_every_field_has_a_rule_and_its_example_keeps_it() -> None:
    assert list(_RULES) == [field.name for field in fields(TrainConfig)]
    for name, (holds, _, example) in _RULES.items():
        value = example.strip('"') if example.startswith('"') else {"true": True}.get(example) or float(example)
        assert holds(value) or holds(int(value)), name


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "epochs = 0 is not a whole number of at least 1. Write for example epochs = 100."),
        ({"epochs": 2.5}, "epochs = 2.5 is not a whole number"),
        ({"epochs": True}, "epochs = True is not a whole number"),
        ({"learning_rate": -1}, "learning_rate = -1 is not a finite number above 0"),
        ({"learning_rate": math.nan}, "learning_rate = nan"),
        ({"learning_rate": "0.1"}, "learning_rate = '0.1' is not"),
        ({"decay": 1.5}, "decay = 1.5 is not a number above 0 and at most 1"),
        ({"ema_decay": 1}, "ema_decay = 1 is not"),
        ({"conv_l1": math.inf}, "conv_l1 = inf is not"),
        ({"clip_norm": 0}, "clip_norm = 0 is not"),
        ({"precision": "bf16"}, "precision = 'bf16' is not one of float32, bf16-mixed, float64"),
        ({"compile": 1}, "compile = 1 is not true or false"),
        ({"device": ""}, "device = '' is not the name of a device"),
        ({"accumulate": 17}, "accumulate = 17 passes cannot share batch_size = 16 samples"),
    ],
)
def test_a_broken_rule_is_quoted(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        TrainConfig(**(PLAIN | changes))
    assert message in str(error.value)


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig(**PLAIN).epochs = 3  # type: ignore[misc]


def test_the_schedule_of_cath() -> None:
    config = TrainConfig(**PLAIN, burn_in=40, decay=0.94)
    assert {config.learning_rate_at(epoch) for epoch in range(40)} == {0.1}
    assert config.learning_rate_at(40) == pytest.approx(0.1 * 0.94)
    assert config.learning_rate_at(99) == pytest.approx(0.1 * 0.94**60)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_reduced_data_keep_the_course_of_the_learning_rate(n: int) -> None:
    config = TrainConfig(**PLAIN, burn_in=40, decay=0.94)
    reduced = config.reduced(n)
    assert (reduced.epochs, reduced.burn_in) == (100 * 2**n, 40 * 2**n)
    for epoch in (0, 39, 40, 41, 99):  # the last of the 2^n epochs that stand for one
        assert reduced.learning_rate_at((epoch + 1) * 2**n - 1) == pytest.approx(config.learning_rate_at(epoch))


def test_a_configuration_is_read_from_a_table_of_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        '[train]\nepochs = 3\nbatch_size = 8\nlearning_rate = 1\nclip_norm = inf\nprecision = "bf16-mixed"\n'
    )
    config = TrainConfig.from_toml(path)
    assert config == TrainConfig(3, 8, 1.0, precision=Precision.BF16_MIXED)
    assert TrainConfig(**config.as_dict()) == config  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text, message",
    [
        ("[train]\nepochs = 3", r"\[train\] lacks batch_size, learning_rate"),
        ("[train]\nepoch = 3", r"unknown key 'epoch'. Did you mean epochs\?"),
        ("[train]\nzzz = 3", "unknown key 'zzz'. Known: accumulate, batch_size"),
        ("[trian]", r"has no table \[train\]. It has: trian"),
        ("train = 3", r"has no table \[train\]"),
        ("[train", "cannot read the configuration"),
        ("[train]\nepochs = 0\nbatch_size = 1\nlearning_rate = 1", r"run.toml: \[train\] epochs = 0 is not"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(TrainingError, match=message):
        TrainConfig.from_toml(tmp_path / "run.toml")


def test_a_missing_configuration_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot read the configuration .*none\.toml"):
        TrainConfig.from_toml(tmp_path / "none.toml")
