"""Tasks for whole networks. Those made in code are known in every orientation: turning them interpolates nothing.

    shapes      which of eight skeletons of Gaussian balls: four flat letters, two helices that mirror one another, ...
    textures    which of three textures at every voxel: blobs, sheets, fibres; the last two have a direction
    modelnet10  which of ten kinds of furniture; occupancy grids, read from the file the user names

Upright: shapes as they are listed, sheets across z and fibres along x, within some degrees; furniture as it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from runtime import voxelize
from runtime.so3 import random_rotations

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]  # rotations (sample, 3, 3) -> volumes and labels, turned so


@dataclass(frozen=True)
class Task:
    """What a network is to learn.

    `train` and `test` give volumes (sample, 1, x, y, z) and classes, of each sample or of each voxel, for a rotation of
    each sample.
    """

    name: str
    classes: int
    size: int  # voxels along each axis
    voxelwise: bool
    train: Draw
    test: Draw
    samples: int  # to train on
    tested: int


def shapes(samples: int, tested: int = 400, size: int = 17) -> Task:
    """Skeletons of random size, bent at random, off the centre at random, in noise."""
    return Task(
        "shapes", len(SKELETONS), size, False, _shapes(samples, size, 0), _shapes(tested, size, 1), samples, tested
    )


def textures(samples: int, tested: int = 40, size: int = 16) -> Task:
    """Volumes cut into cells, each filled with a texture of random wavelength and direction, in noise."""
    return Task("textures", 3, size, True, _textures(samples, size, 0), _textures(tested, size, 1), samples, tested)


def modelnet10(path: Path, samples: int, tested: int = 908, size: int = 17) -> Task:
    """Blurred occupancy grids. `samples` of the 3,984 to train on, evenly from the list, which goes by classes."""
    from examples.modelnet10.data import Raster, load

    train, test = load(path, Raster(size, 40 / size, 0.75))

    def draw(split: object, indices: Tensor) -> Draw:
        def drawn(rotations: Tensor) -> tuple[Tensor, Tensor]:
            turned = [split.volume(i, r) for i, r in zip(indices.tolist(), rotations, strict=True)]  # type: ignore[attr-defined]
            return torch.stack(turned), split.labels[indices]  # type: ignore[attr-defined]

        return drawn

    some, all_tested = (
        torch.linspace(0, len(s) - 1, min(n, len(s))).long() for s, n in ((train, samples), (test, tested))
    )
    return Task("modelnet10", 10, size, False, draw(train, some), draw(test, all_tested), len(some), len(all_tested))


def upright(count: int) -> Tensor:
    """(count, 3, 3): no rotation."""
    return torch.eye(3).expand(count, 3, 3)


def turned(count: int, seed: int) -> Tensor:
    """(count, 3, 3): uniform rotations."""
    return random_rotations(count, generator=torch.Generator().manual_seed(seed)).float()


def _line(*corners: tuple[float, float, float], points: int = 40) -> Tensor:
    """Points (point, 3) evenly along a polyline."""
    knots = torch.tensor(corners, dtype=torch.float32)
    lengths = (knots[1:] - knots[:-1]).norm(dim=1).cumsum(0)
    at = torch.linspace(0, float(lengths[-1]), points)
    piece = torch.bucketize(at, lengths[:-1])
    start = torch.cat([torch.zeros(1), lengths])[piece]
    share = ((at - start) / (lengths[piece] - start))[:, None]
    return knots[piece] * (1 - share) + knots[piece + 1] * share


def _helix(hand: int, points: int = 40) -> Tensor:
    angle = torch.linspace(-1.5 * math.pi, 1.5 * math.pi, points)
    return torch.stack([0.6 * angle.cos(), hand * 0.6 * angle.sin(), angle / (1.5 * math.pi)], 1)


SKELETONS = (
    _line((-0.6, 0, 1), (-0.6, 0, -1), (0.6, 0, -1)),  # L
    torch.cat([_line((-0.8, 0, 1), (0.8, 0, 1), points=20), _line((0, 0, 1), (0, 0, -1), points=20)]),  # T
    _line((0.6, 0, 1), (-0.6, 0, 1), (0.6, 0, -1), (-0.6, 0, -1)),  # Z
    _line((-0.6, 0, 1), (-0.6, 0, -1), (0.6, 0, -1), (0.6, 0, 1)),  # U
    torch.cat([_line((-0.8, 0, 0), (0.8, 0, 0), points=20), _line((0, 0, 1), (0, 0, -1), points=20)]),  # +
    _helix(1),
    _helix(-1),
    _line((-0.6, 0, 1), (-0.6, 0, -1), (0.6, 0, -1), (0.6, 0.9, -1)),  # L with a foot
)
SHAPE_NOISE = 0.25


def _shapes(count: int, size: int, seed: int) -> Draw:
    generator = torch.Generator().manual_seed(1000 + seed)
    labels = torch.arange(count) % len(SKELETONS)
    points = torch.stack([SKELETONS[label] for label in labels])  # (sample, point, 3)
    points = points - points.mean(1, keepdim=True)
    scale = 0.27 * size * (0.8 + 0.5 * torch.rand(count, 1, 3, generator=generator))  # along each axis its own
    bend = 0.15 * torch.randn(count, 3, 3, generator=generator)
    points = scale * (points + points.square() @ bend) + 0.25 * torch.randn(points.shape, generator=generator)
    shift = 1.0 * torch.randn(count, 1, 3, generator=generator)

    def draw(rotations: Tensor) -> tuple[Tensor, Tensor]:
        places = points @ rotations.mT + shift  # turned about the shape's own centre
        kinds = torch.zeros(places.shape[:2], dtype=torch.long)
        volumes = torch.cat(
            [
                voxelize(p, k, channels=1, size=size, sigma=0.8)
                for p, k in zip(places.split(64), kinds.split(64), strict=True)
            ]
        )
        return 4 * volumes + SHAPE_NOISE * torch.randn(volumes.shape, generator=generator), labels

    return draw


TEXTURE_NOISE = 0.7


def _textures(count: int, size: int, seed: int) -> Draw:
    generator = torch.Generator().manual_seed(2000 + seed)
    cells = 4
    seeds = (torch.rand(count, cells, 3, generator=generator) - 0.5) * 0.9 * size
    kinds = torch.randint(3, (count, cells), generator=generator)
    tilt = 0.15 * torch.randn(count, cells, 3, 3, generator=generator)
    frames = torch.linalg.qr(torch.eye(3) + tilt).Q
    frames = frames * torch.linalg.diagonal(frames).sign()[..., None, :]
    wavelength = 4.5 + 2 * torch.rand(count, cells, generator=generator)
    phase = 2 * math.pi * torch.rand(count, cells, 3, generator=generator)
    axis = torch.arange(size) - (size - 1) / 2
    voxels = torch.cartesian_prod(axis, axis, axis)

    def draw(rotations: Tensor) -> tuple[Tensor, Tensor]:
        volumes, labels = [], []
        for n, rotation in enumerate(rotations):
            places = voxels @ rotation.float()  # r^-1 x, the place in the upright volume
            cell = torch.cdist(places, seeds[n]).argmin(1)
            kind = kinds[n][cell]
            local = torch.einsum("vij,vj->vi", frames[n][cell], places)
            waves = (2 * math.pi * local / wavelength[n][cell][:, None] + phase[n][cell]).cos()  # (voxel, axis)
            x, y, z = waves.unbind(1)
            blobs, sheets, fibres = (x + y + z) / 3**0.5, z, (y + z) / 2**0.5
            values = torch.stack([blobs, sheets, fibres], 1).gather(1, kind[:, None])[:, 0]
            volumes.append(values.view(1, size, size, size))
            labels.append(kind.view(size, size, size))
        clean = 2**0.5 * torch.stack(volumes)
        return clean + TEXTURE_NOISE * torch.randn(clean.shape, generator=generator), torch.stack(labels)

    return draw
