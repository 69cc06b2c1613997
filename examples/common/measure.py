"""Measures of a trained classifier: accuracy, class-balanced accuracy, and whether rotations change its answers."""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable, Iterable, Sequence
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


@torch.no_grad()
def kernels(network: nn.Module) -> list[float]:
    """What tells the filters of a network's steerable convolutions from others: two numbers for each.

    With weight i = cos(i), the kernel's norm and its product with such a kernel over the square root of its size. They
    depend on the code that made the filters and assembles them, and on nothing that is learned.
    """
    numbers = []
    for layer in network.modules():
        if hasattr(layer, "filter_tensor"):
            layer = copy.deepcopy(layer).double()
            layer.weight.copy_(torch.arange(layer.weight.numel(), dtype=torch.float64).cos().view_as(layer.weight))
            kernel = layer.kernel().flatten()
            pattern = torch.arange(kernel.numel(), dtype=torch.float64).cos()
            numbers += [kernel.norm().item(), (kernel @ pattern).item() / math.sqrt(kernel.numel())]
    return [float(f"{number:.9g}") for number in numbers]


def same_kernels(before: Sequence[float] | None, now: Sequence[float]) -> bool:
    """Whether `kernels` are equal, up to the rounding of another machine."""
    if before is None or len(before) != len(now):
        return not now and not before
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6) for a, b in zip(before, now, strict=True))


def parameter_count(model: nn.Module) -> int:
    """Learned numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


def device_name() -> str:
    """The device that computes: the accelerator, or the processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return processor_name()


def processor_name() -> str:
    """The name of the processor, where the system tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
