"""What products of fields cost: counts to band limit 128, and time beside e3nn's TensorProduct and torch-harmonics.

    python benchmarks/spheres.py [--limits 8 16 32] [--batch 32] [--channels 8] [--transforms 16 32 64 128]
                                 [--rotations 8 16] [--out DIR]

Prints five tables and writes spheres.json and spheres.md, to benchmarks/results unless told otherwise.
    counts      paths and complex coefficients per channel of `all`, `tree` and `reduced`, and the exponent of L between
                two limits: Cobb et al. 2021 state L^5, L^4 and L^3 log L
    products    milliseconds of a training step, one thread, the same paths: the compiled product, stock torch, and
                e3nn's TensorProduct of `uuu` paths, in one process; the least of several: in turns, so that each finds
                the caches full of the others' numbers, and repeated, each many times in a row
    projections a product with a projection fused behind it, and the product with a linear map `uniform` behind it: the
                same numbers, milliseconds as above, and the growth of the process's peak memory in one large step,
                each in a process apart; beside it the bytes of input, output and their gradients
    transforms  milliseconds of synthesis, analysis and backward, batch 32, beside torch-harmonics where it imports
    rotations   the same on the rotation group, of all orders and of an azimuthal band limit of 3

Times are those of the processor, so that other programs count little.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from time import process_time
from types import ModuleType
from typing import Any

import torch

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package  # noqa: E402
from basisgen.spec import parse_package  # noqa: E402
from basisgen.spheres.mixing import Mixing, cost, mixing_set  # noqa: E402
from examples.common.cost import (  # noqa: E402
    Run,
    e3nn_product,
    fastest,
    in_fresh_process,
    memory_growth,
    training_step,
)
from examples.common.measure import processor_name  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
LIMITS = (4, 8, 16, 32, 64, 128)
ROUNDS = 15
PROJECTIONS = ((8, "tree", 5, 8, 64), (16, "reduced", 1, 16, 128), (16, "tree", 1, 16, 128), (16, "all", 1, 16, 64))


def counts() -> list[dict[str, Any]]:
    """Paths and coefficients of every mixing set."""
    rows = []
    for L in LIMITS:
        row: dict[str, Any] = {"L": L}
        for mixing in Mixing:
            paths = [(a, b, l) for l in range(L) for a, b in mixing_set(mixing, range(L), l) if a != b or l % 2 == 0]
            row[mixing.value] = {"paths": len(paths), "coefficients": sum(cost(*path) for path in paths)}
        rows.append(row)
    return rows


def times(L: int, mixing: str, batch: int, channels: int, rival: bool) -> dict[str, Any]:
    """Milliseconds of a training step, compiled, stock, e3nn's."""
    text = f'name = "spheres_{mixing}_{L}"\n[[layer]]\nkind = "product"\nname = "P"\nin = "{channels}x0..{L - 1}"\n'
    start = process_time()
    spec = parse_package(f'{text}mixing = "{mixing}"\n')
    content = compile_package(spec)
    seconds = process_time() - start
    with imported(content, spec.name) as package:
        module, shared = package.P(), sys.modules[f"{package.__name__}._product"]
        x = torch.randn(batch, module.in_channels, requires_grad=True)
        gradient = torch.randn(batch, module.out_channels)
        runs = {
            "compiled": lambda: training_step(module, x, gradient),
            "stock": lambda: _without_compiler([shared], lambda: training_step(module, x, gradient)),
        }
        if rival:
            theirs = e3nn_product(module)
            runs["e3nn"] = lambda: training_step(lambda y: theirs(y, y), x, gradient)
        found, again = fastest(runs, ROUNDS), {name: fastest({name: run}, ROUNDS)[name] for name, run in runs.items()}
    size = sum(map(len, content.values()))
    paths = sum(len(pairs) for _, pairs in module.paths)
    costs = {"seconds_to_compile": seconds, "bytes": size, "ms": found, "ms_repeated": again}
    return {"L": L, "mixing": mixing, "paths": paths, **costs}


