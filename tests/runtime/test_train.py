"""The training loop: what it computes, what it writes, how it stops."""

from __future__ import annotations

import copy
import csv
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from train_case import CLASSES, CONFIG, Blobs, network, run

import runtime.train.log
import runtime.train.run
from runtime.train import (
    Interrupted,
    TrainConfig,
    TrainingError,
    TrainResult,
    classification_metrics,
    load_weights,
    train,
)
from runtime.train.checkpoint import BEST, checkpoints, load, save
from runtime.train.penalties import penalties_of


class Fixed(Dataset[tuple[Tensor, Any]]):
    """Given samples, without random draws."""

    def __init__(self, volumes: Tensor, labels: Any) -> None:
        self.volumes, self.labels = volumes, labels

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        return self.volumes[index], self.labels[index]


def fixed(samples: int = 6) -> Fixed:
    generator = torch.Generator().manual_seed(1)
    return Fixed(torch.randn(samples, 1, 8, 8, 8, generator=generator), [i % CLASSES for i in range(samples)])


def config(**changes: Any) -> TrainConfig:
    plain = {"epochs": 1, "batch_size": 6, "learning_rate": 0.1, "tensorboard": False, "device": "cpu"}
    return TrainConfig(**(plain | changes))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train_sgd(model: nn.Module, data: Fixed, directory: Path, **changes: Any) -> TrainResult:
    return train(model, data, config(**changes), directory, optimizer=torch.optim.SGD)


# -- what a step computes ---------------------------------------------------------------------------------------------


def test_a_run_equals_the_loop_written_by_hand(tmp_path: Path) -> None:
    data, model, twin = fixed(), network(dropout=0), network(dropout=0)
    result = train(model, data, config(epochs=5, decay=0.5, burn_in=2), tmp_path)

    losses = []
    adam = torch.optim.Adam(twin.parameters())
    for epoch in range(5):
        adam.param_groups[0]["lr"] = [0.1, 0.1, 0.05, 0.025, 0.0125][epoch]
        loss = F.cross_entropy(twin(data.volumes), torch.tensor(data.labels))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    torch.testing.assert_close(weights(model), weights(twin), atol=1e-5, rtol=0)
    assert [row["train_loss"] for row in result.history] == pytest.approx(losses, abs=1e-6)
    assert [row["learning_rate"] for row in result.history] == [0.1, 0.1, 0.05, 0.025, 0.0125]


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulated_passes_give_the_gradient_of_the_whole_step(tmp_path: Path, accumulate: int) -> None:
    # 11 samples in steps of 5, 5 and 1: parts of unequal size, and parts without any sample
    whole, split = network(dropout=0), network(dropout=0)
    one = train_sgd(whole, fixed(11), tmp_path / "1", batch_size=5, epochs=2)
    many = train_sgd(split, fixed(11), tmp_path / "n", batch_size=5, epochs=2, accumulate=accumulate)
    torch.testing.assert_close(weights(split), weights(whole), atol=1e-6, rtol=0)
    assert [r["train_loss"] for r in many.history] == pytest.approx([r["train_loss"] for r in one.history], abs=1e-6)


def test_the_penalties_are_the_derivatives_of_l1_and_l2(tmp_path: Path) -> None:
    data = fixed()
    model, twin = network(nn.BatchNorm3d(4), 0), network(nn.BatchNorm3d(4), 0)
    train_sgd(model, data, tmp_path, conv_l1=0.01, conv_l2=0.02, norm_l1=0.03, norm_l2=0.04)

    loss = F.cross_entropy(twin(data.volumes), torch.tensor(data.labels))
    conv = [twin[0].weight, twin[4].weight]
    norm = twin[1].weight
    penalty = sum(0.01 * w.abs().sum() + 0.02 * w.square().sum() for w in conv)
    penalty += 0.03 * norm.abs().sum() + 0.04 * norm.square().sum()
    plain = torch.autograd.grad(loss, list(twin.parameters()), retain_graph=True)
    (loss + penalty).backward()
    for parameter, unpenalised, stepped in zip(twin.parameters(), plain, model.parameters(), strict=True):
        torch.testing.assert_close(stepped, parameter - 0.1 * parameter.grad, atol=1e-6, rtol=0)
        penalised = any(parameter is w for w in (*conv, norm))
        assert torch.equal(parameter.grad, unpenalised) != penalised  # the penalty is no rounding error


