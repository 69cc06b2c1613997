"""The files of a run, results.json, results.md and results.png, written whenever a row is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from basisgen.files import write_file
from basisgen.spheres.mixing import Mixing
from examples.common.results import COLOURS, RESULTS, table
from examples.sphere_cost.errors import PUBLISHED, LayerError
from examples.sphere_cost.layers import E3NN, OURS
from examples.sphere_cost.measure import Row

TITLE = "Cost of a layer of products on the sphere"
QUANTITIES = {  # key -> heading, unit of the picture, text of a number
    "multiply_adds": ("Multiply-adds of one sample", "multiply-adds of one sample", lambda n: f"{n:,}"),
    "forward_ms": ("Forward pass, milliseconds", "forward pass, ms", lambda ms: f"{ms:.2f}"),
    "step_ms": ("Training step, milliseconds", "training step, ms", lambda ms: f"{ms:.2f}"),
    "bytes": ("Peak memory of a training step, MB", "peak memory of a training step, MB", lambda b: f"{b / 1e6:.1f}"),
}
STYLES = {
    "unconstrained": {"marker": "o", "linestyle": "-"},
    "constrained": {"marker": "s", "linestyle": "--"},
    "fused": {"marker": "^", "linestyle": "-."},
    E3NN: {"marker": "x", "linestyle": ":"},
}


def write_results(directory: Path, facts: dict[str, Any], rows: Sequence[Row], errors: Sequence[LayerError]) -> None:
    """The three files. facts: as `results.json` has them, `command` and `preset` among them."""
    directory.mkdir(parents=True, exist_ok=True)
    content = {"title": TITLE, **facts, "rows": list(rows), "errors": [asdict(error) for error in errors]}
    write_file(directory / RESULTS, json.dumps(content, indent=1) + "\n")
    write_pages(directory)


def write_pages(directory: Path) -> None:
    """Page and picture, of the results.json of a directory."""
    facts = json.loads((directory / RESULTS).read_text("utf-8"))
    rows, errors = facts["rows"], [LayerError(**error) for error in facts["errors"]]
    write_file(directory / "results.md", markdown(facts, rows, errors))
    draw(rows, directory / "results.png")


def markdown(facts: dict[str, Any], rows: Sequence[Row], errors: Sequence[LayerError]) -> str:
    """The results as a page: what was measured, a table for each quantity, the errors beside those published."""
    lines = [f"# {TITLE}", "", f"    {facts['command']}", ""]
    lines += [f"* {name}: {value}" for name, value in facts["about"].items()]
    lines += [f"* this run: {facts['processor_seconds']} s of processor time"]
    for key, (heading, _, text) in QUANTITIES.items():
        lines += _section(heading, quantity_table(rows, key, text))
    lines += _section("Training step of e3nn over ours", ratio_table(rows))
    if errors:
        lines += _section("Equivariance error, mean over random signals and rotations, float32", error_table(errors))
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    """A row for a terminal."""
    parts = [f"{way} {found['forward_ms']:.2f} and {found['step_ms']:.2f} ms" for way, found in row["layers"].items()]
    beside = f"; e3nn's numbers differ by {row['difference']:.0e}" if "difference" in row else ""
    return f"L = {row['L']}, {row['mixing']}, {row['paths']:,} paths: {', '.join(parts)}{beside}"


def _section(heading: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {heading}", "", *lines]


def quantity_table(rows: Sequence[Row], key: str, text: Callable[[Any], str]) -> list[str]:
    """A row for every mixing set and layer, a column for every band limit, and the growth to the last from its half."""
    limits, lines = _limits(rows), []
    for mixing, way in _layers(rows):
        values = _values(rows, mixing, way, key)
        cells = [text(values[L]) if L in values else "" for L in limits]
        lines.append([mixing, way, *cells, _exponent(values)])
    return table([["mixing set", "layer", *(f"L = {L}" for L in limits), "grows as L to the"], *lines])


def ratio_table(rows: Sequence[Row]) -> list[str]:
    """How many times as long e3nn's layer takes as each of ours, same paths."""
    limits, lines = _limits(rows), []
    for mixing, way in _layers(rows):
        theirs = _values(rows, mixing, E3NN, "step_ms")
        if way != E3NN and theirs:
            ours = _values(rows, mixing, way, "step_ms")
            lines.append([mixing, way, *(f"{theirs[L] / ours[L]:.1f}" if L in theirs else "" for L in limits)])
    return table([["mixing set", "layer", *(f"L = {L}" for L in limits)], *lines])


def error_table(errors: Sequence[LayerError]) -> list[str]:
    """A row for every layer: the mean error at each band limit, and what was published."""
    limits = sorted({error.L for error in errors})
    mean = {(error.layer, error.L): error.mean for error in errors}
    kinds = {error.layer: error.kind for error in errors}
    lines = [
        [layer, _figure(PUBLISHED[kind]), *(_figure(mean[layer, L]) if (layer, L) in mean else "" for L in limits)]
        for layer, kind in kinds.items()
    ]
    return table([["layer", "published", *(f"L = {L}" for L in limits)], *lines])


def _figure(error: float) -> str:
    return f"{error:.3f}" if error >= 1e-3 else f"{error:.1e}"


def _limits(rows: Sequence[Row]) -> list[int]:
    return sorted({row["L"] for row in rows})


def _layers(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Mixing sets and layers that were measured at all, in one order."""
    there = {(row["mixing"], way) for row in rows for way in row["layers"]}
    return [(m.value, way) for m in Mixing for way in (*OURS, E3NN) if (m.value, way) in there]


def _values(rows: Sequence[Row], mixing: str, way: str, key: str) -> dict[int, Any]:
    """L -> a quantity of a layer, where it was measured."""
    own = [(row["L"], row["layers"].get(way, {}).get(key)) for row in rows if row["mixing"] == mixing]
    return {L: value for L, value in own if value is not None}


def _exponent(values: dict[int, Any]) -> str:
    if len(values) < 2:
        return ""
    b = max(values)
    a = b // 2 if b // 2 in values else sorted(values)[-2]  # `reduced` gains a product only where L doubles
    return f"{math.log(values[b] / values[a]) / math.log(b / a):.1f}" if min(values[a], values[b]) > 0 else ""


def draw(rows: Sequence[Row], path: Path) -> None:
    """A PNG: a panel for each quantity against L, both axes logarithmic; colours are mixing sets, lines are layers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker
    from matplotlib.lines import Line2D

    limits = _limits(rows)
    colours = dict(zip((mixing.value for mixing in Mixing), COLOURS, strict=False))
    figure, panels = pyplot.subplots(2, 2, figsize=(9, 8), layout="constrained")
    for axes, (key, (_, label, _)) in zip(panels.flat, QUANTITIES.items(), strict=True):
        for mixing, way in _layers(rows):
            values = _values(rows, mixing, way, key)
            points = [(L, value / (1e6 if key == "bytes" else 1)) for L, value in sorted(values.items())]
            if points:
                look = {**STYLES[way], "color": colours[mixing], "markersize": 4, "linewidth": 1.1}
                axes.plot(*zip(*points, strict=True), **look)
        axes.set(xscale="log", yscale="log", xlabel="band limit L", ylabel=label)
        axes.set_xticks(limits, [str(L) for L in limits])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=colour, linewidth=3, label=name) for name, colour in colours.items()]
    ways = [way for way in STYLES if any(way in row["layers"] for row in rows)]
    handles += [Line2D([], [], **STYLES[way], color="0.3", label=way) for way in ways]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    figure.savefig(path, dpi=100, facecolor="white", metadata={"Software": None})
    pyplot.close(figure)
