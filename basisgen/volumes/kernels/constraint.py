"""The kernel constraint, stated once, and its form for kernels that are sums of solid harmonics.

    kappa(r x) = D^j(r) kappa(x) D^l(r)^-1        for every rotation r                                             (1)

SO(3) is connected, so (1) holds for every r if and only if it holds to first order for the rotations about x, y and z:

    (X_a x) . grad kappa = dD^j(X_a) kappa - kappa dD^l(X_a),        a = x, y, z                                   (1')

Write kappa[m, n] = sum_M C[m, n, M] Y_M with solid harmonics of one degree J that obey (X_a x) . grad Y_M =
sum_M' dD^J(X_a)[M, M'] Y_M'. The Y_M are linearly independent polynomials, so (1') is the identity of numbers

    sum_M C[m, n, M] dD^J(X_a)[M, M']                                                                            (1'')
        = sum_m' dD^j(X_a)[m, m'] C[m', n, M'] - sum_n' C[m, n', M'] dD^l(X_a)[n', n]

With parity, inversion gives kappa(-x) = p_out p_in kappa(x), that is (-1)^J = p_out p_in.

Everything here is done in the rational basis Y_M / sqrt(square_norm), where all numbers are rational.
Source: Weiler et al. 2018, arXiv:1807.02547, equations 3 and 4; (1'') is the Wigner-Eckart identity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from math import lcm

from basisgen.so3.field_type import Irrep
from basisgen.so3.generators import rational_generator

RationalElement = Mapping[tuple[int, int, int], int]
_Matrix = Mapping[int, list[tuple[int, int]]]  # row -> (column, value)
_Sum = defaultdict[tuple[int, int, int], int]


def allowed_degrees(out: Irrep, into: Irrep) -> tuple[int, ...]:
    """The harmonic degrees J of the pair's kernels: |j-l|..j+l, with parity only (-1)^J = p_out p_in."""
    j, l = out.degree, into.degree
    degrees = range(abs(j - l), j + l + 1)
    return tuple(J for J in degrees if has_right_parity(out, into, J))


def has_right_parity(out: Irrep, into: Irrep, J: int) -> bool:
    """Whether kappa(-x) = p_out p_in kappa(x) for a kernel of degree J; nothing is asked without parity."""
    if out.parity is None or into.parity is None:
        return True
    sign = 1 if J % 2 == 0 else -1
    return sign == out.parity * into.parity


def number_of_solutions(out: Irrep, into: Irrep) -> int:
    """The dimension of the solutions of (1) on one sphere: of Hom(D^l, D^j) over the stabiliser of an axis.

    The stabiliser in SO(3) is the circle of rotations about the axis: orders m, n are tied by |m| = |n|, one complex
    number each and a real one for 0, so 2 min(j, l) + 1. In O(3) it also holds the mirrors through the axis, which
    leave one real number per order, and of order 0 only where p_out p_in = (-1)^(j+l): min(j, l) + 1 or min(j, l).
    """
    smaller = min(out.degree, into.degree)
    if out.parity is None or into.parity is None:
        return 2 * smaller + 1
    natural = out.parity * into.parity == (-1) ** (out.degree + into.degree)
    return smaller + 1 if natural else smaller


def violations(element: RationalElement, j: int, l: int, J: int) -> list[tuple[int, int, int, int]]:
    """Where (1'') fails for integer C[m, n, M] in the rational basis: (axis, m, n, M); nowhere for a solution."""
    found = []
    for axis in range(3):
        by_J, by_j, by_l = _integer_rows(*(rational_generator(degree, axis) for degree in (J, j, l)))
        excess = _Sum(int)  # left minus right of (1''), times the common denominator
        for (m, n, M), value in element.items():
            for column, entry in by_J[M]:
                excess[m, n, column] += value * entry
            for column, entry in by_l[n]:
                excess[m, column, M] += value * entry
        for (m, n, M), value in element.items():
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