def test_penalties_find_generated_convolutions_and_runtime_norms() -> None:
    from generated.tetris import Conv1
    from runtime.normalization import BatchNorm

    model = nn.Sequential(Conv1(), BatchNorm("4x0+4x1"), nn.Linear(3, 3))
    found = penalties_of(model, config(conv_l1=1.0, norm_l2=2.0))
    assert [(id(w), l1, l2) for w, l1, l2 in found] == [(id(model[0].weight), 1, 0), (id(model[1].weight), 0, 2)]
    with pytest.raises(TrainingError, match=r"norm_l2 = 2\.0, but the model has no norm weights"):
        penalties_of(nn.Conv3d(1, 1, 1), config(norm_l2=2.0))


@pytest.mark.parametrize("clip_norm, length", [(0.01, 0.01), (1e9, None)])
def test_clipping_shortens_long_gradients_only(tmp_path: Path, clip_norm: float, length: float | None) -> None:
    model, start = network(dropout=0), network(dropout=0)
    result = train_sgd(model, fixed(), tmp_path, clip_norm=clip_norm, learning_rate=1.0)
    moved = (weights(model) - weights(start)).norm().item()
    assert result.history[0]["gradient_norm"] > 0.02
    assert moved == pytest.approx(length or result.history[0]["gradient_norm"], rel=1e-3)


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    data, model, twin = fixed(), network(nn.BatchNorm3d(4), 0), network(nn.BatchNorm3d(4), 0)
    result = train(model, data, config(epochs=3, ema_decay=0.75), tmp_path, validation=data)
    average = [p.detach().clone() for p in twin.parameters()]
    for epochs in (1, 2, 3):  # the raw weights after 1, 2, 3 epochs, from runs without averaging
        raw = network(nn.BatchNorm3d(4), 0)
        train(raw, data, config(epochs=epochs), tmp_path / str(epochs))
        average = [0.75 * a + 0.25 * p.detach() for a, p in zip(average, raw.parameters(), strict=True)]
    saved = load(result.last_path)["average"]
    for (name, _), expected in zip(twin.named_parameters(), average, strict=True):
        torch.testing.assert_close(saved[name], expected, atol=1e-6, rtol=0)
    # best.pt gives back the validation loss of its epoch, and is not the raw model
    best = load_weights(result.best_path, network(nn.BatchNorm3d(4), 0)).eval()
    loss = F.cross_entropy(best(data.volumes), torch.tensor(data.labels)).item()
    assert loss == pytest.approx(result.best["validation_loss"], abs=1e-6)
    assert not torch.equal(weights(best), weights(model))


def test_bf16_computes_in_bf16_and_keeps_float32_weights(tmp_path: Path) -> None:
    seen: set[torch.dtype] = set()
    model = network()
    model[4].register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    loss_types: set[torch.dtype] = set()

    def loss(output: Tensor, label: Tensor) -> Tensor:
        loss_types.add(output.dtype)
        return F.cross_entropy(output, label)

    train(model, fixed(), config(epochs=3, precision="bf16-mixed"), tmp_path, loss=loss)
    assert seen == {torch.bfloat16} and loss_types == {torch.float32}
    assert weights(model).dtype == torch.float32


