"""The intertwiner identity, stated once: what makes numbers C[m, n, M] a coupling of degrees j (out), l (in) and J.

A coupling commutes with rotations: for the generators X_a of the turns about x, y and z

    sum_M C[m, n, M] dD^J(X_a)[M, M']                                                                            (1'')
        = sum_m' dD^j(X_a)[m, m'] C[m', n, M'] - sum_n' C[m, n', M'] dD^l(X_a)[n', n]

SO(3) is connected, so this is equivariance under every rotation. A kernel reads it with harmonics Y_M in the place of
M: then it is the kernel constraint (see `volumes.kernels.constraint`). A product of two fields reads it with any two of
the three as factors.

Everything here is done in the rational basis Y_M / sqrt(square_norm), where all numbers are rational.
Source: the Wigner-Eckart theorem, to first order in the rotation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from math import lcm

from basisgen.so3.generators import rational_generator

RationalCoupling = Mapping[tuple[int, int, int], int]
_Matrix = Mapping[int, list[tuple[int, int]]]  # row -> (column, value)
_Sum = defaultdict[tuple[int, int, int], int]


def violations(coupling: RationalCoupling, j: int, l: int, J: int) -> list[tuple[int, int, int, int]]:
    """Where (1'') fails for integer C[m, n, M] in the rational basis: (axis, m, n, M); nowhere for a solution."""
    found = []
    for axis in range(3):
        by_J, by_j, by_l = _integer_rows(*(rational_generator(degree, axis) for degree in (J, j, l)))
        excess = _Sum(int)  # left minus right of (1''), times the common denominator
        for (m, n, M), value in coupling.items():
            for column, entry in by_J[M]:
                excess[m, n, column] += value * entry
            for column, entry in by_l[n]:
                excess[m, column, M] += value * entry
        for (m, n, M), value in coupling.items():
            for row, entry in by_j[m]:
                excess[row, n, M] -= value * entry
        found += sorted((axis, *index) for index, value in excess.items() if value)
    return found


def _integer_rows(
    by_J: Mapping[tuple[int, int], Fraction],
    by_j: Mapping[tuple[int, int], Fraction],
    by_l: Mapping[tuple[int, int], Fraction],
) -> tuple[_Matrix, _Matrix, _Matrix]:
    """The three generators times their common denominator, by rows; dD^j, which acts from the left, by columns."""
    common = lcm(*(value.denominator for matrix in (by_J, by_j, by_l) for value in matrix.values()))
    transposed = {(n, m): value for (m, n), value in by_j.items()}
    rows: list[_Matrix] = []
    for matrix in (by_J, transposed, by_l):
        grouped = defaultdict(list)
        for (m, n), value in matrix.items():
            grouped[m].append((n, int(value * common)))
        rows.append(grouped)
    return rows[0], rows[1], rows[2]
