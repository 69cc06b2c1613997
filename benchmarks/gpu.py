"""What needs a GPU, in one command of under nine minutes: is it right there, does it wait, how fast is it?

    python benchmarks/gpu.py [--sections NAME ..] [--seconds 520] [--out DIR] [--dry-run]

Needs torch with CUDA and what basisgen needs (numpy, scipy, sympy, safetensors, click, jinja2, rich), no installation;
e3nn and triton where they are there. Each section of the table below runs in a separate process with a time limit
and writes a row as soon as it has one, so that no failure, no broken CUDA context and no limit costs more than what was
not measured yet. Results go to gpu.json and gpu.md in benchmarks/results/gpu unless told otherwise, after every
section; sections that are left out keep theirs, if of the same machine and versions. `--dry-run` runs every section
tiny, on the CPU, in this process: it shows that the program runs, and its figures mean nothing; it writes only where
--out says.

    error    |a - b| / |b| over all numbers of an output or gradient, b in float64 on the CPU
    ms       median of events around the work, milliseconds, after warming up; a step is forward and backward
    ratio    over torch.nn.Conv3d of the same shape, in the same process and precision
    waits    how often the host waits for the GPU in one step, as torch.cuda.set_sync_debug_mode finds them
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import torch
from common.contestants import (
    LAYERS,
    NETWORKS,
    REPOSITORY,
    Layer,
    Row,
    channels,
    machine,
    network,
    plain,
    plain_twin,
    planned,
)
from common.measures import MODES, Where, attempt, compared, milliseconds, tf32, timed, waits
from torch import Tensor, nn
from torch.nn.functional import silu

from basisgen.emission.imported import imported
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.tuning import Tuning
from runtime.spheres import SphereActivation

RESULTS = REPOSITORY / "benchmarks" / "results" / "gpu"
GOALS = {  # of the step over plain, in bfloat16
    **{("dense", taps): 1.05 for taps in (3, 5, 7, 9)},
    ("separable", 5): 0.7,
    ("separable", 7): 0.35,
    ("separable", 9): 0.18,
}
WAYS = ("dense", "separable")
PRECISIONS = ("bfloat16", "tf32", "float32")
SLOW_MODES = ("compiled", "CUDA graph")  # of the first kernel size alone
GRACE = 10.0  # seconds that a section's process may take beyond its limit
PRODUCT = '[[layer]]\nkind = "product"\nname = "P"\nin = "4x0..3"\nmixing = "reduced"\n'
TRANSFORM = '[[layer]]\nkind = "transform"\nname = "T"\nin = "1x0..3"\ngrid = "driscoll_healy"\n'


# Sections: each yields its rows one by one.


def ceilings(where: Where) -> Iterator[Row]:
    """What the device does at most: bytes copied, multiply-adds of matrices."""
    source = torch.zeros(1 << (12 if where.tiny else 28), device=where.device)
    target = torch.empty_like(source)
    yield {"what": "copy", "GB per s": 2 * source.nbytes / milliseconds(lambda: target.copy_(source), where) / 1e6}
    size = 64 if where.tiny else 8192
    for precision in PRECISIONS:
        a = torch.ones(size, size, device=where.device, dtype=_dtype(precision))
        with tf32(precision == "tf32"):
            ms = milliseconds(partial(torch.matmul, a, a), where)
        yield {"what": f"matrix product, {precision}", "TFLOP per s": 2 * size**3 / ms / 1e9}


def correctness(where: Where) -> Iterator[Row]:
    """Convolutions, dense and by passes: output and all gradients against float64 on the CPU."""
    into, size, sizes = ("2x0 + 1x1", 5, (3,)) if where.tiny else ("8x0 + 4x1 + 2x2", 20, (5, 3, 7))
    with ExitStack() as stack:
        layers = [
            (way, taps, stack.enter_context(package_of(f"{way}_{taps}", convolution("Conv", into, taps, way))).Conv)
            for taps, way in product(sizes, WAYS)
        ]
        for (way, taps, layer), stride, mode in product(layers, (1,) if where.tiny else (1, 2), MODES):
            if mode in SLOW_MODES and taps != sizes[0]:
                continue
            torch.manual_seed(0)
            exact = layer(stride=stride).double()
            volume = torch.randn(2, exact.in_channels, size, size, size, dtype=torch.float64)
            row = {"way": way, "taps": taps, "stride": stride, "mode": mode}
            yield row | compared(exact, volume, mode, where)


def waiting(where: Where) -> Iterator[Row]:
    """Host synchronisations in a training step with Adam: there should be none."""
    into, size = ("2x0 + 1x1", 5) if where.tiny else ("8x0 + 4x1 + 2x2", 16)
    layers = [convolution(way.title(), into, 5, way) for way in WAYS] + [PRODUCT, TRANSFORM]
    layers.append(PRODUCT.replace('"P"', '"ByTriton"'))
    with package_of("waiting", "".join(layers), by_triton=("ByTriton",)) as package:
        modules: list[tuple[str, nn.Module, tuple[int, ...]]] = [
            (way, getattr(package, way.title())(), (2, channels(into), size, size, size)) for way in WAYS
        ]
        modules += [("product", package.P(), (4, 64)), ("product by Triton", package.ByTriton(), (4, 64))]
        modules += [
            ("transform", RoundTrip(package.T()), (4, 16)),
            ("SphereActivation", SphereActivation(package.T()), (4, 16)),
        ]
        if not where.tiny:
            modules += [(name, network(name), (2, 1, *[of.size] * 3)) for name, of in NETWORKS.items()]
        for name, module, shape in modules:
            yield {"module": name} | attempt(partial(_waits, module, shape, where))


def speed(where: Where) -> Iterator[Row]:
    """Convolutions over nn.Conv3d of the same shape: step, forward, memory, and what the cost model predicted.

    `of arithmetic` is the multiply-adds of the step over the device's ceiling, `of bandwidth` the bytes that a step
    must move at least (volume, output and their gradients, each once) over the copy's.
    """
    best = {row["what"]: row for row in ceilings(where)}
    layer = Layer("2x0 + 1x1", "2x0 + 1x1", 5, 1) if where.tiny else LAYERS["hidden"]
    sizes, batches, taps = ((5,), (1,), (3,)) if where.tiny else ((24, 48, 96), (2, 8), (5, 7, 9, 3))
    found = {k: (contestants(layer, k), predictions(layer, k)) for k in taps}
    left_out = 0
    for size, batch, precision, k in product(sizes, batches, PRECISIONS, taps):
        of = Timing(layer, k, size, batch, precision)
        if of.is_too_much or not where.has_time(10):
            left_out += 1
            continue
        row: Row = {"taps": k, "volume": size, "batch": batch, "precision": precision}
        volume = where.draw(batch, channels(layer.into), size, size, size)
        for name, module in found[k][0].items():
            row |= attempt(partial(_timed, module, volume, where, name, precision))
        yield row | of.ratios(row) | found[k][1] | of.shares(row, best)
    if left_out:
        yield {"volume": f"{left_out} combinations left out: no time, or too much work"}


def products(where: Where) -> Iterator[Row]:
    """Products of fields on the sphere, and with a projection: right, and how fast by Triton and beside e3nn's.

    ours: stock torch, which runs unless `basisgen tune` finds Triton faster.
    """
    for L, mixing, projected in product(
        (3,) if where.tiny else (8, 16), ("reduced",) if where.tiny else ("reduced", "tree", "all"), (False, True)
    ):
        if (L > 8 and mixing == "all") or (projected and mixing == "reduced" and not where.tiny):
            continue
        copies, batch = (2, 2) if where.tiny else (16, 128)
        text = f'[[layer]]\nkind = "product"\nname = "P"\nin = "{copies}x0..{L - 1}"\nmixing = "{mixing}"\n'
        text += f'out = "{copies}x0..{L - 1}"\n' if projected else ""
        row: Row = {"mixing": mixing, "projected": projected, "L": L, "batch": batch, "channels": copies}
        with (
            package_of(f"product_{mixing}_{L}_{projected}", text) as package,
            package_of(f"triton_{mixing}_{L}_{projected}", text, by_triton=("P",)) as tuned,
        ):
            module = package.P()
            x = where.draw(batch, module.in_channels)
            row |= _in_two_modes(module, x, where) | _by_triton(tuned.P(), x, where)
            if "triton step ms" in row and "ours step ms" in row:
                row["triton over ours"] = row["triton step ms"] / row["ours step ms"]
            yield row if projected else row | attempt(partial(_e3nn, module, x, where))


def transforms(where: Where) -> Iterator[Row]:
    """Synthesis and analysis on the sphere."""
    for L, grid in product((4,) if where.tiny else (16, 64), ("mw", "gauss", "driscoll_healy")):
        text = TRANSFORM.replace("1x0..3", f"1x0..{L - 1}").replace("driscoll_healy", grid)
        with package_of(f"transform_{grid}_{L}", text) as package:
            module, x = RoundTrip(package.T()), where.draw(2 if where.tiny else 64, L * L)
            row: Row = {"grid": grid, "L": L, "batch": len(x)} | compared(module, x.cpu().double(), "float32", where)
            yield row | attempt(partial(_timed, module, x, where, "ours"))


def activations(where: Where) -> Iterator[Row]:
    """SphereActivation, on signals and on the fields of volumes; cube: exact under turns of the cube."""
    L, spaces = (2, ((),)) if where.tiny else (8, ((), (12, 12, 12)))
    with package_of(f"activation_{L}", TRANSFORM.replace("1x0..3", f"1x0..{2 * L - 1}")) as package:
        for space, cube in product(spaces, (False, True)):
            # a smooth function: rounding moves samples across the kink of relu, whose gradient jumps there
            module = SphereActivation(package.T(), silu, limit=L, cube=cube)
            x = where.draw(2 if where.tiny else 16, module.in_channels, *space)
            yield {"L": L, "space": str(space), "cube": cube} | _in_two_modes(module, x, where)


def networks(where: Where) -> Iterator[Row]:
    """A training step of whole networks, over that with nn.Conv3d in place of our convolutions.

    default: float32 with TF32 in convolutions and not in matrix products, as torch has it.
    """
    for (name, of), precision in product(NETWORKS.items(), ("default", "bfloat16")):
        ours = network(name)
        volume = where.draw(2 if where.tiny else 4 * of.samples, 1, *[8 if where.tiny else of.size] * 3)
        row: Row = {"network": name, "precision": precision, "batch": len(volume), "volume": volume.shape[-1]}
        for key, module in (("ours", ours), ("plain", plain_twin(ours))):
            row |= attempt(partial(_timed, module, volume, where, key, precision))
        yield row | attempt(lambda row=row: {"ratio": row["ours step ms"] / row["plain step ms"]})


def tetris(where: Where) -> Iterator[Row]:
    """One training of the Tetris example's quick preset, and its accuracy on rotated shapes; 99.9 % on CPUs."""
    from examples.tetris.experiment import HERE, OneOrientation, evaluate
    from examples.tetris.networks import Steerable
    from examples.tetris.preset import load_preset
    from runtime.train import train
    from runtime.train.calibration import calibrate

    preset = load_preset("quick")
    training = replace(preset.training, device=str(where.device), progress=False)
    spec = parse_package((HERE / "specs" / preset.spec).read_text("utf-8").replace('"tetris_quick"', '"gpu_tetris"'))
    if where.tiny:
        training = replace(training, epochs=1, burn_in=1)
        preset = replace(preset, test_rotations=1, raster=replace(preset.raster, size=12, cell=1.5))
    with imported(compile_package(spec), spec.name) as package, tempfile.TemporaryDirectory() as place:
        torch.manual_seed(0)
        model, data = Steerable(package, preset), OneOrientation(preset)
        calibrate(model, data.volumes[:, None], length=preset.calibrate)
        start = time.perf_counter()
        train(model, data, training, Path(place))
        yield {"epochs": training.epochs, "seconds": time.perf_counter() - start}
        scores, _, agreement = evaluate(model.cpu(), preset)
        yield {"accuracy": scores["accuracy"], "agreement": agreement}


