"""The verifier's own arithmetic: polynomials in x, y, z with integer coefficients, the standard harmonics, and rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from math import factorial, prod

Polynomial = dict[tuple[int, int, int], int]  # exponents of x, y, z -> coefficient, never zero
SparseRow = dict[tuple[int, int], Fraction]
Matrix = dict[tuple[int, int], Fraction]  # zeros left out

COORDINATES: tuple[Polynomial, ...] = ({(1, 0, 0): 1}, {(0, 1, 0): 1}, {(0, 0, 1): 1})
_SQUARE: Polynomial = {(2, 0, 0): 1, (0, 2, 0): 1, (0, 0, 2): 1}


def add(total: Polynomial, factor: int, polynomial: Polynomial) -> Polynomial:
    """`total`, to which factor * polynomial is added in place."""
    for monomial, coefficient in polynomial.items():
        total[monomial] = total.get(monomial, 0) + factor * coefficient
        if not total[monomial]:
            del total[monomial]
    return total


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    """p q."""
    total: Polynomial = {}
    for (a, b, c), coefficient in p.items():
        add(total, coefficient, {(a + d, b + e, c + f): other for (d, e, f), other in q.items()})
    return total


def derivative(p: Polynomial, axis: int) -> Polynomial:
    """dp/dx, dp/dy or dp/dz."""
    a, b, c = (int(axis == other) for other in range(3))
    return {(i - a, j - b, k - c): v * (i, j, k)[axis] for (i, j, k), v in p.items() if (i, j, k)[axis]}


def laplacian(p: Polynomial) -> Polynomial:
    """d^2p/dx^2 + d^2p/dy^2 + d^2p/dz^2."""
    total: Polynomial = {}
    for axis in range(3):
        add(total, 1, derivative(derivative(p, axis), axis))
    return total


def turn(p: Polynomial, axis: int) -> Polynomial:
    """(X_a x).grad p, the rate of change of p under rotation about axis a: X_a x = e_a cross x."""
    u, v = (axis + 1) % 3, (axis + 2) % 3
    turned = times(COORDINATES[u], derivative(p, v))
    return add(turned, -1, times(COORDINATES[v], derivative(p, u)))


def inner(p: Polynomial, q: Polynomial) -> int:
    """p(d/dx) q, an inner product no rotation changes.

    For harmonic p and q of degree l it is (2l+1)!! times the mean of p q over the unit sphere.
    """
    return sum(c * q[m] * _factorials(*m) for m, c in p.items() if m in q)


def generators(polynomials: Mapping[int, Polynomial]) -> tuple[Matrix, ...]:
    """dD(X_a): (X_a x).grad P_m = sum_k dD(X_a)[m, k] P_k, by projection on the orthogonal P_k; a = x, y, z."""
    squares = {k: inner(p, p) for k, p in polynomials.items()}
    matrices = []
    for axis in range(3):
        matrix: Matrix = {}
        for m, polynomial in polynomials.items():
            turned = turn(polynomial, axis)
            for k, other in polynomials.items():
                if value := inner(turned, other):
                    matrix[m, k] = Fraction(value, squares[k])
        matrices.append(matrix)
    return tuple(matrices)


def standard_harmonic(l: int, m: int) -> tuple[Fraction, Polynomial]:
    """(N, p) of the real harmonic Y_lm = sqrt(N) p, p = S_l(Z) Re or Im (X + iY)^|m| at (X, Y, Z) = (z, x, y).

    Re for m >= 0, Im for m < 0, no Condon-Shortley sign; S_n = (n-|m|)! d^|m| P_n/dZ^|m| with Legendre's P_n made
    homogeneous, and N = (2l+1) (2 - [m=0]) / ((l+|m|)! (l-|m|)!), so that the mean square over the sphere is 1.
    """
    order = abs(m)
    norm = Fraction((2 * l + 1) * (2 if m else 1), factorial(l + order) * factorial(l - order))
    return norm, times(_legendre(l, order), _azimuthal(order)[0 if m >= 0 else 1])


@cache
def _factorials(a: int, b: int, c: int) -> int:
    return factorial(a) * factorial(b) * factorial(c)


@cache
def _legendre(n: int, m: int) -> Polynomial:
    """S_n = (2n-1) Z S_(n-1) - (n+m-1) (n-m-1) |x|^2 S_(n-2), S_m = (2m-1)!!: DLMF 14.10.3."""
    if n <= m:
        return {(0, 0, 0): prod(range(1, 2 * m, 2))} if n == m else {}
    total = add({}, 2 * n - 1, times(COORDINATES[1], _legendre(n - 1, m)))
    return add(total, -(n + m - 1) * (n - m - 1), times(_SQUARE, _legendre(n - 2, m)))


@cache
def _azimuthal(m: int) -> tuple[Polynomial, Polynomial]:
    """Re and Im of (X + iY)^m."""
    if m == 0:
        return {(0, 0, 0): 1}, {}
    (real, imaginary), X, Y = _azimuthal(m - 1), COORDINATES[2], COORDINATES[0]
    return add(times(real, X), -1, times(imaginary, Y)), add(times(real, Y), 1, times(imaginary, X))


def rank(rows: Iterable[SparseRow]) -> int:
    """The number of independent rows, by elimination."""
    pivots: dict[tuple[int, int], SparseRow] = {}
    for full in rows:
        row = {key: value for key, value in full.items() if value}
        while row and (key := min(row)) in pivots:
            factor = row[key] / pivots[key][key]
            for column, value in pivots[key].items():
                row[column] = row.get(column, Fraction(0)) - factor * value
            row = {column: value for column, value in row.items() if value}
        if row:
            pivots[min(row)] = row
    return len(pivots)
