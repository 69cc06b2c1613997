"""A tiny training run, used by the tests in their own process and, as a script, in killed and in parallel ones.

The data draw from all three global generators, the network from torch's: anything a resume forgets will show.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from runtime.normalization import BatchNorm
from runtime.train import TrainConfig, TrainResult, classification_metrics, train

CLASSES = 3
CONFIG: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 4,
    "learning_rate": 0.02,
    "decay": 0.9,
    "ema_decay": 0.8,
    "conv_l1": 1e-4,
    "conv_l2": 1e-3,
    "clip_norm": 2.0,
    "checkpoint_seconds": 0,
    "device": "cpu",
    "tensorboard": False,
}


class Blobs(Dataset[tuple[Tensor, int]]):
    """Volumes (1, 8, 8, 8) of noise around a level that is the label; a new draw of the noise every time."""

    def __init__(self, samples: int, noise: float = 0.3, bad: int | None = None) -> None:
        self.samples, self.noise, self.bad = samples, noise, bad

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % CLASSES
        noise = torch.randn(1, 8, 8, 8) + np.random.rand() + random.random()
        return label + self.noise * noise + (float("nan") if index == self.bad else 0), label


def network(norm: nn.Module | None = None, dropout: float = 0.2) -> nn.Sequential:
    """A small network, the same at every call.

    No bias before a norm: its gradient is rounding error alone, which Adam would blow up to full steps.
    """
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1, bias=norm is None),
        norm or nn.Identity(),
        nn.ReLU(),
        nn.Dropout3d(dropout),
        nn.Conv3d(4, 4, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    )


def run(
    directory: Path,
    *,
    resume: bool = False,
    norm: str = "",
    dropout: float = 0.2,
    bad: int | None = None,
    **changes: Any,
) -> TrainResult:
    """Train on 11 samples, three steps an epoch, and leave the last weights in <directory>/final.pt."""

    def report(row: dict[str, float]) -> None:
        with (directory / "reported.txt").open("a") as file:
            print(int(row["epoch"]), file=file)

    norms = {"": None, "batch": nn.BatchNorm3d(4), "sync": BatchNorm("4x0", sync=True)}
    model = network(norms[norm], dropout)
    result = train(
        model,
        Blobs(11, bad=bad),
        TrainConfig(**(CONFIG | changes)),
        directory,
        validation=Blobs(5),
        metrics=classification_metrics(CLASSES),
        on_epoch=report,
        resume=resume,
    )
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        torch.save(model.state_dict(), directory / "final.pt")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("changes", type=json.loads)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = run(arguments.directory, **arguments.changes)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], "the process group outlives the training"
    history = json.dumps(result.history)
    os.write(1, f"{history}\n".encode())  # at once: several processes share the pipe