@dataclass(frozen=True)
class Section:
    """A part of the benchmark: what yields its rows, and the most seconds it may take."""

    run: Callable[[Where], Iterator[Row]]
    seconds: int

    @property
    def title(self) -> str:
        """The first line of its description."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


SECTIONS = {  # in the order in which they run, while time is left
    "ceilings": Section(ceilings, 25),
    "correctness": Section(correctness, 110),
    "waiting": Section(waiting, 45),
    "speed": Section(speed, 140),
    "products": Section(products, 90),
    "tetris": Section(tetris, 40),
    "transforms": Section(transforms, 30),
    "networks": Section(networks, 30),
    "activations": Section(activations, 50),
}


# Layers, and what is known of them.


class RoundTrip(nn.Module):
    """Synthesis, then analysis."""

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, field: Tensor) -> Tensor:
        """(batch, channel) -> the same."""
        return self.transform.analysis(self.transform.synthesis(field))


class Squared(nn.Module):
    """A product of two fields as one of a field with itself."""

    def __init__(self, product: nn.Module) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel) -> (batch, channel out)."""
        return self.product(x, x)


def package_of(name: str, layers: str, by_triton: Iterable[str] = ()) -> Any:
    """A package of a spec, imported while the context lasts; some of its products as if Triton had been faster."""
    spec = parse_package(f'name = "gpu_{name}"\n{layers}')
    tuned = Tuning("", {layer: {"triton": 1.0} for layer in by_triton}) if by_triton else None
    return imported(compile_package(replace(spec, tuned=tuned)), spec.name)


