"""Convolutions against the plain torch.nn.Conv3d of the same shape: time of a forward pass, of a training step; memory.

    python benchmarks/speed.py [--layers NAME ..] [--kernel-sizes 3 5 ..] [--threads 1 2] [--device cuda] [--dtype ..]
                               [--out DIR]

    plain       torch.nn.Conv3d with the same channels, taps and padding: 1 by definition
    default     ours, as a spec without settings has it: filters of family `separable`, dense or by passes as it decides
    dense       the same filters: the kernel from its weights, then conv3d
    separable   the same filters: passes along x, y and z around one mixing of channels
    35 products the passes with levels = 4 at every kernel size
    escnn       R3Conv at its defaults, in training mode
    e3nn        the voxel convolution, lmax 4, 3 radial functions, with its self-connection

Contestants take turns, round by round, and medians count; a forward pass is without gradients, a step is forward and
backward with gradients of the input and of the weights. `assembly` is our weights to kernel, or to mixing matrices,
forward and backward, over the dense or separable step. Memory is the growth of a process's peak resident memory by
volume and step, each contestant in a process of its own (on an accelerator: torch's own count); `--memory` measures it
in place of the times. Every figure is kept with the machine's name in speed.json, in benchmarks/results unless told
otherwise; speed.md and speed.png are made from it. A peer that is not installed is left out, and said to be (`pip
install escnn e3nn`; escnn needs numpy < 2).
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package, plan  # noqa: E402
from basisgen.spec import PackageSpec, parse_package  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
GOALS = {  # of the step of layer `hidden`, over plain
    "default": {3: 0.65, 5: 0.3, 7: 0.15, 9: 0.08},
    "dense": {5: 1.03, 7: 1.03, 9: 1.03, 11: 1.03},
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """A convolution and the batch it is timed on."""

    into: str
    out: str
    size: int
    samples: int
    stride: int = 1
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9, 11)


LAYERS = {
    "hidden": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 24, 2),
    "hidden, stride 2": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 24, 2, 2),
    "wide": Layer("64x0 + 32x1 + 16x2 + 8x3", "64x0 + 32x1 + 16x2 + 8x3", 16, 2, 1, (5, 7, 9)),
    "tetris 1": Layer("1x0", "12x0 + 4x1 + 4x2", 36, 8, 1, (5, 7)),
    "tetris 2": Layer("4x0 + 4x1 + 4x2", "48x0 + 16x1 + 16x2", 40, 8, 2, (5,)),
    "tetris 3": Layer("16x0 + 16x1 + 16x2", "64x0 + 16x1 + 16x2", 22, 8, 2, (5,)),
    "tiny 8": Layer("8x0 + 4x1 + 2x2", "8x0 + 4x1 + 2x2", 8, 1, 1, (3, 5, 7)),
    "tiny 12": Layer("8x0 + 4x1 + 2x2", "8x0 + 4x1 + 2x2", 12, 1, 1, (3, 5, 7)),
    "small 8": Layer("32x0 + 16x1 + 8x2", "32x0 + 16x1 + 8x2", 8, 1, 1, (3, 5, 7)),
}
MAX_PEER = 7  # taps: escnn's basis takes minutes to sample beyond, and e3nn's ratio has settled


def spec_of(layer: Layer, size: int, *settings: str) -> PackageSpec:
    """A layer with the default filters, or with settings of its own."""
    lines = (f'in = "{layer.into}"', f'out = "{layer.out}"', f"kernel_size = {size}", *settings)
    return parse_package("\n".join(['name = "speed"', "[[conv]]", 'name = "Conv"', *lines]))


def ours(layer: Layer, size: int, *settings: str) -> nn.Module:
    """A generated convolution."""
    spec = spec_of(layer, size, *settings)
    with imported(compile_package(spec), spec.name) as package:
        module: nn.Module = package.Conv(stride=layer.stride)
    return module


def facts(layer: Layer, size: int) -> Row:
    """Of the default filters: how many, and the defect of random weights."""
    (planned,) = plan(spec_of(layer, size)).layers
    filters = sum(stop - start for start, stop in planned.ranges.values())
    return {"filters": filters, "defect": round(planned.numbers.defects.layer(planned.variance), 4)}


def plain(layer: Layer, size: int) -> nn.Module:
    """torch.nn.Conv3d of the same shape."""
    return nn.Conv3d(_channels(layer.into), _channels(layer.out), size, layer.stride, size // 2)


class Unwrapped(nn.Module):
    """An escnn convolution from tensor to tensor."""

    def __init__(self, convolution: Any) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, volume: Tensor) -> Tensor:
        """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z')."""
        wrap = importlib.import_module("escnn.nn").GeometricTensor
        output: Tensor = self.convolution(wrap(volume, self.convolution.in_type)).tensor
        return output


