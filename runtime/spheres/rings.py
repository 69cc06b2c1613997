"""Samples on rings of one latitude: panoramas, maps of longitude and latitude, the grids of transforms.

Samples are (..., ring, longitude): ring t at colatitude theta_t from the pole, increasing; sample k of n at longitude
first + 2 pi k / n, eastward. The point is (sin theta sin phi, cos theta, sin theta cos phi): pole y, longitude 0 along
z, as the harmonics of `runtime.so3` have them.
"""

import math

import torch
from torch import Tensor

from ..so3 import random_rotations


def directions(colatitudes: Tensor, samples: int, first: float = 0.0) -> Tensor:
    """Unit vectors (ring, longitude, 3) of the samples."""
    theta = colatitudes.unsqueeze(-1)
    phi = first + 2 * math.pi / samples * torch.arange(samples, dtype=theta.dtype, device=theta.device)
    sine = theta.sin()
    return torch.stack([sine * phi.sin(), theta.cos().expand(-1, samples), sine * phi.cos()], -1)


def panorama_rings(height: int, *, poles: bool = False, dtype: torch.dtype = torch.float64) -> Tensor:
    """Colatitudes (ring,) of the rows of a panorama, north first.

    poles: the first and the last row are the poles, as in many climate data; else rows are centred in equal bands.
    """
    rows = torch.arange(height, dtype=dtype)
    return math.pi * rows / (height - 1) if poles else math.pi * (rows + 0.5) / height


def interpolate(samples: Tensor, colatitudes: Tensor, points: Tensor, first: float = 0.0) -> Tensor:
    """Values at unit vectors, bilinear in colatitude and longitude, across the poles too.

    samples: (..., ring, longitude). points: (*shape, 3). Returns (..., *shape), with gradients to the samples.
    """
    rings, count = samples.shape[-2:]
    points = points.to(colatitudes)
    colatitude = torch.atan2(points[..., 0::2].norm(dim=-1), points[..., 1])
    longitude = torch.atan2(points[..., 0], points[..., 2]) - first
    # rings 0 and rings + 1 are the nearest ones seen over the pole, half a turn away
    around = torch.cat([-colatitudes[:1], colatitudes, 2 * math.pi - colatitudes[-1:]])
    below = torch.searchsorted(around, colatitude.contiguous(), right=True).clamp(1, rings + 1) - 1
    step = around[below + 1] - around[below]
    share = ((colatitude - around[below]) / step.clamp_min(1e-12)).clamp(0, 1)
    flat = samples.flatten(-2)  # (..., ring and longitude)
    values = [_along(flat, ring, longitude, rings, count) for ring in (below, below + 1)]
    share = share.to(samples)
    return values[0] * (1 - share) + values[1] * share


def _along(flat: Tensor, ring: Tensor, longitude: Tensor, rings: int, count: int) -> Tensor:
    """Linear along one ring of (..., ring * longitude); rings are numbered from the one before the first."""
    over_a_pole = (ring == 0) | (ring == rings + 1)
    place = torch.where(over_a_pole, longitude + math.pi, longitude) * (count / (2 * math.pi))
    start = (ring - 1).clamp(0, rings - 1) * count
    left = place.floor()
    share = (place - left).to(flat)
    k = left.long()
    return flat[..., start + k % count] * (1 - share) + flat[..., start + (k + 1) % count] * share


def area_means(
    samples: Tensor,
    colatitudes: Tensor,
    to_colatitudes: Tensor,
    to_samples: int,
    first: float = 0.0,
) -> Tensor:
    """Means over the cells of a coarser grid, true to area: the integral over the sphere stays as it is.

    Every sample stands for a cell, bounded half-way to its neighbours. A cell of the result is the mean of the cells it
    covers, weighted by the area covered. Use `interpolate` where the result is the finer one.

    samples: (..., ring, longitude) at longitudes first + 2 pi k / n; the result has its longitudes from 0. Returns
    (..., ring of to_colatitudes, to_samples).
    """
    rings = _ring_overlaps(colatitudes, to_colatitudes).to(samples)
    longitudes = _longitude_overlaps(samples.shape[-1], to_samples, first).to(samples)
    return rings @ samples @ longitudes.mT  # (ring out, ring) @ (..., ring, longitude) @ (longitude, longitude out)


def cell_areas(colatitudes: Tensor, samples: int) -> Tensor:
    """Areas (ring,) of one cell of each ring; all cells together are the sphere, 4 pi."""
    edges = _edges(colatitudes)
    return (edges[:-1].cos() - edges[1:].cos()) * (2 * math.pi / samples)


def rotate_samples(samples: Tensor, colatitudes: Tensor, rotation: Tensor) -> Tensor:
    """Samples turned by interpolation: values of f(r^-1 u) on the same grid.

    samples: (batch, ..., ring, longitude). rotation: (3, 3), or (batch, 3, 3) for one per sample. For coefficients,
    `rotate_signal` is exact.
    """
    grid = directions(colatitudes, samples.shape[-1])
    rotation = rotation.to(grid)
    if rotation.ndim == 2:
        return interpolate(samples, colatitudes, grid @ rotation)  # rows u^T r are r^-1 u
    # (ring, longitude, 3) @ (3, 3)
    turned = [interpolate(one, colatitudes, grid @ r) for one, r in zip(samples, rotation, strict=True)]
    return torch.stack(turned) if turned else samples


def randomly_rotated(samples: Tensor, colatitudes: Tensor) -> Tensor:
    """Augmentation: every sample of the batch turned by a different rotation, by interpolation."""
    return rotate_samples(samples, colatitudes, random_rotations(samples.shape[0]))


def _edges(colatitudes: Tensor) -> Tensor:
    """Bounds (ring + 1,) of the rings' cells: half-way between rings, and the poles."""
    middle = (colatitudes[1:] + colatitudes[:-1]) / 2
    return torch.cat([middle.new_zeros(1), middle, middle.new_full((1,), math.pi)])


def _ring_overlaps(source: Tensor, target: Tensor) -> Tensor:
    """(ring of target, ring of source): the share of a target cell's area that each source ring covers."""
    old, new = -_edges(source).cos(), -_edges(target).cos()  # heights: equal heights are equal areas
    return _shares(old, new)


def _longitude_overlaps(source: int, target: int, first: float) -> Tensor:
    """(sample of target, sample of source): the share of a target cell that each source cell covers."""
    old = torch.arange(-2 * source, 2 * source + 1, dtype=torch.float64) - 0.5  # four turns, to cover every place
    old = first % (2 * math.pi) / (2 * math.pi) + old / source
    new = (torch.arange(target + 1, dtype=torch.float64) - 0.5) / target
    return torch.unflatten(_shares(old, new), 1, (4, source)).sum(1)  # (target, turn, source) -> (target, source)


def _shares(old: Tensor, new: Tensor) -> Tensor:
    low = torch.maximum(new[:-1, None], old[:-1])
    high = torch.minimum(new[1:, None], old[1:])
    return (high - low).clamp_min(0) / (new[1:] - new[:-1]).clamp_min(1e-15)[:, None]