def convolution(name: str, fields: str, taps: int, way: str) -> str:
    """A layer of a spec, between equal fields, with the default filters."""
    lines = f'in = "{fields}"\nout = "{fields}"\nkernel_size = {taps}\nexecution = "{way}"\n'
    return f'[[layer]]\nkind = "conv"\nname = "{name}"\n{lines}'


def contestants(layer: Layer, taps: int) -> dict[str, nn.Module]:
    """Plain, dense and separable."""
    modules = {"plain": plain(layer, taps)}
    for way in WAYS:
        with package_of(f"{way}_{taps}", convolution("Conv", layer.into, taps, way)) as package:
            modules[way] = package.Conv()
    return modules


def predictions(layer: Layer, taps: int) -> Row:
    """Which way `auto` takes."""
    smallest = planned(layer, taps).smallest
    of = {"float32": smallest.on_gpu, "16 bits": smallest.on_gpu_in_16_bits} if smallest else {}
    return {f"auto, {bits}": f"separable from {of[1]:,} voxels on" if 1 in of else "dense" for bits, of in of.items()}


@dataclass(frozen=True)
class Timing:
    """One combination of the section `speed`."""

    layer: Layer
    taps: int
    size: int
    batch: int
    precision: str

    @property
    def pairs(self) -> int:
        """The number of pairs of a channel in and one out, at every voxel."""
        return channels(self.layer.into) * channels(self.layer.out) * self.batch * self.size**3

    @property
    def is_too_much(self) -> bool:
        """Plain float32 is slow, and large volumes of it tell nothing more; some steps take seconds."""
        return (self.precision == "float32" and self.size > 48) or 3 * self.taps**3 * self.pairs > 2e14

    def ratios(self, row: Row) -> Row:
        """The ratios over plain; beside a ratio its goal, where it has one."""
        found: Row = {}
        for way, what in product(WAYS, ("step", "forward")):
            ours, base = row.get(f"{way} {what} ms"), row.get(f"plain {what} ms")
            if ours and base:
                found[f"{way} {what} ratio"] = ours / base
            if (way, self.taps) in GOALS and what == "step":
                found[f"{way} goal"] = GOALS[way, self.taps] if self.precision == "bfloat16" else ""
        return found

    def shares(self, row: Row, best: dict[str, Row]) -> Row:
        """The shares of the arithmetic and of the bandwidth of the device that a step uses."""
        levels = planned(self.layer, self.taps).filters.products.levels  # type: ignore[union-attr]
        mixing = sum(n**2 for n in range(1, levels + 2))  # with the zeros that the matrices have there
        sums = {"plain": self.taps**3, "dense": self.taps**3, "separable": mixing}
        numbers = (channels(self.layer.into) + channels(self.layer.out)) * self.batch * self.size**3
        moved = 2 * numbers * _dtype(self.precision).itemsize
        found: Row = {}
        for name, per_pair in sums.items():
            if ms := row.get(f"{name} step ms"):
                peak = best[f"matrix product, {self.precision}"]["TFLOP per s"]
                found[f"{name} of arithmetic"] = 6 * per_pair * self.pairs / ms / 1e9 / peak
                found[f"{name} of bandwidth"] = moved / ms / 1e6 / best["copy"]["GB per s"]
        return found


