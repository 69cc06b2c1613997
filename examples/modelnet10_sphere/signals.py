"""Shapes as signals on the sphere: what a ray meets on its way from a sphere around the grid to its centre.

    channel(u) = what the ray r u, r from RADIUS to 0, meets;    coefficients = analysis(channel at the directions)

A grid is the function that is trilinear between its voxels, solid from 1/2 on. A shape turned by r is that function
read at r^-1 x: turned before it is sampled, and nothing is interpolated twice. Directions are those of a Gauss grid of
a larger band limit than the coefficients have, so that little is aliased.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from examples.common.measure import TEST_SEED
from examples.common.progress import counted, counting
from examples.modelnet10.data import GRID, Grids, Raster, draw_rotations, resample

RADIUS = 22.0  # voxels, where rays start
SHELLS = (22.0, 17.0, 14.0, 11.0, 8.5, 6.0, 3.5, 0.0)  # voxels, bounds of the shells
CHANNELS = (
    *("distance", "hit", "exit", "entries", "innermost", "cos", "sin", "filled"),
    *(f"shell {number}" for number in range(1, len(SHELLS))),
)
BATCH = 32
POLE = (2, 0, 1)  # the pole of the sphere, y, is the vertical axis of the grids, z


@dataclass(frozen=True)
class Sampling:
    """How shapes become signals.

    limit       band limit of the coefficients
    steps       on a ray
    copies      of every training shape, each turned and stretched at random before it is sampled
    stretch     factors of the three axes of a copy, drawn from 1 - stretch to 1 + stretch
    """

    limit: int
    steps: int
    copies: int
    stretch: float = 0.0


class Sampler:
    """Signals of shapes. transform: a generated one of one signal, whose grid has the directions of the rays."""

    def __init__(self, transform: Any, sampling: Sampling) -> None:
        self.transform, self.sampling = transform, sampling
        directions = transform.directions().float()[..., POLE]  # (ring, longitude, 3)
        self.shape, self.rays = directions.shape[:2], directions.flatten(0, 1)

    @torch.no_grad()
    def __call__(self, shapes: Grids, indices: Tensor, rotations: Tensor, stretch: Tensor | None = None) -> Tensor:
        """Coefficients (shape, channel, coefficient) of shapes stretched (shape, 3), then turned (shape, 3, 3)."""
        found = []
        for numbers, turns, factors in _parts(indices, rotations, stretch):
            places = self.rays @ turns.float() / factors[:, None]  # r^-1 u (shape, ray, 3)
            found.append(self._coefficients(volumes(shapes, numbers), places))
        return torch.cat(found)

    @torch.no_grad()
    def of_turned_voxels(self, shapes: Grids, rotations: Tensor) -> Tensor:
        """The same of grids whose voxels are resampled first, turned, as volumetric networks get them."""
        found, raster = [], Raster(GRID, 1.0)
        for numbers, turns, _ in _parts(torch.arange(len(shapes)), rotations, None):
            pairs = zip(volumes(shapes, numbers).split(1), turns, strict=True)
            turned = torch.cat([resample(volume, turn, raster) for volume, turn in pairs])
            found.append(self._coefficients(turned, self.rays.expand(len(turned), -1, -1)))
        return torch.cat(found)

    def _coefficients(self, grids: Tensor, rays: Tensor) -> Tensor:
        values = meet(grids, rays, self.sampling.steps)  # (shape, channel, ray)
        counted(len(grids))
        samples = values.reshape(-1, 1, *self.shape)  # (shape and channel, 1, ring, longitude)
        packed: Tensor = self.transform.analysis(samples)
        return packed[:, : self.sampling.limit**2].unflatten(0, values.shape[:2])  # (shape, channel, coefficient)


def meet(grids: Tensor, rays: Tensor, steps: int) -> Tensor:
    """What rays meet: grids (shape, 1, x, y, z) and directions (shape, ray, 3) -> (shape, channel, ray).

    Radii are parts of RADIUS, and 0 where there is nothing. distance: of the first solid place from the centre; hit: 1
    or 0; exit: where the ray leaves that part; entries: how often it enters one; innermost: the last solid place; cos,
    sin: of the angle between the first surface's normal and the direction; filled: the solid part of the ray; shells:
    the mean of the grid on the ray, between two radii.
    """
    radii = torch.linspace(RADIUS, RADIUS / steps, steps)
    values = _read(grids, (radii[:, None, None] * rays[:, None]).flatten(1, 2)).unflatten(1, (steps, -1))
    solid = values >= 0.5  # (shape, step, ray)
    before = F.pad(solid[:, :-1], (0, 0, 1, 0))
    hit = solid.any(1)
    at = [_first(found, radii) for found in (solid, before & ~solid)]
    innermost = torch.where(hit, radii[steps - 1 - solid.flip(1).to(torch.uint8).argmax(1)], 0)
    cosine = torch.where(hit, _cosine(grids, at[0], rays), 0)
    sine = torch.where(hit, (1 - cosine.square()).clamp_min(0).sqrt(), 0)
    entries = (solid & ~before).sum(1).float()
    shells = [values[:, (radii <= outer) & (radii > inner)].mean(1) for outer, inner in pairwise(SHELLS)]
    found = [at[0] / RADIUS, hit.float(), at[1] / RADIUS, entries, innermost / RADIUS, cosine, sine, values.mean(1)]
    return torch.stack([*found, *shells], 1)  # (shape, channel, ray)


def volumes(shapes: Grids, indices: Tensor) -> Tensor:
    """The grids as they are, (shape, 1, x, y, z)."""
    bits = np.unpackbits(shapes.bits[indices].numpy(), axis=1, count=GRID**3)
    return torch.from_numpy(bits).float().reshape(-1, 1, GRID, GRID, GRID)


def signals_for_training(sampler: Sampler, shapes: Grids, kind: str) -> Tensor:
    """Copies of all shapes, (copy, shape, channel, coefficient), turned by rotations 'z' or 'SO3'; the first as it is.

    The first copy is turned, but not stretched.
    """
    generator, everything = torch.Generator().manual_seed(0), torch.arange(len(shapes))
    copies = []
    for copy in range(sampler.sampling.copies):
        rotations = draw_rotations(kind, len(shapes), shapes.up, generator)
        width = sampler.sampling.stretch if copy else 0.0
        stretch = 1 + width * (2 * torch.rand(len(shapes), 3, generator=generator) - 1)
        copies.append(sampler(shapes, everything, rotations, stretch))
    return torch.stack(copies)


def signals_for_test(sampler: Sampler, shapes: Grids, kind: str) -> Tensor:
    """All shapes (shape, channel, coefficient), each turned by a rotation 'z' or 'SO3', the same for all networks."""
    return sampler(shapes, torch.arange(len(shapes)), test_rotations(shapes, kind))


def test_rotations(shapes: Grids, kind: str) -> Tensor:
    """One rotation (3, 3) for every test shape."""
    return draw_rotations(kind, len(shapes), shapes.up, torch.Generator().manual_seed(TEST_SEED))


def cached(path: Path, sampling: Sampling, shapes: Grids, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives, from a file of an earlier case of the run if it is of the same shapes and sampling."""
    key = f"{asdict(sampling)} {CHANNELS} {SHELLS} {hashlib.sha256(shapes.bits.numpy().tobytes()).hexdigest()}"
    if path.exists():
        found = torch.load(path, weights_only=True)
        if found["key"] == key:
            signals: Tensor = found["signals"]
            return signals
    with counting(path.stem):
        signals = make()
    part = path.with_suffix(".part")
    torch.save({"key": key, "signals": signals}, part)
    part.replace(path)
    return signals


