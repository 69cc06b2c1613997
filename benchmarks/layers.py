"""Each runtime layer, forward and backward, against the nearest torch layer; the training loop against one by hand.

    python benchmarks/layers.py [--threads 1 2] [--rounds 15] [--size 24] [--out DIR]

Layers: the volume is that of a hidden layer, (2, 256, size, size, size) as 16x0 + 16x1 + 16x2 + 16x3. The loop: what
`runtime.train` adds to a step of forward, backward and Adam on a small network and data in memory, (4, 1, 12, 12, 12).
The two contestants take turns, and the fastest round of each counts; on a machine that does nothing else. Prints
milliseconds and ratios as a table, and writes layers.json, to benchmarks/results unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).parent.parent))

import runtime as rt
from runtime.train import TrainConfig, train
from runtime.volumes.resampling import gaussian_taps

FIELDS = rt.as_field_type("16x0 + 16x1 + 16x2 + 16x3")
CHANNELS = 256
GOALS = {"BatchNorm": 1.5, "Gate": 1.2}  # ratios
RESULTS = Path(__file__).parent / "results"


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
        blur = rt.LowPass(FIELDS, 2)
        taps = gaussian_taps(blur.kernel_size[0], blur.sigma[0]).float()
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
    "AveragePool": (lambda: rt.AveragePool(FIELDS, 3, 2, padding=1), "nn.AvgPool3d", lambda: nn.AvgPool3d(3, 2, 1)),
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


def compare(ours: nn.Module, theirs: nn.Module, channels: int, size: int, rounds: int) -> tuple[float, float]:
    """Milliseconds of the fastest round of each on a volume of size^3, taking turns."""
    x = torch.randn(2, channels, size, size, size, requires_grad=True)
    grad = torch.randn_like(ours(x))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 3):
        for layer, measured in zip((ours, theirs), times, strict=True):
            measured.append(1e3 * step(layer, x, grad))
    return min(times[0][3:]), min(times[1][3:])


LOOP = TrainConfig(
    epochs=4, batch_size=4, learning_rate=0.01, device="cpu", tensorboard=False, progress=False, checkpoint_seconds=1e9
)
LOOP_SAMPLES = 200


def loop_network() -> nn.Module:
    """Two convolutions, a mean, a linear map: steps of a few milliseconds, so that the loop's own time shows."""
    torch.manual_seed(0)
    convolutions = nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 8, 3, padding=1), nn.ReLU()
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 4))


def by_hand(model: nn.Module, data: TensorDataset) -> None:
    """The loop as one writes it."""
    volumes, labels = data.tensors
    optimizer = torch.optim.Adam(model.parameters(), LOOP.learning_rate)
    for _ in range(LOOP.epochs):
        for rows in torch.randperm(len(data)).split(LOOP.batch_size):
            loss = F.cross_entropy(model(volumes[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss.item()


def compare_loops(rounds: int) -> tuple[float, float]:
    """Milliseconds per step of `runtime.train` and of the loop by hand: the fastest run of each, taking turns."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(LOOP_SAMPLES, 1, 12, 12, 12), torch.randint(4, (LOOP_SAMPLES,)))
    steps = LOOP.epochs * LOOP_SAMPLES // LOOP.batch_size
    times: dict[str, list[float]] = {"train": [], "by hand": []}
    for _ in range(max(3, rounds // 3)):
        with tempfile.TemporaryDirectory() as directory:
            start = time.perf_counter()
            train(loop_network(), data, LOOP, directory)
            times["train"].append(time.perf_counter() - start)
        start = time.perf_counter()
        by_hand(loop_network(), data)
        times["by hand"].append(time.perf_counter() - start)
    return 1e3 * min(times["train"]) / steps, 1e3 * min(times["by hand"]) / steps


def measurements(threads: int, size: int, rounds: int) -> list[dict[str, Any]]:
    """Every layer, then the loop, at a number of threads."""
    torch.set_num_threads(threads)
    compared = {
        name: (other, *compare(make(), make_other(), 304 if name == "Gate" else CHANNELS, size, rounds))
        for name, (make, other, make_other) in PAIRS.items()
    }
    compared["training step"] = ("loop by hand", *compare_loops(rounds))
    return [
        {"layer": name, "torch": other, "threads": threads, "ms": round(ours, 3), "torch_ms": round(theirs, 3)}
        | {"ratio": round(ours / theirs, 3), "goal": GOALS.get(name)}
        for name, (other, ours, theirs) in compared.items()
    ]


def table(results: list[dict[str, Any]]) -> str:
    """The results as text, one line each."""
    head = f"{'threads':>7}  {'layer':15} {'ms':>8}  {'torch':17} {'ms':>8} {'ratio':>6}  goal"
    return "\n".join(
        [
            head,
            *(
                f"{row['threads']:7}  {row['layer']:15} {row['ms']:8.2f}  {row['torch']:17} {row['torch_ms']:8.2f} "
                f"{row['ratio']:6.2f}  {row['goal'] or ''}"
                for row in results
            ),
        ]
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--size", type=int, default=24, help="voxels of the volume along each axis")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    results = [row for threads in options.threads for row in measurements(threads, options.size, options.rounds)]
    print(table(results))
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"torch": torch.__version__, "shape": [2, CHANNELS, *[options.size] * 3], "results": results}
    (options.out / "layers.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