def _timed(module: nn.Module, x: Tensor, where: Where, name: str, precision: str = "float32") -> Row:
    return timed(module.to(where.device), x, where, name, precision)


def _waits(module: nn.Module, shape: tuple[int, ...], where: Where) -> Row:
    return waits(module.to(where.device), where.draw(*shape), where)


def _in_two_modes(module: nn.Module, x: Tensor, where: Where) -> Row:
    """Errors as it is and compiled, and times."""
    row: Row = {}
    for mode in ("float32", "compiled"):
        row |= {f"{mode}: {key}": value for key, value in compared(module, x.cpu().double(), mode, where).items()}
    return row | attempt(partial(_timed, module, x, where, "ours"))


def _by_triton(module: nn.Module, x: Tensor, where: Where) -> Row:
    """Errors and times of a product that names Triton, where that runs."""
    if not where.on_gpu:
        return {"triton": "left out: on a CPU the compiled product runs"}
    if not type(module).on_gpu.runs_on(str(x.device)):
        return {"triton": "does not run here"}
    row: Row = {}
    for mode in ("float32", "CUDA graph"):
        found = compared(module, x.cpu().double(), mode, where)
        row |= {f"triton, {mode}: {key}": value for key, value in found.items()}
    return row | attempt(partial(_timed, module, x, where, "triton"))


