"""Radial families: which scalar filters a layer's kernels are made of. A family is one class; the spec names it.

A family is given a grid and the harmonic degrees wanted, and returns filter groups: for one degree J and one radial
profile the 2J+1 filters M = -J..J, which turn into one another like Y_J as well as the grid allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.grid import VoxelGrid


@dataclass(frozen=True, eq=False)
class FilterGroup:
    """The 2J+1 filters of one degree and one radial profile, sampled: values float64 (M, x, y, z)."""

    J: int
    profile: str  # phi as a formula in r = |x|, or `optimal 1`: taps that are numbers of their own
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

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """The filter groups of the wanted degrees J, ordered by J, then by radial profile.

        Raises SamplingError where the grid cannot hold a filter the settings ask for.
        """