def projection_times(L: int, mixing: str, width: int, channels: int, batch: int) -> dict[str, Any]:
    """Milliseconds and peak memory, fused and not, compiled and stock."""
    spec, content = _projection(L, mixing, width, channels)
    with imported(content, spec.name) as package:
        fused, product, linear = package.Fused(), package.P(), package.U(bias=False)
        with torch.no_grad():
            linear.weight.copy_(fused.weight)
        modules = [sys.modules[f"{package.__name__}.{name}"] for name in ("_product", "_projected")]
        x = torch.randn(batch, fused.in_channels, requires_grad=True)
        gradient = torch.randn(batch, fused.out_channels)
        ways = {"fused": fused, "two layers": lambda y: linear(product(y))}
        difference = float((fused(x) - linear(product(x))).detach().abs().max() / fused(x).detach().abs().max())
        runs: dict[str, Run] = {}
        for name, way in ways.items():
            step = lambda way=way: training_step(way, x, gradient)  # noqa: E731
            runs[f"{name}, compiled"] = step
            runs[f"{name}, stock"] = lambda step=step: _without_compiler(modules, step)
        found = fastest(runs, ROUNDS)
    numbers = {"in": x.numel(), "products": batch * product.out_channels, "out": gradient.numel()}
    growth = {name: _peak(L, mixing, width, channels, batch, *name.split(", ")) for name in found}
    ends = 8 * (numbers["in"] + numbers["out"])
    sizes = {"L": L, "mixing": mixing, "width": width, "channels": channels, "batch": batch}
    return {**sizes, "numbers": numbers, "difference": difference, "ms": found, "bytes": growth, "bytes_of_ends": ends}


def _projection(L: int, mixing: str, width: int, channels: int) -> tuple[Any, dict[str, bytes]]:
    """A fused product, and the two layers it stands for."""
    into, out = (
        " + ".join(f"{channels * min(2 * l + 1, most)}x{l}" for l in range(L)) for most in (width, max(width, 3))
    )
    head = f'kind = "product"\nin = "{into}"\nmixing = "{mixing}"\nchannels = {channels}\n'
    text = (
        f'name = "projection_{mixing}_{L}"\n'
        f'[[layer]]\n{head}name = "Fused"\nout = "{out}"\n[[layer]]\n{head}name = "P"\n'
        f'[[layer]]\nkind = "linear"\nname = "U"\nin = "P"\nout = "{out}"\nmaps = ["uniform"]\nchannels = {channels}\n'
    )
    spec = parse_package(text)
    return spec, compile_package(spec)


def _peak(L: int, mixing: str, width: int, channels: int, batch: int, name: str, way: str) -> int:
    """Bytes by which the peak of a process of its own grows in one step of a large batch, after one of a small."""
    task = json.dumps([L, mixing, width, channels, batch, name, way])
    return in_fresh_process([__file__, "--peak", task])


def _grow(L: int, mixing: str, width: int, channels: int, batch: int, name: str, way: str) -> int:
    """What `_peak` asks for, in its process."""
    spec, content = _projection(L, mixing, width, channels)
    with imported(content, spec.name) as package:
        fused, product, linear = package.Fused(), package.P(), package.U(bias=False)
        modules = [sys.modules[f"{package.__name__}.{name}"] for name in ("_product", "_projected")]
        module = fused if name == "fused" else lambda y: linear(product(y))

        def make(samples: int) -> tuple[torch.Tensor, Run]:
            x = torch.randn(samples, fused.in_channels, requires_grad=True)
            step = lambda: training_step(module, x, torch.randn(samples, fused.out_channels))  # noqa: E731
            return x, step if way == "compiled" else lambda: _without_compiler(modules, step)

        return memory_growth(make, batch)


def transform_times(L: int, batch: int) -> dict[str, Any]:
    """Milliseconds of synthesis, analysis and backward of one signal per sample."""
    grids = ("mw", "gauss", "driscoll_healy")
    classes = {grid: grid.title().replace("_", "") for grid in grids}
    field_type = f'in = "1x0..{L - 1}"'
    layers = "".join(
        f'[[layer]]\nkind = "transform"\nname = "{name}"\n{field_type}\ngrid = "{grid}"\n'
        for grid, name in classes.items()
    )
    spec = parse_package(f'name = "transforms_{L}"\n{layers}')
    with imported(compile_package(spec), spec.name) as package:
        field = torch.randn(batch, L * L, requires_grad=True)
        runs = {}
        for grid in grids:
            module = getattr(package, classes[grid])()
            runs[grid] = lambda module=module: module.analysis(module(field)).sum().backward()
        errors = {grid: _round_trip(getattr(package, classes[grid])(), field) for grid in grids}
        runs |= _torch_harmonics(L, batch)
        return {"L": L, "ms": fastest(runs, ROUNDS), "round_trip": errors}


