"""Every training ends, and leaves nothing behind: no process, no lock, no half-written file, even after an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import config, contents, fixed
from test_train_processes import ENVIRONMENT, HERE, TORCHRUN, start, wait_for
from torch import nn
from train_case import network, run

from runtime.train import Interrupted, TrainingError, train
from runtime.train.checkpoint import checkpoints, load
from runtime.train.lock import LOCK, locked

ENDS = 100  # seconds that a slow machine may take; what hangs would take them all


def hostile(directory: Path, kind: str, workers: int, launcher: list[str] | None = None) -> subprocess.Popen[str]:
    environment = ENVIRONMENT | {"PYTHONWARNINGS": ""}
    return subprocess.Popen(
        [*(launcher or [sys.executable]), str(HERE / "hostile_case.py"), str(directory), kind, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def nothing_is_left(process: subprocess.Popen[str]) -> bool:
    """Whether every process of the session has ended."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_until(what: Callable[[], Any]) -> None:
    deadline = time.monotonic() + ENDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


ERRORS = {
    "raises": "KeyError: 'no such path'\nraised by the data set Hostile for its sample 5",
    "malformed": "TrainingError: sample 5 is a str, not a pair.",
    "exits": "TrainingError: a process that loads data ended: ",
    "leaves": "TrainingError: a process that loads data ended: ",
    "is killed": "TrainingError: a process that loads data ended: ",
    "crashes": "TrainingError: a process that loads data ended: ",
    "is nan": "the input of sample 5 is nan at (0,). Nothing was written",
    "loss raises": "ZeroDivisionError: in the loss\nraised by the loss (samples ",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_where_workers_load_ends_the_training_and_the_workers(tmp_path: Path, kind: str) -> None:
    process = hostile(tmp_path, kind, 2)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 1 and ERRORS[kind] in err
    wait_until(lambda: nothing_is_left(process))
    assert contents(tmp_path) == {}, "no lock, no directory"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["raises", "is killed"])
def test_an_error_of_a_worker_ends_all_processes_that_train_together(tmp_path: Path, kind: str) -> None:
    process = hostile(tmp_path, kind, 1, TORCHRUN)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 1 and ERRORS[kind].splitlines()[0] in err
    wait_until(lambda: nothing_is_left(process))


