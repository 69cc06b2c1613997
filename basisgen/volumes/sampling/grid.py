"""Voxel grids: the taps of a kernel, centred on the origin, with exact rational coordinates.

x_i = (i - (size-1)/2) * dilation * spacing        per axis, i = 0..size-1
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)
Turn = NDArray[np.int64]  # a signed permutation matrix: an element of the cube's group of 48


@dataclass(frozen=True)
class VoxelGrid:
    """The taps of a kernel: any size per axis, odd or even; spacing in physical units; dilation in voxels."""

    size: tuple[int, int, int]
    spacing: tuple[Fraction, Fraction, Fraction] = (Fraction(1), Fraction(1), Fraction(1))
    dilation: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        assert len(self.size) == len(self.spacing) == len(self.dilation) == 3
        assert min(self.size) >= 1 and min(self.spacing) > 0 and min(self.dilation) >= 1

    @property
    def pitch(self) -> tuple[Fraction, Fraction, Fraction]:
        """The physical distance of neighbouring taps, per axis."""
        a, b, c = (d * s for d, s in zip(self.dilation, self.spacing, strict=True))
        return a, b, c

    @property
    def integer_coordinates(self) -> tuple[NDArray[np.object_], int]:
        """Tap coordinates as exact integers, object (3, x, y, z), and the common denominator to divide them by."""
        half_pitch = [pitch / 2 for pitch in self.pitch]
        denominator = lcm(*(step.denominator for step in half_pitch))
        axes = [
            np.array([int(step * denominator) * (2 * i - n + 1) for i in range(n)], dtype=object)
            for step, n in zip(half_pitch, self.size, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij")), denominator

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Tap coordinates in physical units, float64 (3, x, y, z)."""
        integers, denominator = self.integer_coordinates
        coordinates: NDArray[np.float64] = (integers / denominator).astype(np.float64)
        return coordinates

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The elements of the cube's group of 48, as matrices, that map the grid onto itself; the identity is first.

        Signed permutations of the axes; two axes may change places only if their size and pitch agree.
        """
        axis_kind = list(zip(self.size, self.pitch, strict=True))
        turns = []
        for images in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 0)):
            if all(axis_kind[axis] == axis_kind[image] for axis, image in enumerate(images)):
                for signs in product((1, -1), repeat=3):
                    matrix = np.zeros((3, 3), dtype=np.int64)
                    matrix[list(images), range(3)] = signs
                    turns.append(matrix)
        return tuple(turns)

    def exact_turns(self, *, mirrors: bool) -> tuple[Turn, ...]:
        """The turns with which a layer of stride 1 on this grid commutes exactly; the identity is first.

        Axes that change places have the same size, spacing and dilation: volume and kernel both map onto themselves.
        """
        axes = list(zip(self.size, self.spacing, self.dilation, strict=True))
        return tuple(
            turn
            for turn in self.turns
            if (mirrors or np.linalg.det(turn) > 0)
            and all(axes[axis] == axes[image] for axis, image in enumerate(np.abs(turn).argmax(axis=0)))
        )

    def __str__(self) -> str:
        return "x".join(map(str, self.size))


def turn_taps(values: NDArray[_Scalar], turn: Turn) -> NDArray[_Scalar]:
    """F(g x) for every tap x, from F of the taps: (.., x, y, z); g is one of the grid's turns."""
    images = np.abs(turn).argmax(axis=0)
    kept = tuple(range(values.ndim - 3))
    turned = values.transpose(*kept, *(values.ndim - 3 + images))
    x, y, z = (slice(None, None, int(turn[images[axis], axis])) for axis in range(3))
    return turned[..., x, y, z]
