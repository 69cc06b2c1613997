"""Proven couplings as float64 tables, every number the exact one correctly rounded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from basisgen.couplings.proof import ProvenCoupling
from basisgen.so3.clebsch_gordan import coupled_degrees

Tensor = NDArray[np.float64]


def orthogonal_matrix(j: int, l: int, proven: Iterable[ProvenCoupling]) -> Tensor:
    """C[m, n; J, M] of those proven couplings that are of degrees j and l, float64 (m, n, J and M together).

    The last axis lists J = |j-l|..j+l, for each M = -J..J. Degrees J without a proven coupling stay zero.
    """
    matrix = np.zeros((2 * j + 1, 2 * l + 1, (2 * j + 1) * (2 * l + 1)))
    for coupling in (of.coupling for of in proven):
        if (coupling.j, coupling.l) == (j, l):
            first = coupling.J**2 - (j - l) ** 2 + coupling.J  # the column of M = 0
            for (m, n, M), value in coupling.coefficients.items():
                matrix[m + j, n + l, first + M] = float(value)
    assert matrix.shape[2] == sum(2 * J + 1 for J in coupled_degrees(j, l))
    return matrix
