"""Code to paste: for a package, for one layer, for a test. Every snippet is run by a test of ours."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from basisgen.commands.report.error import TESTED
from basisgen.commands.report.read import Layer, Package
from basisgen.commands.report.words import field_type
from basisgen.layer import LayerSpec

LINE = 88


def imports(directory: Path, names: Sequence[str]) -> str:
    """The lines that import from the package in a directory, in a script that runs where the report was written.

    Below the current directory a package is `generated.tetris`; elsewhere its parent goes into the search path first.
    """
    place = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
    parts = place.parts
    if parts and all(map(_importable, parts)) and parts[0] not in sys.stdlib_module_names:
        return _from(".".join(parts), names)
    parent = f"import sys\n\nsys.path.insert(0, {place.parent.as_posix()!r})  # where the package lies\n"
    name = place.resolve().name
    if not _importable(name):
        parent += f"# {name!r} is not a name that Python can import: rename the directory first\n"
        name = re.sub(r"\W|^(?=\d)", "_", name, flags=re.ASCII)
    return parent + _from(name, names)


def layer(layer: Layer, directory: Path) -> str:
    """One layer on a random volume."""
    size = [
        2 * dilation * (taps - 1) + 5 for taps, dilation in zip(layer.stated.size, layer.stated.dilation, strict=True)
    ]
    out = [
        n - dilation * (taps - 1) % 2
        for n, taps, dilation in zip(size, layer.stated.size, layer.stated.dilation, strict=True)
    ]
    volume, result = (", ".join(map(str, shape)) for shape in (size, out))
    return (
        "import torch\n"
        f"{imports(directory, [layer.name])}\n"
        f"conv = {layer.name}()  # a torch.nn.Module\n"
        f"volume = torch.randn(1, {layer.in_channels}, {volume})  # (batch, channel, x, y, z)\n"
        f"assert conv(volume).shape == (1, {layer.out_channels}, {result})\n"
    )


def field_layer(spec: LayerSpec, directory: Path) -> str:
    """One layer between fields on random ones; a transform forth and back."""
    second = getattr(spec, "second", None)
    shapes = [f"torch.randn(2, {field.dimension})" for field in (spec.into, *([second] if second else []))]
    head = f"import torch\n{imports(directory, [spec.name])}\nlayer = {spec.name}()  # a torch.nn.Module\n"
    names = ["field", "second"][: len(shapes)]
    fields = "".join(f"{name} = {shape}  # (batch, channel)\n" for name, shape in zip(names, shapes, strict=True))
    if spec.kind == "transform":
        axes = "theta, phi" if getattr(spec, "N", None) is None else "beta, alpha, gamma"
        use = f"samples = layer(field)  # (batch, signal, {axes})\n"
        return f"{head}{fields}{use}assert torch.allclose(layer.analysis(samples), field, atol=1e-4)\n"
    return f"{head}{fields}assert layer({', '.join(names)}).shape == (2, {spec.gives.dimension})\n"


def network(package: Package, directory: Path) -> str | None:
    """All layers in their order, gates between; None where one does not fit the next."""
    *hidden, last = package.layers
    fits = all(
        before.gated and before.stated.asked == after.stated.into
        for before, after in zip(hidden, package.layers[1:], strict=True)
    )
    if not hidden or not fits:
        return None
    names = [entry.name for entry in package.layers]
    lines = [f"    {entry.name}(), Gate({entry.name}.out_type),\n" for entry in hidden]
    end = f"    {last.name}(), " + (
        f"Gate({last.name}.out_type),\n" if last.gated else f"GlobalMean({last.name}.out_type),\n"
    )
    layers = "Gate" if last.gated else "Gate, GlobalMean"
    return (
        "from torch import nn\n"
        f"{imports(directory, names)}"
        f"from basisgen_runtime import {layers}\n\n"
        f"example = nn.Sequential(\n{''.join(lines)}{end})\n"
    )


def test(layer: Layer, directory: Path) -> str:
    """The equivariance of one layer: exact under the turns of its grid, measured elsewhere."""
    longest = float(max(layer.stated.spacing))
    lengths = ", ".join(f"{wavelength * longest:g}" for wavelength in TESTED)
    return (
        imports(directory, [layer.name])
        + "from basisgen_runtime.testing import assert_equivariant\n\n"
        + f"print(assert_equivariant({layer.name}(), wavelengths=({lengths})))\n"
    )


def compare(layer: Layer) -> str:
    """The command that shows what other families and sizes would do."""
    command = f'basisgen defect "{field_type(layer.stated.into)}" "{field_type(layer.stated.asked)}"'
    command += " --gated" if layer.gated else ""
    for option, values, default in (
        ("--kernel-size", layer.stated.size, None),
        ("--voxel-spacing", layer.stated.spacing, 1),
        ("--dilation", layer.stated.dilation, 1),
    ):
        if set(values) != {default}:
            command += f" {option} {','.join(map(str, values[:1] if len(set(values)) == 1 else values))}"
    return command


def _importable(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def _from(module: str, names: Sequence[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    if len(line) <= LINE:
        return line
    return f"from {module} import (\n{''.join(f'    {name},' + chr(10) for name in names)})\n"