def rotation_times(L: int, batch: int) -> dict[str, Any]:
    """Milliseconds of synthesis, analysis and backward of one signal on the rotation group per sample."""
    layers = "".join(
        f'[[layer]]\nkind = "transform"\nname = "{name}{N or ""}"\nin = "1x0..{L - 1}r{N or ""}"\ngrid = "{grid}"\n'
        f'space = "rotations"\n'
        for name, grid in (("Mw", "mw"), ("DriscollHealy", "driscoll_healy"))
        for N in (None, 3)
    )
    spec = parse_package(f'name = "rotations_{L}"\n{layers}')
    with imported(compile_package(spec), spec.name) as package:
        runs, errors = {}, {}
        for layer in spec.layers:
            module = getattr(package, layer.name)()
            field = torch.randn(batch, module.channels, requires_grad=True)
            grid = "mw" if layer.name.startswith("Mw") else "driscoll_healy"
            name = f"{grid}, {'orders below 3' if layer.name.endswith('3') else 'all orders'}"
            runs[name] = lambda module=module, field=field: module.analysis(module(field)).sum().backward()
            errors[name] = _round_trip(module, field)
        return {"L": L, "ms": fastest(runs, ROUNDS), "round_trip": errors}


def _round_trip(module: Any, field: torch.Tensor) -> float:
    with torch.no_grad():
        return float((module.analysis(module(field)) - field).abs().max())


def _torch_harmonics(L: int, batch: int) -> dict[str, Callable[[], object]]:
    """Analysis and synthesis on their Gauss-Legendre grid; nothing where it does not import."""
    try:
        theirs = importlib.import_module("torch_harmonics")
    except (ImportError, OSError, RuntimeError):
        return {}
    back = theirs.InverseRealSHT(L, 2 * L, lmax=L, mmax=L, grid="legendre-gauss")
    forth = theirs.RealSHT(L, 2 * L, lmax=L, mmax=L, grid="legendre-gauss")
    field = torch.randn(batch, L, L, dtype=torch.complex64, requires_grad=True)
    return {"torch_harmonics_gauss": lambda: torch.view_as_real(forth(back(field))).sum().backward()}


def _without_compiler(modules: list[ModuleType], run: Callable[[], object]) -> None:
    available = [module.is_available for module in modules]
    for module in modules:
        module.is_available = lambda: False  # type: ignore[attr-defined]
    try:
        run()
    finally:
        for module, before in zip(modules, available, strict=True):
            module.is_available = before  # type: ignore[attr-defined]


def _projection_line(row: dict[str, Any]) -> str:
    parts = [f"{name} {ms:.1f} ms, {row['bytes'][name] / row['bytes_of_ends']:.1f}" for name, ms in row["ms"].items()]
    return (
        f"L = {row['L']}, {row['mixing']}, width {row['width']}: time, peak over input, output and their gradients "
        f"({row['bytes_of_ends'] / 1e6:.1f} MB): {'; '.join(parts)}"
    )


