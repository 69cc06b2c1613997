"""The eight shapes of four cubes, two of them mirror images, as volumes in any orientation.

    volume(x) = integral of the rotated shape's indicator times a Gaussian of width `blur` around x

A Gaussian is the same in every frame, so in the shape's own frame the integral over a cube is a product of three
differences of error functions: exact at every voxel centre, with no interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime import so3

SHAPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "left screw": ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)),
    "right screw": ((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)),
    "square": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
    "line": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)),
    "corner": ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "L": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)),
    "T": ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)),
    "S": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)),
}


@dataclass(frozen=True)
class Raster:
    """How shapes become volumes: `size` voxels per axis, cubes of `cell` voxels, a Gaussian blur of `blur` voxels."""

    size: int
    cell: float
    blur: float


def render(
    rotations: Tensor, raster: Raster, *, shapes: Sequence[str] = tuple(SHAPES), shift: Tensor | None = None
) -> Tensor:
    """Shapes in all orientations, (rotation, shape, x, y, z), about their centres of mass; rotations (n, 3, 3).

    shift: (3), where the centres of mass lie, in voxels from the centre of the volume; there by default.
    """
    axis = torch.arange(raster.size) - (raster.size - 1) / 2
    voxels = torch.cartesian_prod(axis, axis, axis) - (torch.zeros(3) if shift is None else shift)  # (voxel, 3)
    volumes = torch.empty(len(rotations), len(shapes), raster.size**3)
    for volume, rotation in zip(volumes, rotations, strict=True):
        own_frame = voxels @ rotation.to(voxels.dtype) / raster.cell  # r^-1 x, in cells
        for row, shape in zip(volume, shapes, strict=True):
            centres = torch.tensor(SHAPES[shape], dtype=voxels.dtype)
            row.copy_(_blurred_cubes(own_frame, centres - centres.mean(dim=0), raster.blur / raster.cell))
    return volumes.view(len(rotations), len(shapes), *[raster.size] * 3)


def random_rotations(count: int, seed: int) -> Tensor:
    """Uniform random rotations, float32 (count, 3, 3)."""
    return so3.random_rotations(count, generator=torch.Generator().manual_seed(seed)).float()


def _blurred_cubes(points: Tensor, centres: Tensor, blur: float) -> Tensor:
    """The blurred indicator of unit cubes at points (point, 3): values (point)."""
    total = torch.zeros(len(points))
    for centre in centres:
        distance = points - centre  # (point, 3)
        edges = [torch.erf((distance + side) / (blur * math.sqrt(2))) for side in (0.5, -0.5)]
        total += ((edges[0] - edges[1]) / 2).prod(dim=1)
    return total