def _e3nn(module: nn.Module, x: Tensor, where: Where) -> Row:
    from spheres import e3nn_product  # where e3nn is there

    return _timed(Squared(e3nn_product(module)), x, where, "e3nn")


def _dtype(precision: str) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


# The run: a process for each section, and the tables.


def apart(name: str, seconds: float) -> tuple[list[Row], str]:
    """The rows of a section run in another process, and what went wrong; what was written before that counts."""
    with tempfile.TemporaryDirectory() as place:
        rows, errors = Path(place) / "rows", Path(place) / "errors"
        command = [
            sys.executable,
            str(Path(__file__)),
            "--section",
            name,
            "--rows",
            str(rows),
            "--seconds",
            str(seconds),
        ]
        with errors.open("w") as file:
            process = subprocess.Popen(command, stderr=file, start_new_session=True)
            try:
                code = process.wait(seconds + GRACE)
                trouble = f"exit {code}: {_last_line(errors)}" if code else ""
            except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that compile
                process.wait()
                if isinstance(error, KeyboardInterrupt):
                    raise
                trouble = f"stopped after {seconds + GRACE:.0f} s"
        lines = rows.read_text().splitlines() if rows.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")], trouble


def within(name: str, seconds: float) -> tuple[list[Row], str]:
    """The same in this process, tiny, on the CPU."""
    found: list[Row] = []
    try:
        found.extend(SECTIONS[name].run(Where(torch.device("cpu"), True, time.monotonic() + seconds)))
    except Exception as error:  # the other sections are wanted too
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def write_rows(name: str, path: Path, seconds: float) -> None:
    """What the other process does: a line for every row."""
    where = Where(torch.device("cuda"), False, time.monotonic() + seconds)
    with path.open("w") as file:
        for row in SECTIONS[name].run(where):
            print(json.dumps(row), file=file, flush=True)
            print(f"  {', '.join(f'{key} {_shown(value)}' for key, value in row.items())}", flush=True)