def as_markdown(result: dict[str, Any]) -> str:
    """All figures as tables."""
    parts = ["# Products of fields and transforms: what they cost", "`python benchmarks/spheres.py`"]
    parts += [f"{result['processor']}, one thread, float32, torch {result['torch']}, batch {result['batch']}"]
    parts += ["## Coefficients of all products, per channel (complex basis)", _counts_table(result["counts"])]
    of_products = f"milliseconds, {result['channels']} channels; e3nn's `TensorProduct` of `uuu` paths, same paths"
    parts += [f"## Products: a training step in {of_products}", _products_table(result["products"])]
    if result.get("projections"):
        parts += [
            "## Products with a projection behind: milliseconds, and peak memory over input, output and gradients"
        ]
        parts += ["\n".join(f"* {_projection_line(row)}" for row in result["projections"])]
    about = "synthesis, analysis and their backward pass in milliseconds, one signal per sample"
    for title, key in (("on the sphere", "transforms"), ("on the rotation group", "rotations")):
        if result[key]:
            parts += [f"## Transforms {title}: {about}", _transforms_table(result[key])]
    return "\n\n".join(parts) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["--:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts_table(rows: list[dict[str, Any]]) -> str:
    names = [mixing.value for mixing in Mixing]
    head = ["L", *(f"{name}: {what}" for name in names for what in ("paths", "coefficients", "exponent of L"))]
    lines, before = [], None
    for row in rows:
        cells = [str(row["L"])]
        for name in names:
            count = row[name]["coefficients"]
            exponent = "" if before is None else f"{math.log2(count / before[name]['coefficients']):.2f}"
            cells += [f"{row[name]['paths']:,}", f"{count:,}", exponent]
        lines.append(cells)
        before = row
    return _table(head, lines)


def _products_table(rows: list[dict[str, Any]]) -> str:
    head = ["L", "mixing", "paths", "compile, s", "package, bytes", "compiled", "stock torch", "e3nn"]
    head += ["e3nn over compiled", "e3nn over stock", "over compiled, repeated", "over stock, repeated"]
    lines = []
    for row in rows:
        ms = row["ms"]
        cells = [str(row["L"]), row["mixing"], f"{row['paths']:,}", f"{row['seconds_to_compile']:.1f}"]
        cells += [
            f"{row['bytes']:,}",
            *(f"{ms[name]:.2f}" if name in ms else "-" for name in ("compiled", "stock", "e3nn")),
        ]
        for times_ in (ms, row["ms_repeated"]):
            cells += [f"{times_['e3nn'] / times_[name]:.1f}" if "e3nn" in ms else "-" for name in ("compiled", "stock")]
        lines.append(cells)
    return _table(head, lines)


def _transforms_table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
    errors = list(rows[0]["round_trip"])
    head = ["L", *(name.replace("_", " ") for name in names), *(f"error, {name.replace('_', ' ')}" for name in errors)]
    lines = [
        [
            str(row["L"]),
            *(f"{row['ms'][name]:.2f}" if name in row["ms"] else "-" for name in names),
            *(f"{row['round_trip'][name]:.1e}" for name in errors),
        ]
        for row in rows
    ]
    return _table(head, lines)


def _print_counts(rows: list[dict[str, Any]]) -> None:
    print(f"{'L':>4}" + "".join(f"  {mixing.value:>9} paths  coefficients  exponent" for mixing in Mixing))
    before: dict[str, Any] | None = None
    for row in rows:
        line = f"{row['L']:>4}"
        for mixing in Mixing:
            of = row[mixing.value]
            ratio = of["coefficients"] / before[mixing.value]["coefficients"] if before else math.nan
            line += f"  {of['paths']:>15,}  {of['coefficients']:>12,}  {math.log2(ratio) if before else math.nan:>8.2f}"
        print(line)
        before = row


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    """Everything asked for, printed as it is found."""
    result: dict[str, Any] = {"processor": processor_name(), "torch": torch.__version__}
    result |= {"batch": options.batch, "channels": options.channels, "counts": counts()}
    _print_counts(result["counts"])
    result["products"] = []
    for L in options.limits:
        for mixing in ("reduced", "tree", "all") if L <= 16 else ("reduced", "tree"):
            row = times(L, mixing, options.batch, options.channels, rival=L <= 16 or mixing == "reduced")
            result["products"].append(row)
            print(_product_line(row), flush=True)
    result["projections"] = []
    for case in () if options.no_projections else PROJECTIONS:
        result["projections"].append(row := projection_times(*case))
        print(_projection_line(row), flush=True)
    for key, measure, limits in (
        ("transforms", transform_times, options.transforms),
        ("rotations", rotation_times, options.rotations),
    ):
        result[key] = []
        for L in limits:
            result[key].append(row := measure(L, options.batch))
            numbers = ", ".join(f"{name} {value:.2f} ms" for name, value in row["ms"].items())
            print(f"{key}, L = {L}: {numbers}", flush=True)
    return result


def _product_line(row: dict[str, Any]) -> str:
    ms = row["ms"]
    beside = "".join(
        f", e3nn over {name} {ms['e3nn'] / ms[name]:.1f}{how}"
        for ms, how in ((ms, ""), (row["ms_repeated"], " repeated"))
        for name in ("compiled", "stock")
        if "e3nn" in ms
    )
    numbers = ", ".join(f"{name} {value:.2f} ms" for name, value in ms.items())
    return f"L = {row['L']}, {row['mixing']}, {row['paths']} paths, {row['bytes']:,} bytes: {numbers}{beside}"


def main() -> None:
    """Runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limits", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--no-projections", action="store_true")
    parser.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--transforms", type=int, nargs="*", default=[16, 32, 64, 128])
    parser.add_argument("--rotations", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.peak:
        print(_grow(*options.peak))
        return
    result = _measured(options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "spheres.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "spheres.md").write_text(as_markdown(result))


if __name__ == "__main__":
    main()
