"""Code to paste: for a package, for one layer, for a test. Every snippet is run by a test of ours."""

from __future__ import annotations

from pathlib import Path

from basisgen.commands.report.read import Layer, Package
from basisgen.commands.report.words import field_type

LINE = 88


def module(directory: Path) -> str:
    """How the package is imported: `generated.tetris`, or `tetris` where the directory is not below the current one."""
    inside = not directory.is_absolute() and all(part.isidentifier() for part in directory.parts)
    return ".".join(directory.parts) if inside else directory.name


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
        f"from {module(directory)} import {layer.name}\n\n"
        f"conv = {layer.name}()  # a torch.nn.Module\n"
        f"volume = torch.randn(1, {layer.in_channels}, {volume})  # (batch, channel, x, y, z)\n"
        f"assert conv(volume).shape == (1, {layer.out_channels}, {result})\n"
    )


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
    imports = "Gate" if last.gated else "Gate, GlobalMean"
    return (
        "from torch import nn\n"
        f"{_imported(module(directory), names)}"
        f"from runtime import {imports}\n\n"
        f"model = nn.Sequential(\n{''.join(lines)}{end})\n"
    )


def test(layer: Layer, directory: Path) -> str:
    """The equivariance of one layer: exact under the turns of its grid, measured elsewhere."""
    head = f"from {module(directory)} import {layer.name}\nfrom runtime.testing import assert_equivariant\n\n"
    if len(layer.filters.grid.exact_turns(mirrors=False)) == 24:
        return head + f"print(assert_equivariant({layer.name}()))\n"
    facts = list(zip(layer.stated.size, layer.stated.spacing, layer.stated.dilation, strict=True))
    kinds = [facts.index(fact) for fact in facts]
    mirrors = "reflections=True" if layer.stated.out[0].irrep.parity is not None else ""
    spacing = ", ".join(f"{float(length):g}" for length in layer.stated.spacing)
    return (
        f"import torch\n{head.rstrip()}\nfrom runtime.so3 import cube_turns\n\n"
        f"axes = torch.tensor({kinds})  # axes of one kind may change places\n"
        f"turns = [turn for turn in cube_turns({mirrors}) if torch.equal(turn.abs() @ axes, axes)]\n"
        f"print(assert_equivariant({layer.name}(), turns=torch.stack(turns), voxel_spacing=({spacing})))\n"
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


def _imported(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    if len(line) <= LINE:
        return line
    return f"from {module} import (\n{''.join(f'    {name},' + chr(10) for name in names)})\n"
