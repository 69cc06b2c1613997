"""Forward and backward of each runtime layer against the nearest torch layer, on CPU.

    python benchmarks/layers.py [--threads 1 2] [--rounds 15]

Prints milliseconds and ratios, and writes benchmarks/results/layers.json. The volume is that of a hidden layer,
(2, 256, 24, 24, 24) as 16x0 + 16x1 + 16x2 + 16x3; the two contestants take turns, and the fastest round of each counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import runtime as rt

FIELDS = rt.as_field_type("16x0 + 16x1 + 16x2 + 16x3")
CHANNELS, SPACE = 256, (24, 24, 24)
RESULTS = Path(__file__).parent / "results" / "layers.json"


class GateByHand(nn.Module):
    """The gate as one writes it for these fields: split, sigmoid, multiply, join."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 256 + 48, x, y, z) -> (batch, 256, x, y, z)."""
        scalars, vectors, tensors, octupoles, gates = x.split([16, 48, 80, 112, 48], 1)
        first, second, third = torch.sigmoid(gates).unsqueeze(2).split(16, 1)
        parts = [
            (vectors.unflatten(1, (16, 3)) * first).flatten(1, 2),
            (tensors.unflatten(1, (16, 5)) * second).flatten(1, 2),
            (octupoles.unflatten(1, (16, 7)) * third).flatten(1, 2),
        ]
        return torch.cat([scalars.relu(), *parts], 1)


class DepthwiseBlur(nn.Module):
    """The low-pass filter as three depthwise convolutions with stride."""

    def __init__(self) -> None:
        super().__init__()
        taps = rt.LowPass(FIELDS, 2).taps
        self.kernels = [taps.view(shape).expand(CHANNELS, 1, *shape[2:]).contiguous() for shape in _axes(len(taps))]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> half the sizes."""
        for axis, kernel in enumerate(self.kernels):
            stride, padding = [1, 1, 1], [0, 0, 0]
            stride[axis], padding[axis] = 2, kernel.shape[2 + axis] // 2
            x = F.conv3d(x, kernel, None, stride, padding, groups=CHANNELS)
        return x


def _axes(taps: int) -> list[tuple[int, ...]]:
    return [(1, 1, taps, 1, 1), (1, 1, 1, taps, 1), (1, 1, 1, 1, taps)]


class GlobalMean(nn.Module):
    """torch's own mean."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel)."""
        return x.mean((2, 3, 4))


GATED = rt.gated_type(FIELDS)
PAIRS: dict[str, tuple[Callable[[], nn.Module], str, Callable[[], nn.Module]]] = {
    "BatchNorm": (lambda: rt.BatchNorm(FIELDS), "nn.BatchNorm3d", lambda: nn.BatchNorm3d(CHANNELS)),
    "Gate": (lambda: rt.Gate(GATED), "gate by hand", GateByHand),
    "NormActivation": (lambda: rt.NormActivation(FIELDS), "nn.ReLU", nn.ReLU),
    "GroupNorm": (lambda: rt.GroupNorm(FIELDS), "nn.GroupNorm", lambda: nn.GroupNorm(4, CHANNELS)),
    "FieldDropout": (lambda: rt.FieldDropout(FIELDS, 0.1), "nn.Dropout3d", lambda: nn.Dropout3d(0.1)),
    "LowPass": (lambda: rt.LowPass(FIELDS, 2), "depthwise conv3d", DepthwiseBlur),
    "AveragePool": (lambda: rt.AveragePool(FIELDS, 3, 2), "nn.AvgPool3d", lambda: nn.AvgPool3d(3, 2, 1)),
    "NormMaxPool": (lambda: rt.NormMaxPool(FIELDS, 2), "nn.MaxPool3d", lambda: nn.MaxPool3d(2)),
    "Upsample": (lambda: rt.Upsample(FIELDS), "nn.Upsample", lambda: nn.Upsample(scale_factor=2, mode="trilinear")),
    "GlobalMean": (lambda: rt.GlobalMean(FIELDS), "mean", GlobalMean),
    "Linear": (lambda: rt.Linear(FIELDS, FIELDS), "nn.Conv3d 1x1x1", lambda: nn.Conv3d(CHANNELS, CHANNELS, 1)),
}


def step(layer: nn.Module, x: Tensor, grad: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    x.grad = None
    start = time.perf_counter()
    layer(x).backward(grad)
    return time.perf_counter() - start


def compare(ours: nn.Module, theirs: nn.Module, channels: int, rounds: int) -> tuple[float, float]:
    """Milliseconds of the fastest round of each, taking turns."""
    x = torch.randn(2, channels, *SPACE, requires_grad=True)
    grad = torch.randn_like(ours(x))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 3):
        for layer, measured in zip((ours, theirs), times, strict=True):
            measured.append(1e3 * step(layer, x, grad))
    return min(times[0][3:]), min(times[1][3:])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    results = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, (make, other, make_other) in PAIRS.items():
            channels = 304 if name == "Gate" else CHANNELS
            ours, theirs = compare(make(), make_other(), channels, options.rounds)
            results.append(
                {"layer": name, "torch": other, "threads": threads, "ms": round(ours, 2), "torch_ms": round(theirs, 2)}
            )
            print(
                f"{threads} threads  {name:15} {ours:8.2f} ms  {other:17} {theirs:8.2f} ms  ratio {ours / theirs:5.2f}"
            )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"torch": torch.__version__, "shape": [2, CHANNELS, *SPACE], "results": results}, indent=1)
    )


if __name__ == "__main__":
    main()
