"""One case from first weights to outcome: calibrate, train, measure."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from examples.common.cases import Case, Outcome
from examples.common.measure import device_name, parameter_count
from examples.common.networks import Network
from examples.common.progress import counting
from runtime.train import TrainConfig, load_weights, train
from runtime.train.calibration import calibrate

CALIBRATION_SAMPLES = 32
GO_ON = "run the same command with --resume (`make demo` has it)"


class Stopwatch:
    """Seconds spent within, added up in a file over the runs of an interrupted case."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = float(path.read_text()) if path.exists() else 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start
        self.path.write_text(f"{self.seconds}\n")


def without_a_single_sample_left(data: Dataset[Any], batch_size: int) -> Dataset[Any]:
    """The data, less its last sample where that would be a batch by itself, which has no variance for a batch norm."""
    count = len(data)  # type: ignore[arg-type]
    return Subset(data, range(count - 1)) if count > 1 and count % batch_size == 1 else data


def train_and_measure(
    case: Case,
    network: Network,
    build: Callable[[], nn.Module],
    data: Dataset[Any],
    config: TrainConfig,
    directory: Path,
    measure: Callable[[nn.Module], tuple[dict[str, float], float]],
    loss: Callable[..., torch.Tensor] = nn.functional.cross_entropy,
    *,
    averaged: bool = False,
    **options: Any,
) -> Outcome:
    """Trains a network with the case's seed, from where an interrupted run stopped, and measures its last weights.

    measure: trained network -> scores and agreement. averaged: measure instead the averaged weights of the epoch that
    `config.monitor` finds best. options: further ones of `runtime.train.train`.
    """
    config = replace(
        config,
        seed=case.seed,
        learning_rate=network.learning_rate or config.learning_rate,
        epochs=config.epochs * network.longer,
        burn_in=config.burn_in * network.longer,
        decay=config.decay ** (1 / network.longer),
    )
    data = without_a_single_sample_left(data, config.batch_size)
    torch.manual_seed(case.seed)
    model = build()
    if network.calibrate:
        chosen = torch.linspace(0, len(data) - 1, CALIBRATION_SAMPLES).long().tolist()  # type: ignore[arg-type]
        calibrate(model.train(), torch.stack([data[index][0] for index in chosen]), length=network.calibrate)
    with Stopwatch(directory / "seconds.txt") as watch:
        result = train(model, data, config, directory / "training", loss=loss, resume=True, go_on=GO_ON, **options)
    if averaged:
        load_weights(result.best_path, model)
    with counting(f"{case.network}, {case.setting}, seed {case.seed}"):
        scores, agreement = measure(model.eval())
    return Outcome(
        case=case,
        parameters=parameter_count(model),
        train_samples=len(data),  # type: ignore[arg-type]
        epochs=len(result.history),
        train_loss=result.history[-1]["train_loss"],
        train_seconds=watch.seconds,
        scores=scores,
        agreement=agreement,
        device=device_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