def _read(grids: Tensor, places: Tensor) -> Tensor:
    """Values of grids (shape, 1, x, y, z) at places (shape, point, 3), in voxels from the centre: (shape, point)."""
    grid = (places * 2 / grids.shape[-1]).flip(-1)[:, None, None]  # grid_sample reads at (z, y, x), -1 to 1
    return F.grid_sample(grids, grid, align_corners=False).flatten(1)  # (shape, 1, 1, 1, point) -> (shape, point)


def _first(found: Tensor, radii: Tensor) -> Tensor:
    """The radius of the first step that is found, 0 without one: (shape, step, ray) -> (shape, ray)."""
    return torch.where(found.any(1), radii[found.to(torch.uint8).argmax(1)], 0)


def _cosine(grids: Tensor, radius: Tensor, rays: Tensor) -> Tensor:
    """n . u at places (shape, ray), n the negative gradient of the grid blurred over 3^3 voxels."""
    blurred, places = F.avg_pool3d(grids, 3, 1, 1), radius.unsqueeze(-1) * rays
    steps = [_read(blurred, places - shift) - _read(blurred, places + shift) for shift in torch.eye(3)]
    return (F.normalize(torch.stack(steps, -1), dim=-1) * F.normalize(rays, dim=-1)).sum(-1)


def _parts(indices: Tensor, rotations: Tensor, stretch: Tensor | None) -> Any:
    factors = torch.ones(len(indices), 3) if stretch is None else stretch
    return zip(indices.split(BATCH), rotations.split(BATCH), factors.split(BATCH), strict=True)
