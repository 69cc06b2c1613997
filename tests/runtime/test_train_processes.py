"""Training in other processes: killed ones, stopped ones, and several together."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.train.checkpoint import checkpoints, load

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CASE = str(HERE / "train_case.py")
QUIET = "error,ignore:Implicitly cleaning up:ResourceWarning"  # of a folder that torch 2.6 leaves to the exit
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": QUIET}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(directory: Path, launcher: list[str] | None = None, **changes: Any) -> subprocess.Popen[str]:
    directory.mkdir(parents=True, exist_ok=True)
    environment = ENVIRONMENT if launcher is None else ENVIRONMENT | {"PYTHONWARNINGS": ""}  # torchrun's own warnings
    return subprocess.Popen(
        [*(launcher or [sys.executable]), CASE, str(directory), json.dumps(changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> list[dict[str, float]]:
    """The history of a run that ends well; every process of it prints the same."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    histories = [json.loads(line) for line in out.splitlines() if line.startswith("[")]
    assert histories and all(history == histories[0] for history in histories)
    return histories[0]


def wait_for(what: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_killed_ten_times_the_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 150, "norm": "batch"}
    whole = finish(start(tmp_path / "whole", **settings))
    chance = random.Random(0)
    killed, found = tmp_path / "killed", []
    for _ in range(10):
        before = checkpoints(killed)
        process = start(killed, resume=True, **settings)
        wait_for(lambda before=before: checkpoints(killed) != before, process)
        time.sleep(chance.uniform(0, 0.3))
        assert process.poll() is None, "the run ended before it was killed: make it longer"
        process.kill()
        process.communicate()
        found.append(checkpoints(killed)[-1].name)
    assert found == sorted(set(found)), "every attempt made progress"
    assert finish(start(killed, resume=True, **settings)) == whole
    one, other = torch.load(tmp_path / "whole" / "final.pt"), torch.load(killed / "final.pt")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (killed / "history.csv").read_text() == (tmp_path / "whole" / "history.csv").read_text()
    best = [load(directory / "best.pt") for directory in (killed, tmp_path / "whole")]
    assert all(torch.equal(best[0]["model"][name], best[1]["model"][name]) for name in best[0]["model"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_saves_and_ends_without_a_traceback(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    process = start(tmp_path, epochs=100_000, checkpoint_seconds=1e9, workers=workers)
    wait_for(lambda: (tmp_path / "history.csv").exists(), process)
    os.killpg(process.pid, number)  # the workers too, as a terminal and a scheduler do
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"Training stopped by {number.name}" in err and "resume=True" in err and "Traceback" not in err
    (saved,) = checkpoints(tmp_path)
    assert str(saved) in err and load(saved)["epoch"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "sync"},
        {"accumulate": 2, "precision": "float32", "batch_size": 5},  # short last step: an empty part in one process
        {"check_every": 2, "workers": 1},
    ],
    ids=["plain", "synchronised norm", "accumulated", "rarely checked"],
)
def test_two_processes_equal_one_with_the_joint_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = {"dropout": 0.0, **changes}
    one = finish(start(tmp_path / "one", **settings))
    two = finish(start(tmp_path / "two", TORCHRUN, **settings))
    assert len(one) == len(two) == 4
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, abs=1e-5)
    for name in ("one", "two"):  # by the process of rank 0 alone
        assert (tmp_path / name / "reported.txt").read_text().split() == ["0", "1", "2", "3"]
    assert [p.name for p in sorted((tmp_path / "two").iterdir())] == [
        p.name for p in sorted((tmp_path / "one").iterdir())
    ]
    weights = [torch.load(tmp_path / name / "final.pt") for name in ("one", "two")]
    for name in weights[0]:
        torch.testing.assert_close(weights[1][name], weights[0][name], atol=1e-4, rtol=0)


def test_two_processes_with_separate_batch_norms_differ(tmp_path: Path) -> None:
    """Negative control: without synchronisation the statistics of half a batch show."""
    one = finish(start(tmp_path / "one", dropout=0.0, norm="batch"))
    two = finish(start(tmp_path / "two", TORCHRUN, dropout=0.0, norm="batch"))
    assert two[-1]["train_loss"] != pytest.approx(one[-1]["train_loss"], abs=1e-4)


def test_two_processes_resume_exactly_and_one_can_resume_alone(tmp_path: Path) -> None:
    whole = finish(start(tmp_path / "whole", TORCHRUN, dropout=0.0))
    finish(start(tmp_path / "two", TORCHRUN, dropout=0.0, epochs=2))
    shutil.copytree(tmp_path / "two", tmp_path / "one")
    assert finish(start(tmp_path / "two", TORCHRUN, dropout=0.0, resume=True)) == whole
    for row, other in zip(finish(start(tmp_path / "one", dropout=0.0, resume=True)), whole, strict=True):
        assert row == pytest.approx(other, abs=1e-5)


TWICE = """
import os, sys, time
from pathlib import Path
from train_case import run
for number in range(2):
    time.sleep(2 * number * (os.environ["RANK"] == "1"))
    run(Path(sys.argv[1]) / str(number), dropout=0.0, epochs=1)
"""


def test_processes_that_train_twice_need_not_arrive_together(tmp_path: Path) -> None:
    """The second group must not find the addresses of the first."""
    (tmp_path / "twice.py").write_text(TWICE)
    environment = ENVIRONMENT | {"PYTHONWARNINGS": "", "PYTHONPATH": f"{HERE.parent.parent}:{HERE}"}
    subprocess.run([*TORCHRUN, str(tmp_path / "twice.py"), str(tmp_path)], env=environment, check=True, timeout=60)
    assert (tmp_path / "0" / "history.csv").read_text() == (tmp_path / "1" / "history.csv").read_text()


def test_a_bad_sample_in_one_process_is_named_by_all(tmp_path: Path) -> None:
    """All leave together: none waits in the synchronised norm, no name is lost with the process that is killed."""
    process = start(tmp_path, TORCHRUN, norm="sync", bad=7)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "terminate called" not in err
    assert "TrainingError: the loss is not finite at epoch 0" in err and "the volume of sample 7 is nan" in err
    assert not checkpoints(tmp_path) or all(
        torch.isfinite(value).all() for path in checkpoints(tmp_path) for value in load(path)["model"].values()
    )


def test_sigterm_to_torchrun_saves_once_for_all(tmp_path: Path) -> None:
    process = start(tmp_path, TORCHRUN, epochs=100_000, checkpoint_seconds=1e9)
    wait_for(lambda: (tmp_path / "history.csv").exists(), process)
    os.killpg(process.pid, signal.SIGTERM)  # torchrun passes it on to the workers
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and err.count("Training stopped by SIGTERM") == 1
    (saved,) = checkpoints(tmp_path)
    epochs = load(saved)["epoch"]
    assert len(finish(start(tmp_path, TORCHRUN, epochs=epochs + 1, resume=True))) == epochs + 1