@pytest.mark.slow
def test_sigterm_saves_though_a_sample_hangs(tmp_path: Path) -> None:
    process = hostile(tmp_path, "hangs", 2)
    wait_for((tmp_path / "hangs").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 128 + signal.SIGTERM and "Training stopped by SIGTERM after 0 epochs" in err
    wait_until(lambda: nothing_is_left(process))
    (saved,) = checkpoints(tmp_path / "run")
    assert load(saved)["epoch"] == 0 and not (tmp_path / "run" / LOCK).exists()


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed_and_its_lock_goes_too(tmp_path: Path) -> None:
    process = hostile(tmp_path, "hangs", 2)
    wait_for((tmp_path / "hangs").exists, process)
    with pytest.raises(TrainingError, match=rf"another training is at work in .*run: process {process.pid} on "):
        train(network(), fixed(), config(), tmp_path / "run")
    process.kill()
    process.communicate()
    train(network(), fixed(), config(), tmp_path / "run")
    wait_until(lambda: nothing_is_left(process))


@pytest.mark.slow
def test_torchrun_ends_though_a_sample_hangs(tmp_path: Path) -> None:
    process = hostile(tmp_path, "hangs", 1, TORCHRUN)
    wait_for((tmp_path / "hangs").exists, process)
    process.terminate()
    process.communicate(timeout=ENDS)
    assert process.returncode != 0
    wait_until(lambda: nothing_is_left(process))


# -- signals ----------------------------------------------------------------------------------------------------------


class Signalling(list[Any]):
    """A data set that sends this process a signal while its samples are drawn for the n-th time."""

    def __init__(self, samples: Any, number: int, draw: int, times: int = 1) -> None:
        super().__init__(samples)
        self.number, self.draw, self.drawn, self.times = number, draw, 0, times

    def __getitem__(self, index: Any) -> Any:
        self.drawn += 1
        if self.drawn == self.draw:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
            time.sleep(0)  # the handler runs between two instructions
        return super().__getitem__(index)


SAMPLES = [(torch.ones(3) * n, n % 2) for n in range(6)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_the_first_step_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped:
        train(nn.Linear(3, 2), Signalling(SAMPLES, number, 1), config(), tmp_path / "run")
    assert stopped.value.code == 128 + number and not (tmp_path / "run").exists()
    message = f"\nTraining stopped by {number.name} before its first step; nothing was written.\nTo go on, run the same"
    assert message in capfd.readouterr().err
    assert signal.getsignal(number) is before


def test_a_signal_while_data_are_drawn_stops_between_two_steps_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def linear() -> nn.Linear:
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    changes = {"batch_size": 2, "epochs": 2, "checkpoint_seconds": 1e9}
    data = Signalling(SAMPLES, signal.SIGTERM, 1 + 2 * 2 + 1)  # the check, two steps, then the first of the third
    with pytest.raises(Interrupted):
        train(linear(), data, config(**changes), tmp_path / "stopped")
    (saved,) = checkpoints(tmp_path / "stopped")
    assert (load(saved)["epoch"], load(saved)["step"]) == (0, 2)
    train(resumed := linear(), SAMPLES, config(**changes), tmp_path / "stopped", resume=True)
    train(once := linear(), SAMPLES, config(**changes), tmp_path / "once")
    assert torch.equal(resumed.weight, once.weight)


def test_a_signal_while_validation_data_are_drawn_saves_the_steps(tmp_path: Path) -> None:
    held_out = Signalling(SAMPLES, signal.SIGTERM, 3)
    with pytest.raises(Interrupted):
        train(nn.Linear(3, 2), SAMPLES, config(batch_size=2), tmp_path, validation=held_out)
    assert load(checkpoints(tmp_path)[-1])["step"] == 3


def test_under_nohup_a_terminal_that_goes_changes_nothing(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result = train(nn.Linear(3, 2), Signalling(SAMPLES, signal.SIGHUP, 4), config(epochs=2), tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(result.history) == 2


@pytest.mark.parametrize(
    "options, cure",
    [
        ({}, "To go on, run the same with resume=True."),
        ({"resume": True}, "To go on, run the same again."),
        ({"go_on": "add --resume"}, "To go on, add --resume."),
    ],
)
def test_the_message_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], options: dict[str, Any], cure: str
) -> None:
    with pytest.raises(Interrupted):
        train(nn.Linear(3, 2), Signalling(SAMPLES, signal.SIGTERM, 4), config(), tmp_path, **options)
    assert capfd.readouterr().err.splitlines()[-1] == cure


# -- two trainings in one directory -----------------------------------------------------------------------------------


def test_two_trainings_do_not_share_a_directory(tmp_path: Path) -> None:
    run(tmp_path, epochs=1)
    before = contents(tmp_path)
    with locked(tmp_path):
        for resume in (True, False):
            with pytest.raises(
                TrainingError, match=rf"another training is at work in {tmp_path}: process {os.getpid()}"
            ):
                run(tmp_path, epochs=2, resume=resume)
    assert contents(tmp_path) == before
    assert len(run(tmp_path, epochs=2, resume=True).history) == 2


def test_a_lock_leaves_nothing_and_removes_what_it_made(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / LOCK).exists()
    assert not (tmp_path / "a").exists()
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]


def test_a_lock_file_left_by_a_killed_training_does_not_lock(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 on elsewhere")
    with locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_training_that_resumes_does_not_disturb_one_that_runs(tmp_path: Path) -> None:
    process = start(tmp_path, epochs=100_000, checkpoint_seconds=0)
    wait_for(lambda: checkpoints(tmp_path), process)
    second = start(tmp_path, epochs=100_000, resume=True)
    _, err = second.communicate(timeout=ENDS)
    assert second.returncode == 1 and "another training is at work" in err
    assert process.poll() is None
    process.kill()
    process.communicate()


# -- an environment that is no group of processes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "2"}, r"WORLD_SIZE = 2 asks for 2 processes, but RANK, MASTER_ADDR, MASTER_PORT are not set"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}, "but MASTER_PORT is not set"),
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE = 'x', not a whole number"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE = '', not a whole number"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE = '-1', not a whole number"),
        ({"WORLD_SIZE": "0"}, "RANK = 0 is not below WORLD_SIZE = 0"),
        ({"WORLD_SIZE": "9" * 5000}, "not a whole number"),
        ({"RANK": "5"}, "RANK = 5 is not below WORLD_SIZE = 1"),
        ({"WORLD_SIZE": "2", "RANK": "5", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}, "RANK = 5 is not below"),
        ({"RANK": "one"}, "RANK = 'one', not a whole number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK = 'x', not a whole number"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "x"}, "MASTER_PORT = 'x', not a"),
    ],
)
def test_an_environment_that_describes_no_group_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message):
        train(nn.Linear(3, 2), SAMPLES, config(), tmp_path)
