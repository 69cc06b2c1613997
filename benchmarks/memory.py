"""Memory of one training step of the CATH network on one volume, against a plain CNN of equal channels, on CPU.

    python benchmarks/memory.py [--size 50] [--out DIR]

Both are the residual network for CATH of the 3D Steerable CNN paper (Weiler et al. 2018, arXiv:1807.02547): a stem of 7
taps, stages of 3, 4, 6 and 3 blocks with 32, 64, 128 and 256 channels, kernel 3, halved by average pooling at stages 2
to 4, one (1, 1, 50, 50, 50) volume unless told otherwise, float32, one thread.

    steerable   gated blocks over degrees 0..3 (`benchmarks/cath.toml`), runtime.BatchNorm, Gate
    plain       nn.Conv3d, nn.BatchNorm3d, ReLU in the same order

What is counted, over the forward and the backward pass:

    tensors   the most bytes of tensors alive at once, weights and volume included; a count, equal in every run
    weights   those of them that were there before: parameters and buffers. The plain network's kernels are among them;
              the steerable one makes its kernels in every step, and its weights are 100 times fewer
    rss       the growth of the process's peak resident memory from before the network was built to after the first
              step, the workspaces of convolutions included; varies by some percent

Each network runs in a separate process. Prints both and their ratios, and writes memory.json, to benchmarks/results
unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

import runtime as rt  # noqa: E402
from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package  # noqa: E402
from basisgen.spec import parse_package  # noqa: E402

SPEC = REPOSITORY / "benchmarks" / "cath.toml"
RESULTS = REPOSITORY / "benchmarks" / "results"
GOAL = 1.2
STAGES = ((32, 3), (64, 4), (128, 6), (256, 3))  # channels, blocks


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensor storages made inside it that are alive, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function: Callable[..., Any], _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation and looks at what it made."""
        output = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(output):
            if tensor.untyped_storage()._cdata not in given:
                self._note(tensor.untyped_storage())
        return output

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._alive:
            self._alive.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, storage: int, size: int) -> None:
        self._alive.discard(storage)
        self.now -= size


def _tensors(values: object) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, values)
    return found


def steerable() -> nn.Module:
    """The paper's steerable network, from generated convolutions and runtime blocks."""
    spec = parse_package(SPEC.read_text("utf-8"))
    with imported(compile_package(spec), spec.name) as package:
        return _network(package)


def _network(package: ModuleType) -> nn.Module:
    pool = partial(rt.AveragePool, kernel_size=3, stride=2, padding=1)

    def block(first: str, second: str, downsample: Callable[..., Any] | None = None) -> nn.Module:
        convolutions = getattr(package, first)(), getattr(package, second)()
        return rt.ResidualBlock(*convolutions, norm=rt.BatchNorm, downsample=downsample)

    layers = [rt.GatedBlock(package.Stem()), *(block("C22", "C22") for _ in range(3))]
    layers += [block("C24", "C44", pool), *(block("C44", "C44") for _ in range(3))]
    layers += [block("C48", "C88", pool), *(block("C88", "C88") for _ in range(5))]
    layers += [block("C816", "C1616", pool), block("C1616", "C1616"), block("C1616", "Last")]
    return nn.Sequential(*layers, rt.GlobalMean("256x0"), nn.Linear(256, 10))


class PlainBlock(nn.Module):
    """relu(conv(norm(relu(pool(conv(norm(x)))))) + shortcut(pool(x)))."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            *(nn.BatchNorm3d(into), nn.Conv3d(into, out, 3, padding=1), _pool(stride), nn.ReLU()),
            *(nn.BatchNorm3d(out), nn.Conv3d(out, out, 3, padding=1)),
        )
        shortcut = nn.Conv3d(into, out, 1, bias=False) if into != out else nn.Identity()
        self.kept = nn.Sequential(_pool(stride), shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel out, x', y', z')."""
        return torch.relu(self.change(x) + self.kept(x))


def _pool(stride: int) -> nn.Module:
    return nn.AvgPool3d(3, 2, 1) if stride > 1 else nn.Identity()


def plain() -> nn.Module:
    """The same network of torch's own layers."""
    channels, layers = 32, [nn.Conv3d(1, 32, 7, padding=3), nn.ReLU()]
    for stage, (width, blocks) in enumerate(STAGES):
        for index in range(blocks):
            layers.append(PlainBlock(channels, width, 2 if stage and not index else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(256, 10))


NETWORKS = {"steerable": steerable, "plain": plain}


def measure(name: str, size: int) -> dict[str, float]:
    """One network in this process, on a volume of size^3: the number of its parameters, and MiB of each kind."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    build = NETWORKS[name]
    before = _status("VmRSS")
    model, volume = build(), torch.randn(1, 1, size, size, size)

    def step() -> None:
        model(volume).logsumexp(1).sum().backward()
        model.zero_grad()

    step()
    rss = _status("VmHWM") - before
    with LiveTensors() as live:
        step()
    own = sum(tensor.nbytes for tensor in (volume, *model.parameters(), *model.buffers()))
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tensors": round((live.most + own) / 2**20, 1),
        "weights": round(own / 2**20, 1),
        "rss": round(rss / 2**10),
    }


def _status(key: str) -> int:
    """A line of /proc/self/status, KiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def _measured_apart(name: str, size: int) -> dict[str, float]:
    """`measure` in a separate process."""
    command = [sys.executable, __file__, "--network", name, "--size", str(size)]
    measured: dict[str, float] = json.loads(subprocess.run(command, stdout=-1, check=True).stdout)
    return measured


def main() -> None:
    """Measures each network in a fresh process, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--network", choices=NETWORKS, help="Only this one, in this process; prints JSON.")
    parser.add_argument("--size", type=int, default=50, help="Voxels of the volume along each axis.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Directory of the results.")
    options = parser.parse_args()
    if options.network:
        print(json.dumps(measure(options.network, options.size)))
        return
    of = {name: _measured_apart(name, options.size) for name in NETWORKS}
    ratios = {count: round(of["steerable"][count] / of["plain"][count], 3) for count in ("tensors", "rss")}
    for name, measured in of.items():
        print(
            f"{name:10} {measured['parameters']:12,} parameters {measured['tensors']:8} MiB of tensors "
            f"({measured['weights']} of weights) {measured['rss']:6} MiB rss"
        )
    print(f"ratio {ratios['tensors']} of tensors, {ratios['rss']} of rss; goal {GOAL}")
    facts = {"torch": torch.__version__, "size": options.size, "goal": GOAL, "MiB": of, "ratio": ratios}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "memory.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
