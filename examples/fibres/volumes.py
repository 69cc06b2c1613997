"""Synthetic volumes of curved fibres, known at every point of space, so that they turn without interpolation.

    a fibre      p(s) = c + s t + s^2/2 k n,    t, n unit vectors, n perpendicular to t, |s| up to the volume's diameter
    density(x) = exp(-d(x)^2 / (2 radius^2)),   d: distance to the nearest fibre; plus white noise
    target(x)  = Y_2(tangent of the nearest fibre), the degree-2 part of tangent tangent^T, which has no sign

Lengths are in voxels, places relative to the centre of the volume.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from runtime.so3 import random_rotations, spherical_harmonics

STEP = 0.5  # between points of a fibre, in voxels


@dataclass(frozen=True)
class Raster:
    """How volumes are made: voxels per axis; fibres per volume, their radius, curvature (1 / voxels) and noise.

    cone: in degrees, the largest angle between a fibre's middle and the z axis, before the volume is turned.
    noise: standard deviation, where the middle of a fibre has the density 1.
    """

    size: int
    fibres: int
    radius: float
    curvature: float
    cone: float
    noise: float


@dataclass(frozen=True)
class Curves:
    """The fibres of one volume as points (point, 3) with unit tangents (point, 3)."""

    points: Tensor
    tangents: Tensor

    def turned(self, rotation: Tensor) -> Curves:
        """The same fibres turned about the centre of the volume."""
        matrix = rotation.to(self.points).mT
        return Curves(self.points @ matrix, self.tangents @ matrix)

    def inside(self, radius: float) -> Curves:
        """The points within a ball about the centre."""
        near = self.points.norm(dim=1) < radius
        return Curves(self.points[near], self.tangents[near])


def draw_curves(raster: Raster, generator: torch.Generator) -> Curves:
    """Random fibres through the ball about the volume, so that the volume is filled in every orientation."""
    ball = raster.size * 3**0.5 / 2
    centres = F.normalize(torch.randn(raster.fibres, 3, generator=generator), dim=1)
    centres = ball * centres * torch.rand(raster.fibres, 1, generator=generator) ** (1 / 3)
    lowest = torch.cos(torch.deg2rad(torch.tensor(raster.cone)))
    z = 1 - (1 - lowest) * torch.rand(raster.fibres, generator=generator)
    azimuth = 2 * torch.pi * torch.rand(raster.fibres, generator=generator)
    flat = (1 - z.square()).sqrt()
    tangents = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), z], 1)
    normals = torch.linalg.cross(tangents, torch.randn(raster.fibres, 3, generator=generator))
    bends = raster.curvature * F.normalize(normals, dim=1) * torch.rand(raster.fibres, 1, generator=generator)
    s = torch.arange(-ball, ball, STEP)[None, :, None]  # (1, point, 1)
    points = centres[:, None] + s * tangents[:, None] + s**2 / 2 * bends[:, None]
    along = F.normalize(tangents[:, None] + s * bends[:, None], dim=2)
    return Curves(points.flatten(0, 1), along.flatten(0, 1)).inside(ball + 2)


def render(curves: Curves, raster: Raster) -> tuple[Tensor, Tensor, Tensor]:
    """Density (1, x, y, z) without noise, target (5, x, y, z), and where fibres are, (1, x, y, z) of 0 and 1."""
    size = raster.size
    axis = torch.arange(size) - (size - 1) / 2
    voxels = torch.cartesian_prod(axis, axis, axis)
    parts = [torch.cdist(part, curves.points).min(dim=1) for part in voxels.split(4096)]
    distance = torch.cat([part.values for part in parts])
    nearest = torch.cat([part.indices for part in parts])
    density = torch.exp(-distance.square() / (2 * raster.radius**2)).view(1, size, size, size)
    target = spherical_harmonics(2, curves.tangents[nearest]).mT.reshape(5, size, size, size)
    return density, target, (distance < raster.radius).float().view(1, size, size, size)


class FibreVolumes(Dataset[tuple[Tensor, Tensor]]):
    """Noisy volumes (1, x, y, z), with new noise at every draw, and labels (6, x, y, z): target and where fibres are.

    turned: each volume in a different random orientation, drawn once; else its fibres lie within the cone about z.
    """

    def __init__(self, raster: Raster, count: int, seed: int, *, turned: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.noise = raster.noise
        self.curves = [draw_curves(raster, generator) for _ in range(count)]
        if turned:
            rotations = random_rotations(count, generator=generator)
            self.curves = [curves.turned(r) for curves, r in zip(self.curves, rotations, strict=True)]
        self._rendered = [render(curves, raster) for curves in self.curves]

    def __len__(self) -> int:
        return len(self.curves)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """A volume and its label."""
        density, target, fibre = self._rendered[index]
        return density + self.noise * torch.randn_like(density), torch.cat([target, fibre])


def tensor_error(output: Tensor, label: Tensor) -> Tensor:
    """The loss: mean over the voxels in fibres of |output - target|^2; label (batch, 6, x, y, z)."""
    fibre = label[:, 5]
    return ((output - label[:, :5]).square().sum(1) * fibre).sum() / fibre.sum()


def directions(components: Tensor) -> Tensor:
    """The unit vectors (point, 3) whose Y_2 is nearest to degree-2 components (point, 5); their sign means nothing.

    Y_2m(u) = u^T A_m u, so the nearest u is the eigenvector of sum_m f_m A_m with the largest eigenvalue.
    """
    matrices = torch.einsum("pm,mij->pij", components.double(), harmonic_matrices())
    return torch.linalg.eigh(matrices).eigenvectors[..., -1].to(components.dtype)


def harmonic_matrices() -> Tensor:
    """A_m with Y_2m(u) = u^T A_m u: float64 (5, 3, 3), symmetric without trace."""
    axes = torch.eye(3, dtype=torch.float64)
    values = spherical_harmonics(2, axes)  # (3, 5)
    matrices = torch.diag_embed(values.mT)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        between = spherical_harmonics(2, ((axes[i] + axes[j]) / 2**0.5)[None])[0] - (values[i] + values[j]) / 2
        matrices[:, i, j] = matrices[:, j, i] = between
    return matrices


def angles(first: Tensor, second: Tensor) -> Tensor:
    """Degrees (point) between the lines along unit vectors (point, 3), from 0 to 90."""
    return torch.rad2deg(torch.acos((first * second).sum(1).abs().clamp(max=1)))


def at_points(fields: Tensor, points: Tensor) -> Tensor:
    """Values (point, channel) of a volume of fields (channel, x, y, z) at places in it, trilinear."""
    sizes = torch.tensor(fields.shape[1:], dtype=points.dtype)
    grid = (2 * points / sizes).flip(1).view(1, 1, 1, -1, 3)  # grid_sample reads at (z, y, x), -1 to 1 over the size
    return F.grid_sample(fields[None], grid.to(fields), align_corners=False)[0, :, 0, 0].mT
