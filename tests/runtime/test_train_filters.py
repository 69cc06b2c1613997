"""Weights know their filters: weights of one package do not load where another's filters are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from test_train import config
from torch import nn

from runtime.train import TrainingError, load_weights, train
from runtime.train.checkpoint import load, save
from tests.conftest import REPOSITORY

Compiled = Callable[[str], ModuleType]


def spec(name: str = "blobs", size: int = 3, out: str = "2x0 + 1x1", scale: float = 0.8) -> str:
    return f"""
name = "{name}"
[[conv]]
name = "Conv1"
in = "1x0"
out = "{out}"
kernel_size = {size}
radial = {{ family = "hermite", scale = {scale}, n_max = 2 }}
"""


def network(package: ModuleType) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(package.Conv1(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(5, 2))


DATA = [(torch.randn(1, 7, 7, 7), n % 2) for n in range(4)]


@pytest.mark.parametrize(
    "other",
    [{"size": 5}, {"out": "1x1 + 2x0"}, {"scale": 0.7}],
    ids=["another kernel size", "another order of terms", "another scale"],
)
def test_weights_of_other_filters_are_refused_with_both_names(
    compile_and_import: Compiled, tmp_path: Path, other: dict[str, Any]
) -> None:
    then = compile_and_import(spec())
    result = train(network(then), DATA, config(batch_size=2, learning_rate=0.01), tmp_path)
    now = network(compile_and_import(spec("changed", **other)))
    state = {name: value.clone() for name, value in now.state_dict().items()}
    saved = load(result.last_path)["model"]
    assert {name: value.shape for name, value in state.items()} == {name: saved[name].shape for name in saved}
    both = r"blobs\.Conv1.*changed\.Conv1.*compile the old spec"
    with pytest.raises(TrainingError, match=rf"{result.best_path.name}.*{both}"):
        load_weights(result.best_path, now)
    with pytest.raises(TrainingError, match=rf"{result.last_path.name}.*{both}"):
        train(now, DATA, config(batch_size=2, learning_rate=0.01, epochs=2), tmp_path, resume=True)
    assert all(torch.equal(value, state[name]) for name, value in now.state_dict().items())
    load_weights(result.best_path, now, check_filters=False)
    assert torch.equal(now[0].weight, load(result.best_path)["model"]["0.weight"])


def test_the_same_filters_under_another_name_are_the_same(compile_and_import: Compiled, tmp_path: Path) -> None:
    result = train(network(compile_and_import(spec())), DATA, config(batch_size=2, learning_rate=0.01), tmp_path)
    renamed = network(compile_and_import(spec(name="renamed")))
    assert torch.equal(load_weights(result.best_path, renamed)[0].weight, load(result.best_path)["model"]["0.weight"])


def test_a_file_that_does_not_say_is_taken_with_a_warning(compile_and_import: Compiled, tmp_path: Path) -> None:
    package = compile_and_import(spec())
    result = train(network(package), DATA, config(batch_size=2, learning_rate=0.01), tmp_path)
    content = load(result.best_path)
    content["model"] = {name: value for name, value in content["model"].items() if not name.endswith("_extra_state")}
    save(tmp_path / "old.pt", content)
    with pytest.warns(UserWarning, match="does not say for which field types and filters"):
        load_weights(tmp_path / "old.pt", network(package))
    load_weights(result.best_path, network(package))  # without a warning, which would be an error


@pytest.mark.parametrize("said", [torch.zeros(3), "a text", 5, torch.zeros(256, dtype=torch.complex64), [1]])
def test_a_damaged_statement_of_filters_is_refused(compile_and_import: Compiled, tmp_path: Path, said: Any) -> None:
    package = compile_and_import(spec())
    content = {"model": network(package).state_dict() | {"0._extra_state": said}}
    save(tmp_path / "forged.pt", content)
    with pytest.raises(TrainingError, match=r"forged\.pt"):
        load_weights(tmp_path / "forged.pt", network(package))


@pytest.mark.slow
def test_a_project_with_another_kernel_size_does_not_resume_the_old_run(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    basisgen = ["-m", "basisgen.cli"]

    def do(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True
        )

    assert do(tmp_path, *basisgen, "new", "first", "--preset", "tetris").returncode == 0
    home, training = tmp_path / "first", ("train.py", "--epochs", "2", "--rotations", "1")
    assert do(home, *basisgen, "compile", "first.toml").returncode == 0
    assert do(home, *training).returncode == 0
    spec = home / "first.toml"
    spec.write_text(
        re.sub(r"kernel_size = (\d+)", lambda found: f"kernel_size = {int(found[1]) + 2}", spec.read_text())
    )
    assert do(home, *basisgen, "compile", "first.toml").returncode == 0
    again = do(home, *training)
    assert again.returncode == 1 and again.stdout == "", "no score of a network that never was"
    message = again.stderr.splitlines()[-1]
    assert re.search(
        r"first\.Conv1.* this layer is .*first\.Conv1.*Take another directory \(--runs\), or compile", message
    )
    assert do(home, *training, "--runs", "runs/second").returncode == 0
