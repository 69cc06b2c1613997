"""Filters as sums of products of functions of x, y and z: what lets a layer run as passes along the axes.

    F_row(x, y, z) = sum over a + b + c <= levels of  E[row, abc] h_a(x) h_b(y) h_c(z)

A row is one filter (J, profile, M). The functions may differ from axis to axis, where the grid does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.grid import VoxelGrid

Array = NDArray[np.float64]
Powers = tuple[int, int, int]  # a, b, c


@dataclass(frozen=True, eq=False)
class Products:
    """The expansion E of every row of some sampled filters, and the functions h on the axes of their grid."""

    grid: VoxelGrid
    matrix: Array  # E, float64 (row, product), products in the order of `product_indices`
    taps: tuple[Array, Array, Array]  # h_a at the taps of each axis, float64 (level, tap)
    statement: Mapping[str, Any]  # what the certificate says of them, plain JSON

    def __post_init__(self) -> None:
        assert self.matrix.shape[1] == len(product_indices(self.levels))
        assert [h.shape for h in self.taps] == [(self.levels + 1, n) for n in self.grid.size]

    @property
    def levels(self) -> int:
        """The largest a + b + c."""
        return len(self.taps[0]) - 1


def product_indices(levels: int) -> tuple[Powers, ...]:
    """Every (a, b, c) with a + b + c <= levels, by the sum, then in lexical order."""
    level = range(levels + 1)
    indices = [(a, b, c) for a, b, c in product(level, level, level) if a + b + c <= levels]
    return tuple(sorted(indices, key=lambda powers: (sum(powers), powers)))
