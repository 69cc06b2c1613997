"""Radial families: which scalar filters a layer's kernels are made of. A family is one class; the spec names it.

A family is given a grid and the harmonic degrees wanted, and returns filter groups: for one degree J and one radial
profile the 2J+1 filters M = -J..J, which turn into one another like Y_J as well as the grid allows. Where the filters
are sums of products of functions of x, y and z, the family says which, and the layer can run as passes along the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.products import Products


@dataclass(frozen=True, eq=False)
class FilterGroup:
    """The 2J+1 filters of one degree and one radial profile, sampled: values float64 (M, x, y, z)."""

    J: int
    formula: str | None  # phi(r), r = |x|, in verify's grammar; None: the taps are free
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        assert self.values.dtype == np.float64 and self.values.shape[0] == 2 * self.J + 1


class RadialFamily(Protocol):
    """What the spec's `radial = { family = ... }` names."""

    @property
    def name(self) -> str:
        """The family's name in specs."""

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values, exact numbers as strings; with `name` they determine the filters."""

    @property
    def separable(self) -> bool:
        """Whether the filters are sums of products: whether `products` returns any."""

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """The filter groups of the wanted degrees J, ordered by J, then by radial profile.

        Raises SamplingError where the grid cannot hold a filter the settings ask for.
        """

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> Products | None:
        """The groups that `groups` returned, filter by filter, as sums of products; None if they are not."""
