"""A training run whose data or loss misbehave in a worker, as a script: hostile_case.py DIRECTORY KIND WORKERS."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, get_worker_info

from runtime.train import TrainConfig, train

KIND = sys.argv[2]


class Hostile(Dataset[tuple[Tensor, int]]):
    """Twelve samples, of which the sixth misbehaves where a worker, or any process but the first, draws it."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        sample = torch.ones(3) * index
        if index == 5 and get_worker_info() is not None:
            match KIND:
                case "raises":
                    raise KeyError("no such path")
                case "malformed":
                    return "a text"  # type: ignore[return-value]
                case "exits":
                    os._exit(3)
                case "leaves":
                    sys.exit(3)
                case "is killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "crashes":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "hangs":
                    (Path(sys.argv[1]) / "hangs").touch()
                    time.sleep(10_000)
                case "is nan":
                    sample = sample * float("nan")
        return sample, index % 2


def loss(output: Tensor, label: Tensor) -> Tensor:
    if KIND == "loss raises":
        raise ZeroDivisionError("in the loss")
    return F.cross_entropy(output, label)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = TrainConfig(
        epochs=3,
        batch_size=4,
        learning_rate=0.1,
        workers=int(sys.argv[3]),
        checkpoint_seconds=1e9,
        tensorboard=False,
        device="cpu",
    )
    train(nn.Linear(3, 2), Hostile(), config, Path(sys.argv[1]) / "run", loss=loss, validation=Hostile())
