"""Moments: what filters of type J answer to polynomials, which is what fields look like at long wavelengths.

A polynomial of degree d is a sum of |x|^(d-L) S_Lm(x), S_L the solid harmonics of degree L = d, d-2, .. An exact filter
of type J, g(|w|) Y_J in frequency, answers those with d <= J by

    sum_x F_M(x) |x|^(d-L) S_Lm(x) = c delta_mM    for d = L = J,    0 for all others

so its response rises as |w|^J; and those with d > J likewise, if at all for L = J, by c_d delta_mM. Taps that obey the
turns of their grid, F(g x) = D^J(g) F(x), have moments that commute with the turns, and most conditions hold by
themselves. Those left are one per commuting map B from D^L to D^J: a few.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import spherical_jn

from basisgen.volumes.sampling.bases import orthonormal
from basisgen.volumes.sampling.defect import unit_harmonics
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.symmetry import turn_matrix

Array = NDArray[np.float64]


def wrong_moments(J: int, grid: VoxelGrid, order: int, frequency: float = 0.0) -> list[Array]:
    """The moments of degree d <= order, d = J, J-2, .. and J+2, .., that vanish for filters of type J, not in general.

    Each as the taps (M, x, y, z) whose inner product with a filter is the moment; at most 1 in size. Those of degree J
    are what the filter answers to long waves; with a frequency, to waves of that |w|: j_J(|w| |x|) in place of |x|^J.
    """
    radius = np.sqrt((grid.coordinates**2).sum(axis=0))
    waves = spherical_jn(J, frequency * radius)
    waves /= max(np.abs(waves).max(), 1e-300)
    radius /= max(radius.max(), 1e-300)
    return [
        (waves if frequency and d == L == J else radius**d) * np.einsum("Mm,mxyz->Mxyz", B, unit_harmonics(L, grid))
        for d in range(J % 2, order + 1, 2)
        for L in range(J % 2, d + 1, 2)
        for B in commuting_maps(J, L, grid)[L == J :]  # L = J: all but the identity, which comes first
    ]


@lru_cache(maxsize=64)
def commuting_maps(J: int, L: int, grid: VoxelGrid) -> list[Array]:
    """An orthonormal basis of the matrices (M, m) with D^J(g) B = B D^L(g) for the grid's turns, the identity first."""
    size = (2 * J + 1) * (2 * L + 1)
    projector = sum(np.kron(turn_matrix(J, turn), turn_matrix(L, turn)) for turn in grid.turns) / len(grid.turns)
    if np.trace(projector) < 0.5:  # its rank is 0, and what it holds is rounding
        return []
    vectors = [np.eye(2 * J + 1).reshape(1, size)] if L == J else []
    basis = orthonormal(np.concatenate([*vectors, np.asarray(projector)]))
    return [vector.reshape(2 * J + 1, 2 * L + 1) for vector in basis]  # (M, m) each