def test_a_loss_with_weights_goes_where_the_model_goes(tmp_path: Path) -> None:
    """Seen by its dtype, which a CPU can tell; its device is changed by the same call."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    train(network(), fixed(), config(epochs=1, precision="float64"), tmp_path, loss=loss)
    assert loss.weight.dtype == torch.float64


def test_float64_computes_and_ends_in_float64_and_resumes(tmp_path: Path) -> None:
    loss_types: set[torch.dtype] = set()

    def loss(output: Tensor, label: Tensor) -> Tensor:
        loss_types.add(output.dtype)
        return F.cross_entropy(output, label)

    torch.manual_seed(0)
    once = network()
    again = copy.deepcopy(once)
    result = train(once, fixed(), config(epochs=3, precision="float64", ema_decay=0.5), tmp_path / "once", loss=loss)
    assert loss_types == {torch.float64} and weights(once).dtype == torch.float64
    last = result.history[-1]["train_loss"]
    assert torch.tensor(last, dtype=torch.float32).item() != last, "the loss is not rounded to float32 either"
    train(again, fixed(), config(epochs=2, precision="float64", ema_decay=0.5), tmp_path / "again")
    train(again, fixed(), config(epochs=3, precision="float64", ema_decay=0.5), tmp_path / "again", resume=True)
    assert torch.equal(weights(once), weights(again))


def test_another_loss_with_tensor_labels(tmp_path: Path) -> None:
    data = fixed()
    data.labels = torch.randn(6, CLASSES)
    result = train(network(dropout=0), data, config(epochs=30), tmp_path, loss=F.mse_loss)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, on importing its compiler
@pytest.mark.filterwarnings("ignore:Skipping serialization:UserWarning")  # torch 2.6's own, on compiling
def test_the_compiled_model_trains_alike(tmp_path: Path) -> None:
    torch._dynamo.reset()  # it takes sizes that varied in tests before for ones that vary here
    eager, compiled = network(dropout=0), network(dropout=0)
    train(eager, fixed(), config(epochs=3), tmp_path / "eager", validation=fixed())
    train(compiled, fixed(), config(epochs=3, compile=True), tmp_path / "compiled", validation=fixed())
    torch.testing.assert_close(weights(compiled), weights(eager), atol=1e-4, rtol=0)


# -- history, best, logs ----------------------------------------------------------------------------------------------


def test_a_network_learns_and_the_history_says_so(tmp_path: Path) -> None:
    model = network()
    metrics = classification_metrics(CLASSES)
    data = Blobs(12, noise=0.05)
    result = train(model, data, config(epochs=40, learning_rate=0.02), tmp_path, validation=data, metrics=metrics)
    assert result.best["accuracy"] == 1.0 and result.monitor == "validation_loss" and not result.stopped_early
    assert [row["epoch"] for row in result.history] == list(range(40))
    with result.log_path.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == list(result.history)  # exactly: repr of a float is exact
    assert load(result.best_path)["row"] == result.best == min(rows, key=lambda row: row["validation_loss"])


def test_balanced_accuracy_weighs_classes_not_samples(tmp_path: Path) -> None:
    data = Fixed(torch.zeros(6, 1, 4, 4, 4), [0, 0, 0, 0, 1, 2])
    always_zero = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(1, 3))
    nn.init.constant_(always_zero[2].bias, 0)
    always_zero[2].bias.data[0] = 100
    result = train(
        always_zero, data, config(learning_rate=1e-6), tmp_path, validation=data, metrics=classification_metrics(3)
    )
    assert result.history[0]["accuracy"] == pytest.approx(4 / 6)
    assert result.history[0]["balanced_accuracy"] == pytest.approx(1 / 3)


def test_validation_is_the_mean_over_samples_for_any_batches(tmp_path: Path) -> None:
    data, model = fixed(7), network()
    result = train(model, fixed(), config(batch_size=3), tmp_path, validation=data)
    expected = F.cross_entropy(model.eval()(data.volumes), torch.tensor(data.labels)).item()
    assert result.history[0]["validation_loss"] == pytest.approx(expected, abs=1e-6)


def test_early_stop_after_patience_epochs_without_improvement(tmp_path: Path) -> None:
    values = iter([5.0, 3.0, 4.0, 3.0, 3.5, 1.0])

    def scripted(output: Tensor, _label: Tensor) -> Tensor:
        return output.sum() * 0 + next(values)

    result = train(network(), fixed(), config(epochs=6, patience=3), tmp_path, loss=scripted)
    assert [row["train_loss"] for row in result.history] == [5, 3, 4, 3, 3.5]
    assert result.stopped_early and result.best["epoch"] == 1
    assert train(network(), fixed(), config(epochs=6, patience=3), tmp_path, resume=True).history == result.history


def test_the_monitor_knows_which_end_is_better(tmp_path: Path) -> None:
    metrics = classification_metrics(CLASSES)
    result = train(
        network(),
        Blobs(12, noise=0.05),
        config(epochs=20, learning_rate=0.02, monitor="accuracy"),
        tmp_path,
        validation=Blobs(12),
        metrics=metrics,
    )
    assert result.best["accuracy"] == max(row["accuracy"] for row in result.history)
    with pytest.raises(TrainingError, match=r"monitor = 'acuracy' is not a column .* accuracy, balanced_accuracy"):
        train(network(), fixed(), config(monitor="acuracy"), tmp_path / "x", validation=fixed(), metrics=metrics)
    with pytest.raises(TrainingError, match="metrics are measured on the validation set, and there is none"):
        train(network(), fixed(), config(), tmp_path / "x", metrics=metrics)


def test_without_tensorboard_the_history_is_logged_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    result = train(network(), fixed(), config(epochs=2, tensorboard=True), tmp_path)
    assert len(result.log_path.read_text().splitlines()) == 3 and result.last_path.exists()
    assert [record.getMessage() for record in caplog.records].count(
        "tensorboard is not installed, so the log is history.csv alone: pip install tensorboard."
    ) == 1


def test_tensorboard_holds_the_history(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(network(), fixed(), config(epochs=3, tensorboard=True), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("train_loss")]
    assert logged == pytest.approx([row["train_loss"] for row in result.history])


def test_a_function_of_the_caller_gets_the_rows_of_the_history(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []

    def note(row: dict[str, float]) -> None:
        rows.append(dict(row))
        row.clear()  # a copy: the history keeps its row

    train(network(), fixed(), config(epochs=2), tmp_path, on_epoch=note)
    result = train(network(), fixed(), config(epochs=4), tmp_path, on_epoch=note, resume=True)
    assert rows == list(result.history) and [row["epoch"] for row in rows] == [0, 1, 2, 3]


def test_an_error_in_that_function_is_logged_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(row: dict[str, float]) -> None:
        raise ConnectionError(f"no server {torch.rand(1) < 2}")

    plain = train(network(), fixed(), config(epochs=2), tmp_path / "plain")
    result = train(network(), fixed(), config(epochs=2), tmp_path / "failing", on_epoch=fail)
    assert result.history == plain.history and result.last_path.exists()
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [f"on_epoch failed after epoch {epoch}; training goes on." for epoch in (0, 1)]
    assert "ConnectionError: no server" in caplog.text


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("terminal, no_color", [(True, False), (True, True), (False, False)])
def test_progress_only_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: bool
) -> None:
    stream = _Stream(terminal)
    for name in NOTEBOOK:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    train(network(), fixed(), config(epochs=3), tmp_path)
    assert ("epoch 3/3" in stream.getvalue()) == terminal
    assert ("\x1b[38" in stream.getvalue()) == (terminal and not no_color)  # a colour


NOTEBOOK = {"JPY_PARENT_PID": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}


@pytest.mark.parametrize("name", NOTEBOOK)
def test_no_progress_bar_in_what_a_notebook_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stream = _Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv(name, NOTEBOOK[name])
    train(network(), fixed(), config(epochs=1), tmp_path)
    assert not stream.getvalue()


class _Clock:
    """time.monotonic of a machine on which every step of every epoch takes so many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now = 0.0
        step = runtime.train.run.Run.train_step

        def slow(run: Any, parts: Any) -> None:
            step(run, parts)
            self.now += seconds

        monkeypatch.setattr(runtime.train.run.Run, "train_step", slow)
        monkeypatch.setattr(runtime.train.run.time, "monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.001, ["epoch 1/9", "epoch 9/9"]),  # the first and the last epoch, at any time
        (4, ["epoch 1/9", "epoch 4/9", "epoch 7/9", "epoch 9/9"]),  # 12 s an epoch
        (12, [f"epoch {n}/9" for n in range(1, 10)]),  # 36 s an epoch: after the third step the epoch is done
        (20, [text for n in range(1, 10) for text in (f"epoch {n}/9, step 2/3", f"epoch {n}/9")]),
    ],
)
def test_the_log_has_a_line_per_epoch_but_not_many_a_minute(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    expected: list[str],
) -> None:
    _Clock(monkeypatch, seconds)
    with caplog.at_level(logging.INFO, "runtime.train"):
        train(network(), Blobs(11), config(epochs=9, batch_size=4), tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.removeprefix(f"{tmp_path}: ").split(", learning_rate")[0] for line in lines] == expected
    assert all("train_loss" in line or "step" in line for line in lines)


