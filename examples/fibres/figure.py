"""The picture: a slice of a turned test volume, the true directions, and those every network predicts.

Colours are those of diffusion imaging: red, green and blue for the parts along x, y and z.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from examples.common.cases import OUTCOME, read_outcome
from examples.common.measure import TEST_SEED
from examples.fibres.volumes import FibreVolumes, angles, directions, render
from runtime.so3 import random_rotations

if TYPE_CHECKING:
    from examples.fibres.experiment import Preset


def draw(preset: Preset, directory: Path) -> Path:
    """Writes field.png: the first setting's networks that are finished, on one volume turned on its side.

    Returns its path.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = _trained(preset, directory)
    rotation = random_rotations(1, generator=torch.Generator().manual_seed(TEST_SEED))[0].float()
    curves = FibreVolumes(preset.raster, 1, TEST_SEED, turned=False).curves[0].turned(rotation)
    density, target, fibre = render(curves, preset.raster)
    noise = torch.randn(density.shape, generator=torch.Generator().manual_seed(TEST_SEED))
    volume = density + preset.raster.noise * noise
    middle = preset.raster.size // 2
    inside = fibre[0, :, :, middle] > 0
    truth = _slice(target, middle)
    figure, panels = pyplot.subplots(1, 2 + len(models), figsize=(3 * (2 + len(models)), 3.3), layout="constrained")
    panels[0].imshow(volume[0, :, :, middle].mT.numpy(), origin="lower", cmap="gray")
    panels[0].set_title("a slice of the volume", fontsize=10)
    _arrows(panels[1], truth, inside)
    panels[1].set_title("true directions", fontsize=10)
    for axes, (name, model) in zip(panels[2:], models.items(), strict=True):
        with torch.no_grad():
            found = _slice(model(volume[None])[0], middle)
        off = angles(found[inside], truth[inside]).mean().item()
        _arrows(axes, found, inside)
        axes.set_title(f"{name}: {off:.0f} degrees off", fontsize=10)
    for axes in panels:
        axes.set(xticks=[], yticks=[], aspect="equal")
    path = directory / "field.png"
    figure.savefig(path, dpi=90, facecolor="white")
    pyplot.close(figure)
    return path


def _slice(fields: Tensor, z: int) -> Tensor:
    """Directions (x, y, 3) in one slice of a volume (5, x, y, z)."""
    part = fields[:, :, :, z]
    return directions(part.flatten(1).mT).view(*part.shape[1:], 3)


def _arrows(axes, vectors: Tensor, inside: Tensor) -> None:
    """A headless arrow at every voxel inside; its length is that of the part in the slice."""
    x, y = inside.nonzero(as_tuple=True)
    chosen = vectors[inside]
    colours = chosen.abs().clamp(0, 1).numpy()
    axes.set_facecolor("#202020")
    axes.quiver(
        *(x.numpy(), y.numpy(), chosen[:, 0].numpy(), chosen[:, 1].numpy()),
        **{"color": colours, "pivot": "middle", "headwidth": 1, "headlength": 0, "headaxislength": 0},
        **{"scale": 1 / 1.6, "scale_units": "xy", "units": "xy", "width": 0.28},
    )
    axes.set(xlim=(-1, len(vectors)), ylim=(-1, len(vectors)))


def _trained(preset: Preset, directory: Path) -> dict[str, nn.Module]:
    """The networks of the first setting and seed 0 that have been trained, with their weights."""
    from examples.fibres.experiment import SETTINGS, build
    from examples.fibres.networks import StructureTensor

    models: dict[str, nn.Module] = {}
    for path in sorted(directory.glob(f"*/{OUTCOME}")):
        case = read_outcome(path).case
        if (case.setting, case.seed) != (next(iter(SETTINGS)), 0) or case.network not in preset.networks:
            continue
        network = preset.networks[case.network]
        weights = torch.load(path.parent / "weights.pt", weights_only=True)
        model = StructureTensor(*weights["widths"].tolist()) if network.kind == "structure-tensor" else build(network)
        model.load_state_dict(weights)
        models[case.network] = model.eval()
    return {name: models[name] for name in preset.networks if name in models}
