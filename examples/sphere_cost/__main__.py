"""`python -m examples.sphere_cost --preset quick`: measures layers of every band limit, writes tables and a picture."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from examples.common.cost import memory_is_known, without_e3nn
from examples.common.measure import processor_name
from examples.common.results import RESULTS
from examples.sphere_cost.errors import LayerError, measure_errors
from examples.sphere_cost.measure import Row, measure
from examples.sphere_cost.preset import PRESETS, Preset, cases, load
from examples.sphere_cost.results import line, write_pages, write_results

OUT = Path("runs") / "sphere_cost"


@click.command()
@click.option("--preset", "name", type=click.Choice(PRESETS), default=PRESETS[0], show_default=True)
@click.option("--plan", is_flag=True, help="Show what would be measured; measure nothing.")
@click.option("--redraw", is_flag=True, help="Write page and picture of an earlier run again; measure nothing.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=OUT, show_default=True)
def main(name: str, plan: bool, redraw: bool, out: Path) -> None:
    """Cost and memory of one layer of products against the band limit, and how equivariant layers are.

    \b
    Example:
      python -m examples.sphere_cost --preset quick
    """
    if redraw:
        _redraw(out / name)
        return
    preset, missing = load(name), without_e3nn()
    if missing:
        click.echo(f"e3nn is left out, {missing}. To have it beside: pip install e3nn")
    if plan:
        for case in cases(preset):
            click.echo(f"L = {case.L}, {case.mixing}: {case.paths:,} paths{_beside(missing, case.paths, preset)}")
        return
    command = f"python -m examples.sphere_cost --preset {name}" + (f" --out {out}" if out != OUT else "")
    facts = {"command": command, "preset": asdict(preset), "about": about(preset, missing)}
    _run(preset, facts, out / name, with_e3nn=not missing)


def _redraw(directory: Path) -> None:
    if not (directory / RESULTS).is_file():
        raise click.UsageError(f"{directory / RESULTS} does not exist. Run without --redraw first, or give --out.")
    write_pages(directory)


def _beside(missing: str | None, paths: int, preset: Preset) -> str:
    return "" if missing or paths > preset.most_paths_e3nn else ", and e3nn"


def _run(preset: Preset, facts: dict[str, Any], directory: Path, *, with_e3nn: bool) -> None:
    """Measures everything on one thread; the files have what is finished."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[Row] = []
    errors: list[LayerError] = []
    try:
        for case in cases(preset):
            rows.append(measure(case, preset, with_e3nn and case.paths <= preset.most_paths_e3nn))
            click.echo(line(rows[-1]))
            write_results(directory, {**facts, "processor_seconds": _seconds()}, rows, errors)
        for error in measure_errors(preset):
            errors.append(error)
            click.echo(f"L = {error.L}, {error.layer}: error {error.mean:.1e}")
    finally:
        torch.set_num_threads(threads)
    write_results(directory, {**facts, "processor_seconds": _seconds()}, rows, errors)
    click.echo(f"\npage:     {directory / 'results.md'}\npictures: {directory / 'results.png'}")


def _seconds() -> int:
    """Processor time of this process and those that it started."""
    return round(sum(os.times()[:4]))


def about(preset: Preset, missing: str | None) -> dict[str, str]:
    """What the page says before its tables."""
    K = preset.channels
    memory = (
        f"growth of the peak resident memory of a fresh process in one training step of {preset.memory_batch} samples, "
        "input and output counted, after a step of a single sample; to some tenths of a MB"
        if memory_is_known()
        else "not measured: it is read from Linux's /proc, which is not here"
    )
    beside = (
        f"left out, {missing}"
        if missing
        else f"{importlib.metadata.version('e3nn')}, TensorProduct and Linear; to {preset.most_paths_e3nn:,} paths"
    )
    return {
        "layers": f"{K} signals of band limit L in and out, {preset.batch} samples, float32",
        "unconstrained": "products of each channel, then one matrix for each degree over products and channels",
        "constrained": "products of each channel, then uniform, channel-wise and cross-channel maps",
        "fused": "the same as constrained, the uniform map within the product",
        "e3nn": beside,
        "time": f"of the processor, the least of {preset.rounds} runs; the layers of a row run in turns",
        "memory": memory,
        "multiply-adds": "coefficients of the products that are not zero, and numbers of the matrices; of e3nn its "
        "couplings with their zeros",
        "left out": f"layers of more than {preset.most_paths:,} paths",
        "published": "cost of the products O(L^5) of all, O(L^4) of tree, O(L^3 log L) of reduced mixing sets",
        "device": f"{processor_name()}, 1 thread, torch {torch.__version__}",
    }


if __name__ == "__main__":
    main()