def test_the_log_says_where_a_resumed_run_takes_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for epochs, expected in (
        (2, []),
        (2, ["nothing left to train: 2 epochs are done, and 2 wanted"]),
        (1, ["nothing left to train: 2 epochs are done, and 1 wanted"]),
        (3, ["goes on after 2 epochs"]),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, "runtime.train"):
            train(network(), fixed(), config(epochs=epochs), tmp_path, resume=True)
        lines = [record.getMessage().removeprefix(f"{tmp_path}: ") for record in caplog.records]
        assert [line for line in lines if not line.startswith("epoch")] == expected


def test_a_library_user_hears_nothing_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(network(), fixed(), config(epochs=1), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_command_logs_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from train_case import run; from runtime.train import log_to_stderr\n"
        "log_to_stderr(); run(pathlib.Path(sys.argv[1]))"
    )
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent.parent}:{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    first, *_, last = done.stderr.splitlines()
    line = re.escape(str(tmp_path)) + r": epoch {}/4, learning_rate [\d.]+, train_loss [\d.]+, .*accuracy [\d.]+"
    assert re.fullmatch(r"\d\d:\d\d:\d\d " + line.format(1), first) and "epoch 4/4" in last
    assert not re.search(r"[\r\x1b]", done.stderr) and done.stdout == ""


def test_a_command_on_a_terminal_has_the_bar_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Stream(terminal=True))
    before = runtime.train.log.logger.level
    runtime.train.log.log_to_stderr()
    assert runtime.train.log.logger.level == before


