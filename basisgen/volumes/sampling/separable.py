"""Family `separable`, the default: the least-defect filters among sums of products of functions of x, y and z.

    F_M(x, y, z) = sum over a + b + c <= levels of  E[M, abc] h_a(x) h_b(y) h_c(z)

A layer of such filters runs as passes along the axes, in a time that hardly depends on the number of taps. `optimal`
takes the least defects that any taps allow; this family, by the same eigenproblem and with right moments (see `span`),
the least that products allow, and its functions h are chosen to allow much (see `axes`). No filters here can be better
than as many of all taps with the same moments, by Courant and Fischer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.reading import Settings
from basisgen.volumes.sampling.axes import NOISE, made_axes, right_order
from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import Gaussian
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.optimal import parse_cut, wanted_number
from basisgen.volumes.sampling.products import Products, product_indices
from basisgen.volumes.sampling.span import Axes, least_defects, span, symmetrised_expansion
from basisgen.volumes.sampling.symmetry import sign_of, symmetrised

Array = NDArray[np.float64]

MOST_LEVELS = 8
DEFAULT_LEVELS = 4


@dataclass(frozen=True)
class Separable:
    """Least-defect sums of products: all with no combination above `max_defect`, or `count[J]` of each degree.

    `levels` bounds a + b + c; None is 2 for kernels of 3 and 4 voxels, 3 for 5 and 6, 4 for larger ones. `bandwidth` is
    the Gaussian spectrum's, as a fraction of the Nyquist frequency.
    """

    levels: int | None = None
    max_defect: Fraction = Fraction(3, 10)
    count: tuple[int, ...] | None = None
    bandwidth: Fraction = Gaussian().bandwidth

    @classmethod
    def parse(cls, settings: Settings) -> Separable:
        """Reads levels, max_defect or count, and bandwidth. Raises SpecError where both are given."""
        levels = settings.integer("levels", most=MOST_LEVELS)
        return cls(levels, *parse_cut(settings, cls.max_defect, cls.bandwidth))

    @property
    def name(self) -> str:
        """`separable`."""
        return "separable"

    @property
    def separable(self) -> bool:
        """True: the filters are sums of products."""
        return True

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {
            "levels": self.levels,
            "max_defect": str(self.max_defect) if self.count is None else None,
            "count": None if self.count is None else list(self.count),
            "bandwidth": str(self.bandwidth),
        }

    def highest_level(self, grid: VoxelGrid) -> int:
        """The largest a + b + c."""
        if self.levels is not None:
            return self.levels
        width = min(n * pitch for n, pitch in zip(grid.size, grid.pitch, strict=True)) / max(grid.pitch)
        return min(int((width + 1) / 2), DEFAULT_LEVELS)

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; float64 of unit norm, exactly symmetric as `symmetry.symmetrised` says."""
        axes = self._axes(grid)
        return tuple(
            FilterGroup(J, None, _values(filter, J, axes, grid))
            for J in degrees
            for filter in _expansions(self, J, grid)
        )

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> Products:
        """See RadialFamily; the filters are these sums of products to rounding."""
        rows = [_expansions(self, J, grid) for J in sorted({group.J for group in groups})]
        # (filter and M, product)
        matrix = np.concatenate([expansions.reshape(-1, expansions.shape[2]) for expansions in rows])
        levels = self.highest_level(grid)
        return Products(grid, matrix, self._axes(grid), {"levels": levels})

    def _axes(self, grid: VoxelGrid) -> Axes:
        return made_axes(grid, self.highest_level(grid), Gaussian(self.bandwidth))


@lru_cache(maxsize=256)
def _expansions(family: Separable, J: int, grid: VoxelGrid) -> Array:
    """E of every filter of degree J, (filter, M, product), read-only."""
    levels, spectrum = family.highest_level(grid), Gaussian(family.bandwidth)
    axes, space = made_axes(grid, levels, spectrum), span(J, levels, grid)
    defects, filters = least_defects(space, axes, spectrum, NOISE, right_order(space, axes, spectrum))
    number = wanted_number(J, defects, grid, family.max_defect, family.count)
    expansions = np.zeros((number, *space.combinations.shape[1:]))
    if number:
        # (filter, M, product)
        basis = np.einsum("fi,iMp->fMp", np.array(orthonormal(filters[:number])), space.combinations)
        for row, expansion in zip(expansions, basis, strict=True):
            exact = symmetrised_expansion(expansion, space)
            row[:] = exact * sign_of(_values(exact, J, axes, grid), J, grid)
    expansions.setflags(write=False)
    return expansions


def _values(expansion: Array, J: int, axes: Axes, grid: VoxelGrid) -> Array:
    """The taps of one filter, (M, x, y, z), of its expansion (M, product)."""
    values = np.zeros((2 * J + 1, *grid.size))
    for (a, b, c), coefficients in zip(product_indices(len(axes[0]) - 1), expansion.T, strict=True):
        if coefficients.any():
            product = np.einsum("x,y,z->xyz", axes[0][a], axes[1][b], axes[2][c])
            values += np.einsum("M,xyz->Mxyz", coefficients, product)  # (M, x, y, z)
    return symmetrised(values, J, grid)
