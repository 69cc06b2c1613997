"""examples/tetris/train.py as users start it: alone, under torchrun, on two nodes, and resumed."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

SCRIPT = ["examples/tetris/train.py", "--rotations", "1"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TWO = [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]


def start(launcher: list[str], *options: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*launcher, *SCRIPT, *map(str, options)],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> str:
    printed = []
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        printed.append(out)
    return "".join(printed)


def losses(out: Path, network: str = "steerable") -> list[float]:
    with (out / "quick" / f"{network}-0" / "history.csv").open(newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


def test_two_processes_and_two_nodes_equal_one_process(tmp_path: Path) -> None:
    """Resumed under torchrun too; to 1e-5 before Adam magnifies the rounding of float32."""
    finish(start([sys.executable], "--epochs", "2", "--out", tmp_path / "one"))
    one = losses(tmp_path / "one")
    assert len(one) == 2 and one[1] < one[0]

    finish(start(TWO, "--epochs", "1", "--out", tmp_path / "two"))
    printed = finish(start(TWO, "--epochs", "2", "--resume", "--out", tmp_path / "two"))
    assert losses(tmp_path / "two") == pytest.approx(one, rel=0, abs=1e-5)
    assert printed.count("of rotated shapes recognised") == 1, "rank 0 alone tests and prints"

    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]}"
    nodes = [*TORCHRUN, "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", place]
    finish(*(start(nodes, "--epochs", "2", "--out", tmp_path / "nodes") for _ in range(2)))
    assert losses(tmp_path / "nodes") == pytest.approx(one, rel=0, abs=1e-5)


def test_without_rounding_two_processes_stay_equal_to_one(tmp_path: Path) -> None:
    """In float64 no difference is left that a rounding of 1e-16 does not explain."""
    for name, launcher in (("one", [sys.executable]), ("two", TWO)):
        finish(start(launcher, "--precision", "float64", "--epochs", "3", "--out", tmp_path / name))
    one, two = (losses(tmp_path / name) for name in ("one", "two"))
    assert len(one) == 3 and two == pytest.approx(one, rel=0, abs=1e-9)


def test_with_synchronised_batch_norm_in_every_layer_too(tmp_path: Path) -> None:
    options = ("--precision", "float64", "--epochs", "2", "--network", "conventional")
    for name, launcher in (("one", [sys.executable]), ("two", TWO)):
        finish(start(launcher, *options, "--out", tmp_path / name))
    one, two = (losses(tmp_path / name, "conventional") for name in ("one", "two"))
    assert len(one) == 2 and two == pytest.approx(one, rel=0, abs=1e-9)


def test_an_earlier_run_is_not_overwritten(tmp_path: Path) -> None:
    finish(start([sys.executable], "--epochs", "1", "--out", tmp_path))
    before = losses(tmp_path)
    process = start([sys.executable], "--epochs", "1", "--out", tmp_path)
    _, err = process.communicate(timeout=120)
    assert (
        process.returncode == 1 and "holds an earlier run" in err and "with --resume" in err and "Traceback" not in err
    )
    assert losses(tmp_path) == before