def test_importing_the_loop_is_light() -> None:
    code = (
        "import sys, runtime.train\n"
        "heavy = {'lightning', 'lightning_fabric', 'torchmetrics', 'tensorboard', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- order of the samples ---------------------------------------------------------------------------------------------


class _Recording(Blobs):
    def __init__(self, samples: int) -> None:
        super().__init__(samples)
        self.drawn: list[tuple[int, float]] = []

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        volume, label = super().__getitem__(index)
        self.drawn.append((index, volume.sum().item()))
        return volume, label


def test_every_epoch_draws_each_sample_once_in_a_new_order_with_new_noise(tmp_path: Path) -> None:
    data = _Recording(11)
    train(network(), data, config(epochs=3, batch_size=4), tmp_path)
    drawn = data.drawn[1:]  # the first is the check of the data set
    epochs = [drawn[at : at + 11] for at in (0, 11, 22)]
    assert all(sorted(index for index, _ in epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 3
    assert len({value for _, value in drawn}) == 33
    again = _Recording(11)
    train(network(), again, config(epochs=3, batch_size=4), tmp_path / "again")
    assert again.drawn == data.drawn
    other = _Recording(11)
    train(network(), other, config(epochs=3, batch_size=4, seed=1), tmp_path / "other")
    assert other.drawn != data.drawn


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # python >= 3.12 on forking beside threads
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # where there is one core
def test_workers_change_nothing(tmp_path: Path) -> None:
    alone, helped = run(tmp_path / "0"), run(tmp_path / "2", workers=2)
    assert helped.history == alone.history


# -- stop and resume --------------------------------------------------------------------------------------------------


def interrupted_at(call: int, number: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the case with a signal sent to this process while the loss is computed for the n-th time."""
    original, calls = F.cross_entropy, iter(range(1000))

    def loss(output: Tensor, label: Tensor) -> Tensor:
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return original(output, label)

    import train_case

    def train_with_signal(*arguments: Any, **options: Any) -> TrainResult:
        return train(*arguments, **options, loss=loss)

    with monkeypatch.context() as patch:
        patch.setattr(train_case, "train", train_with_signal)
        with pytest.raises(Interrupted) as stopped:
            run(directory, checkpoint_seconds=1e9, norm="batch")
    assert stopped.value.code == 128 + number


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, dict[str, Tensor]]:
    directory = tmp_path_factory.mktemp("uninterrupted")
    torch.set_num_threads(1)
    return run(directory, norm="batch"), torch.load(directory / "final.pt")


# an epoch calls the loss five times: three steps, two batches of validation
@pytest.mark.parametrize("call, number", [(0, signal.SIGTERM), (6, signal.SIGINT), (7, signal.SIGTERM)])
@pytest.mark.parametrize("twice", [False, True])
def test_a_stopped_run_resumes_to_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    uninterrupted: tuple[TrainResult, dict[str, Tensor]],
    call: int,
    number: int,
    twice: bool,
) -> None:
    interrupted_at(call, number, tmp_path, monkeypatch)
    message = capfd.readouterr().err
    assert signal.Signals(number).name in message and "resume=True" in message and "step-" in message
    if twice:
        run(tmp_path, norm="batch", resume=True, epochs=2)  # a second, orderly stop
    result = run(tmp_path, norm="batch", resume=True)
    assert result.history == uninterrupted[0].history
    assert_same(torch.load(tmp_path / "final.pt"), uninterrupted[1])
    assert_same(load(tmp_path / BEST)["model"], load(uninterrupted[0].best_path)["model"])
    with result.log_path.open() as file:
        assert [float(row["train_loss"]) for row in csv.DictReader(file)] == [r["train_loss"] for r in result.history]


def test_a_stop_during_validation_keeps_the_steps_and_repeats_the_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: tuple[TrainResult, dict[str, Tensor]]
) -> None:
    interrupted_at(8, signal.SIGTERM, tmp_path, monkeypatch)  # the first batch of the second validation
    saved = load(checkpoints(tmp_path)[-1])
    assert (saved["epoch"], saved["step"], len(saved["history"])) == (1, 3, 1)
    assert run(tmp_path, norm="batch", resume=True).history == uninterrupted[0].history
    assert_same(torch.load(tmp_path / "final.pt"), uninterrupted[1])


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("forget", ["optimizer", "average", "step", "totals"])
def test_a_resume_that_forgets_something_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: tuple[TrainResult, dict[str, Tensor]],
    forget: str,
) -> None:
    """Negative control of the tests above: each part of the checkpoint matters to what they compare."""
    interrupted_at(6, signal.SIGTERM, tmp_path, monkeypatch)
    path = checkpoints(tmp_path)[-1]
    content = load(path)
    match forget:
        case "optimizer":
            content["optimizer"]["state"][0]["exp_avg"].zero_()
        case "average":
            content["average"] = content["model"]
        case "step":
            content["step"] -= 1
        case "totals":
            content["totals"].zero_()
    save(path, content)
    if forget == "step":
        with pytest.raises(
            TrainingError, match=r"optimizer\['state'\]\[0\]\['step'\] = 5.0 is not a number of steps up to 4"
        ):
            run(tmp_path, norm="batch", resume=True)
    else:
        assert run(tmp_path, norm="batch", resume=True).history != uninterrupted[0].history


def test_a_second_ctrl_c_acts_at_once_unless_it_is_the_echo_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    now = [0.0]
    monkeypatch.setattr("runtime.train.run.time.monotonic", lambda: now[0])

    def loss_with(*numbers: int, after: float) -> Callable[[Tensor, Tensor], Tensor]:
        def loss(output: Tensor, label: Tensor) -> Tensor:
            for number in numbers:
                os.kill(os.getpid(), number)
                now[0] += after
            return F.cross_entropy(output, label)

        return loss

    echo = loss_with(signal.SIGINT, signal.SIGINT, signal.SIGTERM, after=0.1)
    with pytest.raises(Interrupted) as stopped:
        train(network(), fixed(), config(), tmp_path / "echo", loss=echo)
    assert stopped.value.code == 130 and len(checkpoints(tmp_path / "echo")) == 1
    again = loss_with(signal.SIGTERM, signal.SIGTERM, signal.SIGINT, after=2)
    with pytest.raises(KeyboardInterrupt):
        train(network(), fixed(), config(), tmp_path / "again", loss=again)
    assert not checkpoints(tmp_path / "again")
    assert signal.getsignal(signal.SIGINT) is before


def test_training_outside_the_main_thread_leaves_signals_alone(tmp_path: Path) -> None:
    results: list[TrainResult] = []
    thread = threading.Thread(target=lambda: results.append(train(network(), fixed(), config(), tmp_path)))
    thread.start()
    thread.join()
    assert len(results) == 1


def test_a_finished_run_can_be_prolonged(tmp_path: Path, uninterrupted: tuple[TrainResult, Any]) -> None:
    run(tmp_path, norm="batch", epochs=2)
    assert run(tmp_path, norm="batch", epochs=4, resume=True).history == uninterrupted[0].history


def test_checkpoints_are_rotated_and_plain(tmp_path: Path) -> None:
    result = run(tmp_path, keep=3)
    assert [path.name for path in checkpoints(tmp_path)] == [f"step-{step:09d}.pt" for step in (10, 11, 12)]
    assert not list(tmp_path.glob("*.tmp")) and result.best_path.exists()
    content = torch.load(result.last_path, weights_only=True)
    assert content["history"] == list(result.history) and content["config"]["learning_rate"] == 0.02


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_start_does_not_overwrite_an_earlier_run(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(TrainingError, match=r"holds an earlier run .* resume=True"):
        run(tmp_path)
    assert contents(tmp_path) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())} if directory.exists() else {}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"learning_rate": 0.5}, r"belongs to another run: learning_rate was 0\.02, is 0\.5"),
        ({"seed": 3, "batch_size": 5}, "batch_size was 4, is 5; seed was 0, is 3"),
        ({"monitor": "accuracy"}, "monitor was 'validation_loss', is 'accuracy'"),
        ({"norm": "batch"}, r"made by another model: it lacks 1\.bias, 1\.num_batches_tracked.* and 2 more"),
    ],
)
def test_resuming_another_run_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    run(tmp_path, epochs=1)
    before = contents(tmp_path)
    with pytest.raises(TrainingError, match=message):
        run(tmp_path, resume=True, **changes)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_checkpoint_stops_the_resume_and_names_the_one_before(tmp_path: Path, damage: str) -> None:
    run(tmp_path, epochs=2)
    older, newest = checkpoints(tmp_path)
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        newest.write_bytes(content[: len(content) // 2])
    else:  # one bit of a weight
        weight = load(newest)["model"]["4.weight"].numpy().tobytes()
        content[content.index(weight) + 5] ^= 1
        newest.write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(TrainingError, match=f"{newest.name} is damaged.*Delete it to go on from {older.name}"):
        run(tmp_path, resume=True)
    assert contents(tmp_path) == before
    newest.unlink()
    assert len(run(tmp_path, resume=True).history) == 4


class _Malformed(Fixed):
    def __init__(self, sample: Any, at: int = 0) -> None:
        good = fixed()
        super().__init__(good.volumes, good.labels)
        self._sample, self._at = sample, at

    def __getitem__(self, index: int) -> Any:
        return self._sample if index == self._at else super().__getitem__(index)


VOLUME = torch.zeros(1, 8, 8, 8)


@pytest.mark.parametrize(
    "data, message",
    [
        (Fixed(torch.zeros(0, 1, 8, 8, 8), []), r"the training set is empty: len\(Fixed\) = 0. Check the path"),
        (_Malformed(torch.zeros(1, 8, 8, 8)), r"sample 0 is a Tensor, not a pair. Return \(volume, label\)"),
        (_Malformed((VOLUME.int(), 1), at=3), "sample 3 is torch.int32 .* not floating point"),
        (
            _Malformed((torch.zeros(1, 7, 8, 8), 1), at=3),
            r"the volumes of samples .* have shapes .*Bring them to one shape",
        ),
        (_Malformed((VOLUME, "cat"), at=3), "the label of sample 3 is a str, not numbers"),
        (_Malformed((VOLUME, [1, 2]), at=3), "the labels of samples"),
        (
            _Malformed((VOLUME, 7), at=3),
            r"the loss rejects outputs \(6, 3\) with labels \(6,\).*Target 7 is out of bounds",
        ),
        (
            _Malformed((VOLUME * float("nan"), 1), at=4),
            r"the volume of sample 4 is nan at \(0, 0, 0, 0\)\. .* Correct the data, or leave the sample out\.$",
        ),
        (
            Fixed(torch.zeros(6, 1, 8, 8, 8), [0.0] * 6),
            r"Classes are int64 numbers, and these are torch.float32: return label.long\(\)",
        ),
        (DataLoader(Blobs(6), batch_size=2), "the training set is a DataLoader.* give it the data set, loader.dataset"),
    ],
)
def test_bad_data_are_one_clear_error_and_nothing_is_written(tmp_path: Path, data: Fixed, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(network(), data, config(epochs=2), tmp_path / "run")
    assert contents(tmp_path / "run") == {}


@pytest.mark.parametrize(
    "shape, message",
    [
        (
            (6, 2, 8, 8, 8),
            r"(?s)2 channels.*raised by the model, given volumes \(6, 2, 8, 8, 8\) \(samples \d, .*\.\.\.\)",
        ),
        ((6, 1, 2, 2, 2), r"(?s)[Kk]ernel size.*raised by the model, given volumes \(6, 1, 2, 2, 2\)"),
        (
            (6, 8, 8, 8),
            r"(?s)given inputs \(6, 8, 8, 8\).*a single channel, each needs that axis too: volume\[None\]",
        ),
    ],
)
def test_an_error_inside_the_model_keeps_its_type_and_names_the_samples(
    tmp_path: Path, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message) as raised:
        train(network(), Fixed(torch.zeros(shape), [0] * 6), config(epochs=2), tmp_path / "run")
    assert raised.traceback[-1].path.name == "conv.py", "the traceback ends in the layer"
    assert contents(tmp_path / "run") == {}


def test_bad_validation_data_are_found_too(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the validation set is empty"):
        train(network(), fixed(), config(), tmp_path, validation=Fixed(torch.zeros(0, 1, 8, 8, 8), []))
    bad = _Malformed((VOLUME / 0, 1), at=4)
    with pytest.raises(TrainingError, match=r"the validation loss is not finite .* volume of sample 4 is nan"):
        train(network(), fixed(), config(), tmp_path, validation=bad)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"device": "cuda:99"}, 'device = "cuda:99" is not there: .*Write device = "auto"'),
        ({"device": "gpu"}, 'device = "gpu" is not there'),
    ],
)
def test_a_missing_device_is_one_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train(network(), fixed(), config(**changes), tmp_path)


def test_a_loss_that_is_not_one_number_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss has shape \(6,\), not \(\)"):
        train(network(), fixed(), config(), tmp_path, loss=nn.CrossEntropyLoss(reduction="none"))


# -- not a number -----------------------------------------------------------------------------------------------------


class _Function(nn.Module):
    """A layer that is some function of its input, in forward or in backward not finite."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, volume: Tensor) -> Tensor:
        return self.function(volume)


class _Block(nn.Module):
    """A container that computes after its child."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 4, 1)

    def forward(self, volume: Tensor) -> Tensor:
        return self.conv(volume).mul(0).log()  # -inf


@pytest.mark.parametrize("check_every", [1, 100])
@pytest.mark.parametrize(
    "layer, message",
    [
        (_Function(lambda v: v / 0), r"first layer whose output is not finite is '1' \(_Function\)"),
        (_Block(), r"first layer whose output is not finite is '1' \(_Block\)"),
        # sqrt(0) is finite, its slope is not
        (_Function(lambda v: (v * 0).sqrt()), r"backward through layer '1' \(_Function\) is the first"),
    ],
)
def test_the_first_bad_layer_is_named(tmp_path: Path, layer: nn.Module, message: str, check_every: int) -> None:
    with pytest.raises(TrainingError, match=f"{message}.*Nothing was written; there is no checkpoint"):
        train(network(layer), fixed(), config(epochs=2, check_every=check_every), tmp_path)
    assert contents(tmp_path) == {}


def test_a_bad_loss_is_told_from_a_bad_layer(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="every layer's output is finite, but the loss is not"):
        train(network(), fixed(), config(), tmp_path, loss=lambda o, _: o.sum() / 0)
    with pytest.raises(TrainingError, match="the gradient of the loss is the first that is not finite"):
        train(network(), fixed(), config(), tmp_path, loss=lambda o, _: (o * 0).sqrt().sum())


def test_divergence_stops_before_the_weights_are_spoilt_and_keeps_the_checkpoints(tmp_path: Path) -> None:
    model = network(dropout=0)
    steps = iter(range(100))

    def loss(output: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(output, label) * (1 if next(steps) < 3 else float("inf"))

    with pytest.raises(TrainingError, match=r"at epoch 3, step 0.*step-000000003\.pt is the newest"):
        train(model, fixed(), config(epochs=9, checkpoint_seconds=0), tmp_path, loss=loss)
    assert torch.isfinite(weights(model)).all()
    resumed = network(dropout=0)
    assert len(train(resumed, fixed(), config(epochs=9), tmp_path, resume=True).history) == 9


def test_a_late_look_still_names_the_layer_and_that_its_weights_are_spoilt(tmp_path: Path) -> None:
    def loss(output: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(output, label) * float("nan")

    with pytest.raises(TrainingError, match=r"is '0' \(Conv3d\); its parameter 'weight' is not finite already"):
        train(network(), fixed(), config(epochs=1, batch_size=2, check_every=3), tmp_path, loss=loss)


def test_config_of_the_case_is_not_the_default() -> None:
    """The resume tests must exercise averages, penalties and a moving learning rate."""
    plain = TrainConfig(epochs=1, batch_size=1, learning_rate=1.0)
    assert all(CONFIG[name] != getattr(plain, name) for name in ("ema_decay", "conv_l2", "decay", "clip_norm"))