def facts(dry: bool) -> Row:
    """What the figures were taken on."""
    versions = {name: metadata.version(name) for name in ("torch", "triton", "e3nn") if find_spec(name)}
    return {"machine": machine("cpu" if dry else "cuda"), "cuda": torch.version.cuda, "versions": versions, "dry": dry}


def as_markdown(result: Row) -> str:
    """A table for each section."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = ["# On a GPU", "", "`python benchmarks/gpu.py`", ""]
    lines += [f"{result['machine']}, CUDA {result['cuda']}, {versions}", ""]
    lines += ["A dry run on a CPU: these figures mean nothing.", ""] if result["dry"] else []
    for name, section in result["sections"].items():
        lines += [f"## {name}", "", SECTIONS[name].title, "", *_table(section["rows"]), ""]
        lines += [f"{section['seconds']:.0f} s. {section['trouble']}".strip(), ""]
    return "\n".join(lines)


def run_all(names: Iterable[str], seconds: float, out: Path, dry: bool) -> bool:
    """Every section in turn, the results written after each; whether all ran to their ends.

    Sections that are not run keep the results that lie there, if these are of the same machine and versions.
    """
    here = facts(dry)
    result = here | {"sections": {}}
    with suppress(OSError, ValueError):
        before = json.loads((out / "gpu.json").read_text())
        if all(before.get(key) == value for key, value in here.items()):
            result["sections"] |= {name: of for name, of in before["sections"].items() if name not in names}
    stop = time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        start = time.monotonic()
        limit = min(SECTIONS[name].seconds, stop - start - GRACE)
        print(f"{name}: at most {limit:.0f} s", flush=True)
        rows, trouble = (within if dry else apart)(name, limit) if limit > 0 else ([], "no time left")
        found = result["sections"] | {name: {"rows": rows, "trouble": trouble, "seconds": time.monotonic() - start}}
        result["sections"] = {key: found[key] for key in SECTIONS if key in found}
        print(f"{name}: {len(rows)} rows in {time.monotonic() - start:.1f} s. {trouble}".strip(), flush=True)
        (out / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / "gpu.md").write_text(as_markdown(result) + "\n")
    return not any(result["sections"][name]["trouble"] for name in names)


def _table(rows: list[Row]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    if not keys:
        return ["No rows."]
    body = ["| " + " | ".join(_shown(row.get(key, "")) for key in keys) + " |" for row in rows]
    return ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys), *body]


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "/")


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def main() -> None:
    """Runs the sections, or one of them for another process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--seconds", type=float, default=520, help="for everything")
    parser.add_argument("--out", type=Path, help="directory of the results")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU: does the program run?")
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.section:
        write_rows(options.section, options.rows, options.seconds)
        return
    if not options.dry_run and not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device here. --dry-run runs every section tiny, on the CPU.")
    if options.dry_run and options.out is None:
        sys.exit("--dry-run takes --out DIR: its figures mean nothing, and must not lie among the results.")
    sys.exit(0 if run_all(options.sections, options.seconds, options.out or RESULTS, options.dry_run) else 1)


if __name__ == "__main__":
    main()
