"""Sampling: from proven bases, a radial family and a grid to the scalar filters of a layer.

H[J, b, M](x) = phi_b(|x|) Y_JM(x/|x|)        shared by every pair (j, l) of the layer
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.kernels.proof import ProvenBasis
from basisgen.volumes.sampling.families import FilterGroup, RadialFamily
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.independence import independent
from basisgen.volumes.sampling.products import Products


@dataclass(frozen=True, eq=False)
class SampledFilters:
    """All scalar filters of a layer on its grid, ordered by J, then by radial profile, then by M."""

    grid: VoxelGrid
    groups: tuple[FilterGroup, ...]
    products: Products | None = None  # of the groups, filter by filter
    left_out: tuple[FilterGroup, ...] = ()  # what the family offers beside them: dependent on them at the taps

    def __post_init__(self) -> None:
        assert all(group.values.shape[1:] == self.grid.size for group in self.groups)
        assert self.products is None or len(self.products.matrix) == sum(2 * group.J + 1 for group in self.groups)
        assert [group.J for group in self.groups] == sorted(group.J for group in self.groups)

    @property
    def values(self) -> NDArray[np.float64]:
        """Every filter, float64 (filter, x, y, z)."""
        return np.concatenate([group.values for group in self.groups])

    @property
    def ranges(self) -> dict[int, tuple[int, int]]:
        """Degree J -> its first filter in `values` and one past its last; 2J+1 filters per radial profile."""
        ranges: dict[int, tuple[int, int]] = {}
        stop = 0
        for group in self.groups:
            start, stop = stop, stop + 2 * group.J + 1
            ranges[group.J] = (ranges.get(group.J, (start,))[0], stop)
        return ranges


def sample(proven: Iterable[ProvenBasis], family: RadialFamily, grid: VoxelGrid) -> SampledFilters:
    """Values of every scalar filter the bases need, at every tap.

    Raises SamplingError if the grid cannot hold a filter the family asks for.
    """
    degrees = sorted({J for basis in proven for J in basis.degrees})
    groups, left_out = independent(family.groups(grid, degrees))
    return SampledFilters(grid, groups, family.products(grid, groups) if groups else None, left_out)
