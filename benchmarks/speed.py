"""Convolutions against the plain torch.nn.Conv3d of the same shape: time of a forward pass, of a training step; memory.

    python benchmarks/speed.py [--layers NAME ..] [--kernel-sizes 3 5 ..] [--networks NAME ..] [--threads 1 2]
                               [--device cuda] [--dtype ..] [--out DIR]

Who runs them stands in common/contestants.py: `default` is what users get. Contestants take turns, in another order in
every round, and medians count; a forward pass is without gradients, a step is forward and backward with gradients of
the input and of the weights. On a CPU with one thread the time is the processor's, which other programs hardly
lengthen; the load of the machine is kept with the figures. Freed memory stays with the process: else glibc gives large
blocks back to the system, or keeps them, by what was allocated before, and a step of some milliseconds pays up to half
of its time for its neighbours. `assembly` is our weights to kernel, or to mixing matrices, forward and backward, over
the dense or separable step. Whole networks are compared with the same network that has an nn.Conv3d of the same shape
in place of each of our convolutions.

Memory is the growth of a process's peak resident memory by volume and step, each contestant in a separate process (on
an accelerator: torch's own count); `--memory` measures it in place of the times. Every figure is kept with the name of
the machine in speed.json, in benchmarks/results unless told otherwise; speed.md and speed.png are made from it. A peer
that is not installed is left out, and said to be (`pip install escnn e3nn`; escnn needs numpy < 2).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common.contestants import (
    BUILDERS,
    LAYERS,
    NETWORKS,
    REPOSITORY,
    Layer,
    Row,
    channels,
    facts,
    machine,
    network,
    plain_twin,
)
from torch import Tensor, nn

RESULTS = REPOSITORY / "benchmarks" / "results"
GOALS = {  # of the step over plain: layer -> contestant -> kernel size
    "hidden": {
        "default": {3: 0.65, 5: 0.3, 7: 0.15, 9: 0.08},
        "dense": {5: 1.03, 7: 1.03, 9: 1.03, 11: 1.03},
    },
    "hidden, stride 2": {"default": {5: 0.7}},
    **{name: {"default": dict.fromkeys((3, 5, 7), 1.05)} for name in ("tiny 8", "tiny 12", "small 8")},
}
PEERS = ("escnn", "e3nn")
SECONDS = 4.0  # that short steps are repeated for
MAX_PEER = 7  # taps: escnn's basis takes minutes to sample beyond, and e3nn's ratio has settled


def contestants(layer: Layer, size: int, names: list[str], device: str) -> tuple[dict[str, nn.Module], list[str]]:
    """The contestants that are installed, and notes about the others."""
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
    volume = torch.randn(layer.samples, channels(layer.into), *[layer.size] * 3, device=device)
    medians = take_turns(modules, volume, device, dtype, rounds)
    row: Row = {"layer": name, "kernel_size": size, "milliseconds": medians, "notes": notes, "assembly": {}}
    row |= facts(layer, size) | {"load": os.getloadavg()[0]}
    for key in ("dense", "separable"):
        if key in modules:
            assembly = statistics.median(_assembly(modules[key], device) for _ in range(rounds))
            row["assembly"][key] = assembly / medians[key]["step"]
    return row


def measure_network(name: str, device: str, dtype: torch.dtype, rounds: int) -> Row:
    """The times of a whole network, and of its twin with plain convolutions, in milliseconds."""
    of, ours = NETWORKS[name], network(name)
    modules = {"default": ours.to(device), "plain": plain_twin(ours).to(device)}
    volume = torch.randn(of.samples, 1, *[of.size] * 3, device=device)
    times = take_turns(modules, volume, device, dtype, rounds)
    row = {"layer": f"{name}, whole", "kernel_size": 5, "milliseconds": times, "notes": [], "assembly": {}}
    return row | {"load": os.getloadavg()[0]}


def take_turns(
    modules: dict[str, nn.Module], volume: Tensor, device: str, dtype: torch.dtype, rounds: int
) -> dict[str, dict[str, float]]:
    """The medians of forward passes and steps, each module once in every round; short ones take more rounds."""
    order, shuffle = list(modules.items()), random.Random(0).shuffle
    times: dict[str, dict[str, list[float]]] = {key: {"forward": [], "step": []} for key in modules}
    volume = volume.requires_grad_()
    start, turn = time.perf_counter(), 0
    while turn <= rounds or (time.perf_counter() - start < SECONDS and turn < 40 * rounds):
        shuffle(order)
        for key, module in order:
            with torch.no_grad():
                forward = _time(lambda m=module: _apply(m, volume, device, dtype), device)
            step = _time(lambda m=module: _apply(m, volume, device, dtype).float().square().sum().backward(), device)
            volume.grad = None
            module.zero_grad()
            if turn:
                times[key]["forward"].append(forward)
                times[key]["step"].append(step)
        turn += 1
    return {key: {what: statistics.median(found) for what, found in of.items()} for key, of in times.items()}


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
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    function()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock() - start) * 1e3


def keep_freed_memory() -> None:
    """Tells glibc to give no memory back to the system; elsewhere it does nothing."""
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(libc, "mallopt"):
        for limit in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(limit, 2**30)


def peak_memory(name: str, size: int, contestant: str, device: str, dtype: torch.dtype) -> float:
    """MiB that a volume and a step add to the peak of a process that has made the layer and run a small volume."""
    layer = LAYERS[name]
    module = BUILDERS[contestant](layer, size).to(device)
    module(torch.randn(1, channels(layer.into), *[size] * 3, device=device))  # compiled, loaded, constants made
    module.zero_grad()
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _peak(device)
    volume = torch.randn(layer.samples, channels(layer.into), *[layer.size] * 3, device=device, requires_grad=True)
    _apply(module, volume, device, dtype).float().square().sum().backward()
    return _peak(device) - before


def _peak(device: str) -> float:
    """The most memory the process has held so far, MiB."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()  # of this program alone, unlike getrusage's
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def _memory_apart(name: str, size: int, contestant: str, options: argparse.Namespace) -> float | None:
    """`peak_memory` in a separate process; None where it failed."""
    command = [sys.executable, __file__, "--memory-of", name, str(size), contestant]
    command += ["--device", options.device, "--dtype", options.dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def as_markdown(results: list[Row]) -> str:
    """A table for every machine, number of threads and dtype: ratios to plain, goals beside them."""
    lines = ["# Time over a plain `conv3d` of the same shape", "", "`python benchmarks/speed.py`", ""]
    lines += ["In brackets the number of filters, then their defect with random weights.", ""]
    for run in results:
        rivals = _rivals(run)
        loads = [row["load"] for row in run["rows"] if "load" in row]
        noted = f", load of the machine {min(loads):.1f} to {max(loads):.1f}" if loads else ""
        lines += [f"## {run['machine']}, {run['threads']} thread(s), {run['dtype']}, torch {run['torch']}{noted}", ""]
        heads = [f"{name} {what}" for what in ("step", "forward") for name in rivals]
        columns = ["layer", "k", "plain step, ms", *heads, "memory: dense, separable", "assembly"]
        lines += [f"| {' | '.join(columns)} |", "|---|" + "--:|" * (len(columns) - 1)]
        lines += [f"| {' | '.join(_cells(row, rivals))} |" for row in run["rows"] if "milliseconds" in row]
        notes = sorted({note for row in run["rows"] for note in row.get("notes", [])})
        lines += ["", *(f"* not run: {note}" for note in notes), ""]
    return "\n".join(lines)


def _cells(row: Row, rivals: list[str]) -> list[str]:
    """One line of the table."""
    of, base = row["milliseconds"], row["milliseconds"]["plain"]
    cells = [row["layer"], str(row["kernel_size"]), f"{base['step']:.3g}"]
    for what in ("step", "forward"):
        for name in rivals:
            text = f"{of[name][what] / base[what]:.2f}" if name in of else "-"
            if what == "step" and name == "default" and "filters" in row:
                text += f" [{row['filters']}] {row['defect']:.3f}"
            goal = GOALS.get(row["layer"], {}).get(name, {}).get(row["kernel_size"])
            cells.append(text + (f" (goal {goal})" if goal and what == "step" else ""))
    memory = row.get("memory", {})
    have = [f"{memory[n] / memory['plain']:.2f}" for n in ("dense", "separable") if memory.get(n)]
    return [*cells, ", ".join(have) or "-", ", ".join(f"{share:.1%}" for share in row["assembly"].values()) or "-"]


def _rivals(run: Row) -> list[str]:
    return [n for n in BUILDERS if n != "plain" and any(n in row.get("milliseconds", {}) for row in run["rows"])]


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
    parser.add_argument("--layers", nargs="*", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--kernel-sizes", nargs="+", type=int, default=None)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
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
    keep_freed_memory()
    jobs = [partial(measure, name, size, options.contestants) for name, size in places]
    jobs += [partial(measure_network, name) for name in options.networks]
    for threads in options.threads if options.device == "cpu" else [1]:
        torch.set_num_threads(threads)
        for job in jobs:
            row = job(device=options.device, dtype=dtype, rounds=options.rounds)
            base = row["milliseconds"]["plain"]["step"]
            ratios = {n: f"{t['step'] / base:.3f}" for n, t in row["milliseconds"].items()}
            print(f"{threads} thread(s), {row['layer']}, k = {row['kernel_size']}: {base:.4g} ms, {ratios}", flush=True)
            _keep({**run, "threads": threads, "rows": [row]}, options.out)


def _keep(run: Row, out: Path) -> None:
    """Adds a run to the results in `out`; new measurements replace earlier ones of the same machine."""
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