def escnn(layer: Layer, size: int) -> nn.Module:
    """R3Conv for SO(3) at its defaults."""
    gspaces, enn = importlib.import_module("escnn.gspaces"), importlib.import_module("escnn.nn")
    space = gspaces.rot3dOnR3()
    types = [enn.FieldType(space, [space.irrep(l) for n, l in _terms(text) for _ in range(n)]) for text in _both(layer)]
    return Unwrapped(enn.R3Conv(*types, kernel_size=size, padding=size // 2, stride=layer.stride))


def e3nn(layer: Layer, size: int) -> nn.Module:
    """The voxel convolution; all fields even, so that every J is allowed as it is in SO(3). It has no stride."""
    if layer.stride != 1:
        raise NotImplementedError("it has no stride")
    o3 = importlib.import_module("e3nn.o3")
    convolution = importlib.import_module("e3nn.nn.models.v2104.voxel_convolution").Convolution
    types = ["+".join(f"{n}x{l}e" for n, l in _terms(text)) for text in _both(layer)]
    harmonics = o3.Irreps("+".join(f"1x{l}e" for l in range(5)))
    module: nn.Module = convolution(*types, harmonics, diameter=size, num_radial_basis=3, steps=(1.0, 1.0, 1.0))
    return module


BUILDERS: dict[str, Callable[[Layer, int], nn.Module]] = {
    "plain": plain,
    "default": ours,
    "dense": lambda layer, size: ours(layer, size, 'execution = "dense"'),
    "separable": lambda layer, size: ours(layer, size, 'execution = "separable"'),
    "35 products": lambda layer, size: ours(
        layer, size, 'execution = "separable"', 'radial = { family = "separable", levels = 4 }'
    ),
    "escnn": escnn,
    "e3nn": e3nn,
}

PEERS = ("escnn", "e3nn")


def contestants(layer: Layer, size: int, names: list[str], device: str) -> tuple[dict[str, nn.Module], list[str]]:
    """Those that can be had, and notes about the others."""
    modules, notes = {}, []
    for name in names:
        try:
            if name in PEERS and size > MAX_PEER:
                raise NotImplementedError(f"not timed beyond {MAX_PEER} taps")
            modules[name] = BUILDERS[name](layer, size).to(device)
        except (ImportError, NotImplementedError, AttributeError, RuntimeError) as error:
            if name not in PEERS:
                raise
            notes.append(f"{name} at {size} taps: {type(error).__name__}: {str(error).splitlines()[0]}")
    return modules, notes


def measure(name: str, size: int, names: list[str], device: str, dtype: torch.dtype, rounds: int) -> Row:
    """The times of every contestant on one layer, in milliseconds."""
    layer = LAYERS[name]
    modules, notes = contestants(layer, size, names, device)
    volume = torch.randn(layer.samples, _channels(layer.into), *[layer.size] * 3, device=device, requires_grad=True)
    times: dict[str, dict[str, list[float]]] = {key: {"forward": [], "step": []} for key in modules}
    for turn in range(rounds + 1):
        for key, module in modules.items():
            with torch.no_grad():
                forward = _time(lambda m=module: _apply(m, volume, device, dtype), device)
            step = _time(lambda m=module: _apply(m, volume, device, dtype).float().square().sum().backward(), device)
            volume.grad = None
            module.zero_grad()
            if turn:
                times[key]["forward"].append(forward)
                times[key]["step"].append(step)
    medians = {key: {what: statistics.median(found) for what, found in of.items()} for key, of in times.items()}
    row: Row = {"layer": name, "kernel_size": size, "milliseconds": medians, "notes": notes, "assembly": {}}
    row |= facts(layer, size)
    for key in ("dense", "separable"):
        if key in modules:
            assembly = statistics.median(_assembly(modules[key], device) for _ in range(rounds))
            row["assembly"][key] = assembly / medians[key]["step"]
    return row


def _apply(module: nn.Module, volume: Tensor, device: str, dtype: torch.dtype) -> Tensor:
    if dtype == torch.float32:
        return module(volume)
    with torch.autocast(torch.device(device).type, dtype):
        return module(volume)


def _assembly(module: Any, device: str) -> float:
    assemble = module._mixing if hasattr(module, "_mixing") else module.kernel
    milliseconds = _time(lambda: assemble().sum().backward(), device)
    module.zero_grad()
    return milliseconds


def _time(function: Callable[[], object], device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3


def peak_memory(name: str, size: int, contestant: str, device: str, dtype: torch.dtype) -> float:
    """MiB that a volume and a step add to the peak of a process that has made the layer and run a small volume."""
    layer = LAYERS[name]
    module = BUILDERS[contestant](layer, size).to(device)
    module(torch.randn(1, _channels(layer.into), *[size] * 3, device=device))  # compiled, loaded, constants made
    module.zero_grad()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _peak(device)
    volume = torch.randn(layer.samples, _channels(layer.into), *[layer.size] * 3, device=device, requires_grad=True)
    _apply(module, volume, device, dtype).float().square().sum().backward()
    return _peak(device) - before


def _peak(device: str) -> float:
    """The most memory the process has held so far, MiB."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()  # of this program alone, unlike getrusage's
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def _memory_apart(name: str, size: int, contestant: str, options: argparse.Namespace) -> float | None:
    """`peak_memory` in a process of its own; None where it failed."""
    command = [sys.executable, __file__, "--memory-of", name, str(size), contestant]
    command += ["--device", options.device, "--dtype", options.dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def _both(layer: Layer) -> tuple[str, str]:
    return layer.into, layer.out


def _terms(text: str) -> list[tuple[int, int]]:
    return [(int(n), int(l)) for n, l in (term.strip().split("x") for term in text.split("+"))]


def _channels(text: str) -> int:
    return sum(n * (2 * l + 1) for n, l in _terms(text))


def machine(device: str) -> str:
    """What the figures were taken on."""
    if device != "cpu":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def as_markdown(results: list[Row]) -> str:
    """A table for every machine, number of threads and dtype: ratios to plain, goals beside them."""
    lines = ["# Time over a plain `conv3d` of the same shape", "", "`python benchmarks/speed.py`", ""]
    for run in results:
        lines += [f"## {run['machine']}, {run['threads']} thread(s), {run['dtype']}, torch {run['torch']}", ""]
        lines += [
            "| layer | k | default filters | their defect | plain step, ms | "
            + " | ".join(f"{n} step" for n in _rivals(run))
            + " | "
        ]
        lines[-1] += " | ".join(f"{n} forward" for n in _rivals(run)) + " | memory: dense, separable | assembly |"
        lines += ["|---|--:|--:|--:|--:|" + "--:|" * (2 * len(_rivals(run)) + 2)]
        for row in run["rows"]:
            of, base = row["milliseconds"], row["milliseconds"]["plain"]
            known = (str(row.get("filters", "-")), f"{row['defect']:.3f}" if "defect" in row else "-")
            cells = [row["layer"], str(row["kernel_size"]), *known, f"{base['step']:.3g}"]
            for what in ("step", "forward"):
                for name in _rivals(run):
                    goal = GOALS.get(name, {}).get(row["kernel_size"]) if row["layer"] == "hidden" else None
                    goal = goal if what == "step" else None
                    text = f"{of[name][what] / base[what]:.2f}" if name in of else "-"
                    cells.append(text + (f" (goal {goal})" if goal else ""))
            memory = row.get("memory", {})
            have = [f"{memory[n] / memory['plain']:.2f}" for n in ("dense", "separable") if memory.get(n)]
            cells += [", ".join(have) or "-", ", ".join(f"{share:.1%}" for share in row["assembly"].values())]
            lines.append("| " + " | ".join(cells) + " |")
        notes = sorted({note for row in run["rows"] for note in row["notes"]})
        lines += ["", *(f"* not run: {note}" for note in notes), ""]
    return "\n".join(lines)


def _rivals(run: Row) -> list[str]:
    return [n for n in BUILDERS if n != "plain" and any(n in row["milliseconds"] for row in run["rows"])]


def draw(results: list[Row], path: Path) -> None:
    """Step time over plain against kernel size, one panel for every run, for layer `hidden`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = [run for run in results if any(row["layer"] == "hidden" for row in run["rows"])]
    if not runs:
        return
    figure, axes = pyplot.subplots(1, len(runs), figsize=(4.2 * len(runs), 3.6), sharey=True, squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        rows = [row for row in run["rows"] if row["layer"] == "hidden"]
        for name in _rivals(run):
            have = [row for row in rows if name in row["milliseconds"]]
            ratios = [row["milliseconds"][name]["step"] / row["milliseconds"]["plain"]["step"] for row in have]
            axis.plot([row["kernel_size"] for row in have], ratios, marker="o", label=name)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set(yscale="log", xlabel="kernel size", title=f"{run['threads']} thread(s), {run['dtype']}")
        axis.set_xticks([row["kernel_size"] for row in rows])
    axes[0][0].set_ylabel("training step / conv3d's")
    axes[0][0].legend(frameon=False)
    figure.suptitle("32x0 + 16x1 + 8x2 to itself, two volumes of 24^3", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measures, prints a line per layer and kernel size, and writes the results of all runs so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--kernel-sizes", nargs="+", type=int, default=None)
    parser.add_argument("--contestants", nargs="+", default=list(BUILDERS), choices=list(BUILDERS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument("--memory", action="store_true", help="memory, on one thread, in place of times")
    parser.add_argument("--memory-of", nargs=3, metavar=("LAYER", "SIZE", "CONTESTANT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    dtype = getattr(torch, options.dtype)
    if options.memory_of:
        torch.set_num_threads(1)
        name, size, contestant = options.memory_of
        print(peak_memory(name, int(size), contestant, options.device, dtype))
        return
    places = [(name, size) for name in options.layers for size in options.kernel_sizes or LAYERS[name].kernel_sizes]
    run = {"machine": machine(options.device), "dtype": options.dtype, "torch": torch.__version__.split("+")[0]}
    if options.memory:
        rows = []
        for name, size in places:
            found = {n: _memory_apart(name, size, n, options) for n in ("plain", "dense", "separable")}
            print(f"{name}, k = {size}: {found} MiB", flush=True)
            rows.append({"layer": name, "kernel_size": size, "memory": found})
        _keep({**run, "threads": 1, "rows": rows}, options.out)
        return
    for threads in options.threads if options.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        rows = []
        for name, size in places:
            row = measure(name, size, options.contestants, options.device, dtype, options.rounds)
            base = row["milliseconds"]["plain"]["step"]
            ratios = {n: f"{t['step'] / base:.3f}" for n, t in row["milliseconds"].items()}
            print(f"{threads} thread(s), {name}, k = {size}: {base:.4g} ms, {ratios}", flush=True)
            rows.append(row)
        _keep({**run, "threads": threads, "rows": rows}, options.out)


def _keep(run: Row, out: Path) -> None:
    """Adds a run to the results in `out`; what it measured anew replaces an earlier measurement on the machine."""
    path = out / "speed.json"
    results = json.loads(path.read_text()) if path.exists() else []
    for old in results:
        if all(old[key] == run[key] for key in ("machine", "threads", "dtype", "torch")):
            new = {(row["layer"], row["kernel_size"]): row for row in run["rows"]}
            kept = [{**row, **new.pop((row["layer"], row["kernel_size"]), {})} for row in old["rows"]]
            old["rows"] = [*kept, *new.values()]
            break
    else:
        results.append(run)
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    (out / "speed.md").write_text(as_markdown(results) + "\n")
    try:
        draw(results, out / "speed.png")
    except ImportError:
        print("no plot: matplotlib is not installed")


if __name__ == "__main__":
    main()
