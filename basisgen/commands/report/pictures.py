"""Pictures without a drawing library: slices as PNG, arrows and radial profiles as SVG, on light and dark pages alike.

Positive is orange, negative blue; the largest magnitude of a picture is opaque, zero a faint grey.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from basisgen.volumes.sampling.defect import unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid

Array = NDArray[np.float64]

MOST_SLICES = 9
_POSITIVE, _NEGATIVE, _ZERO = np.array([232, 119, 34]), np.array([46, 125, 220]), np.array([127, 127, 127])
_FAINT = 0.12  # opacity of zero
_GAP = 1  # transparent pixels between slices
_STEP = 26  # SVG units from tap to tap
_SMALL = 0.04  # of the longest arrow: what is not drawn


@dataclass(frozen=True)
class Picture:
    """An image and what it shows, for those who cannot see it."""

    source: str  # a data: URL
    width: int
    height: int
    description: str


def slices(group: FilterGroup, grid: VoxelGrid) -> Picture:
    """Every component M (downwards) of a filter group in slices of constant z (to the right); x right, y up."""
    chosen = slice_indices(grid)
    size = max(abs(group.values).max(), 1e-300)
    tiles = [[_tile(component[:, :, z] / size) for z in chosen] for component in group.values]
    pixels = _stacked([_stacked(row, axis=1) for row in tiles], axis=0)
    return Picture(
        "data:image/png;base64," + base64.b64encode(png(pixels)).decode(),
        pixels.shape[1],
        pixels.shape[0],
        f"{len(tiles)} filters of degree {group.J}, {len(chosen)} slices each",
    )


def slice_indices(grid: VoxelGrid) -> range:
    """The slices along z that are shown: all, or the middle ones."""
    extent = grid.size[2]
    first = max(0, (extent - MOST_SLICES) // 2)
    return range(first, min(extent, first + MOST_SLICES))


def slice_names(grid: VoxelGrid) -> list[str]:
    """The physical z of every slice shown."""
    return [f"{z:g}".replace("-", "−") for z in grid.coordinates[2, 0, 0, list(slice_indices(grid))]]


def radial_plot(group: FilterGroup, grid: VoxelGrid) -> Markup:
    """Dots, one per distance of taps from the origin: the filter along Y_J there, F(x) . Y_J(x/|x|) / (2J+1)."""
    radii = np.sqrt((grid.coordinates**2).sum(axis=0))
    profile = (group.values * unit_harmonics(group.J, grid)).sum(axis=0) / (2 * group.J + 1)
    points = sorted(dict.fromkeys(zip(radii.round(6).flat, profile.round(9).flat, strict=True)))
    longest, highest = max(radii.max(), 1e-300), max(abs(profile).max(), 1e-300)
    dots = Markup().join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.2"/>').format(6 + 224 * r / longest, 30 - 24 * value / highest)
        for r, value in points
        if r > 0 or group.J == 0
    )
    return Markup(
        '<svg class="radial" viewBox="0 0 240 60" role="img" aria-label="radial profile">'
        '<line x1="6" y1="30" x2="236" y2="30"/><line x1="6" y1="4" x2="6" y2="56"/>{}</svg>'
    ).format(dots)


def arrows(vectors: Array, grid: VoxelGrid) -> Markup:
    """A vector field (component, x, y) in a slice of constant z: arrows in the plane, dots and crosses out of it."""
    positions = grid.coordinates[:2, :, :, 0] / max(map(float, grid.pitch[:2])) * _STEP
    longest = max(np.sqrt((vectors**2).sum(axis=0)).max(), 1e-300)
    half = abs(positions).reshape(2, -1).max(axis=1) + _STEP * 0.6
    marks = Markup().join(
        _mark(positions[:, index[0], index[1]], vectors[:, index[0], index[1]] / longest * _STEP * 0.85)
        for index in np.ndindex(vectors.shape[1:])
    )
    return Markup(
        '<svg class="arrows" viewBox="{:.1f} {:.1f} {:.1f} {:.1f}" role="img" aria-label="vector field">{}</svg>'
    ).format(-half[0], -half[1], 2 * half[0], 2 * half[1], marks)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of (row, column, RGBA). Source: PNG specification, W3C, sections 5 and 11."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _tile(values: Array) -> NDArray[np.uint8]:
    """Values from -1 to 1, (x, y), as pixels (row, column, RGBA): x to the right, y up."""
    size = abs(values.T[::-1, :, None])
    hue = np.where(values.T[::-1, :, None] >= 0, _POSITIVE, _NEGATIVE)
    colour = _ZERO + (hue - _ZERO) * np.minimum(1, 4 * size)
    opacity = 255 * (_FAINT + (1 - _FAINT) * size)
    return np.concatenate([colour, opacity], axis=2).round().astype(np.uint8)


def _stacked(tiles: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Tiles in a row or a column, transparent gaps between them."""
    shape = list(tiles[0].shape)
    shape[axis] = _GAP
    gap = np.zeros(shape, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=axis)


def _mark(position: Array, vector: Array) -> Markup:
    """One vector at one tap; SVG's y points down."""
    x, y = position[0], -position[1]
    dx, dy, out = vector[0], -vector[1], vector[2]
    length = float(np.hypot(dx, dy))
    marks = Markup('<circle class="tap" cx="{:.1f}" cy="{:.1f}" r="1"/>').format(x, y)
    if length > _SMALL * _STEP:
        head = min(6.0, length * 0.45)
        ux, uy = dx / length, dy / length
        tip, base = (x + dx / 2, y + dy / 2), (x + dx / 2 - ux * head, y + dy / 2 - uy * head)
        marks += Markup('<path class="shaft" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(x - dx / 2, y - dy / 2, *base)
        marks += Markup('<path class="head" d="M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}Z"/>').format(
            *tip, base[0] - uy * head / 2, base[1] + ux * head / 2, base[0] + uy * head / 2, base[1] - ux * head / 2
        )
    if abs(out) > _SMALL * _STEP:
        radius = abs(out) / 4
        marks += Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
            "towards" if out > 0 else "away", x, y, radius
        )
    return marks
