"""Measures of a trained classifier: accuracy, class-balanced accuracy, and whether rotations change its answers."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.common.progress import counted

TEST_SEED = 20180706  # of the rotations and samples of a test: the same for every case


@torch.no_grad()
def outputs(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The model's outputs (sample, ...), on the CPU, for batches of volumes (batch, channel, x, y, z)."""
    model.eval()
    device = next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    answers = []
    for batch in batches:
        answers.append(model(batch.to(device)).float().cpu())  # (batch, ...)
        counted(len(batch))
    return torch.cat(answers)  # (sample, ...)


def classes(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The model's answers (sample)."""
    return outputs(model, batches).argmax(dim=1)


def accuracy(answers: Tensor, labels: Tensor) -> float:
    """Share of right answers."""
    return (answers == labels).double().mean().item()


def balanced_accuracy(answers: Tensor, labels: Tensor) -> float:
    """Mean over the classes among the labels of the share of right answers within the class."""
    right = (answers == labels).double()
    return torch.stack([right[labels == label].mean() for label in labels.unique()]).mean().item()


def agreement(model: nn.Module, turned: Callable[[Tensor], Iterable[Tensor]], rotations: Tensor) -> float:
    """Share of the answers for rotated samples that equal those for the samples as they are.

    turned: rotation (3, 3) -> the samples in that orientation, in batches of volumes. rotations: (rotation, 3, 3).
    """
    straight = classes(model, turned(torch.eye(3, dtype=rotations.dtype)))
    same = [(classes(model, turned(rotation)) == straight).double().mean() for rotation in rotations]
    return torch.stack(same).mean().item()


def parameter_count(model: nn.Module) -> int:
    """Learned numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def device_name() -> str:
    """What computes: the accelerator, or the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
