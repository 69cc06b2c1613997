"""Grids in floating point of 60 digits and more, by mpmath: what tables on the rotation group are checked with.

    rings   gauss: roots of P_L (Newton); the others by their formula
    weights gauss: 2 / ((1-x^2) P_L'(x)^2); the others solve  sum_t w_t cos(k theta_t) = 2/(1-k^2) [k even]
            in closed form, by the discrete cosine transform
    mw      interpolation to 2L Gauss nodes, by sines of differences

Source: as sphere grids: Driscoll, Healy 1994; McEwen, Wiaux 2011; Clenshaw, Curtis 1960.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

DIGITS = 60
FIXED = 320  # bits of the products of `mw`
Real = Any  # mpmath's
Array = NDArray[np.float64]


def rings_and_weights(grid: str, L: int) -> tuple[list[Fraction] | None, list[tuple[Real, Real]], list[Real]]:
    """theta / pi, None for gauss; (cos, sin) of every ring; weights, none of `mw`."""
    angles = ring_angles(grid, L)
    if angles is None:
        return None, *_gauss(L)
    return angles, [cos_sin(angle) for angle in angles], [_weight(grid, L, angle) for angle in angles]


def waves(grid: str, L: int, kept: int) -> list[list[Real]]:
    """trig_m at the points of a ring of a grid of band limit L, |m| < kept."""
    return [[_trig(m, angle) for m in range(1 - kept, kept)] for angle in point_angles(grid, L)]


def ring_angles(grid: str, L: int) -> list[Fraction] | None:
    """theta / pi of the rings; None for gauss."""
    if grid == "mw":
        return [Fraction(2 * t + 1, 2 * L - 1) for t in range(L)]
    if grid == "driscoll_healy":
        return [Fraction(2 * t + 1, 4 * L) for t in range(2 * L)]
    if grid == "equiangular":
        return [Fraction(t, 2 * L - 1) for t in range(2 * L)]
    return None


def point_angles(grid: str, L: int) -> list[Fraction]:
    """phi / pi of the points of a ring."""
    points = 2 * L - 1 if grid in ("mw", "gauss") else 2 * L
    return [Fraction(2 * p, points) for p in range(points)]


def cos_sin(angle: Fraction) -> tuple[Real, Real]:
    """cos and sin of pi times `angle`, exactly 0 and 1 where they are."""
    return mpmath.cospi(mpmath.mpf(angle.numerator) / angle.denominator), mpmath.sinpi(
        mpmath.mpf(angle.numerator) / angle.denominator
    )


def _weight(grid: str, L: int, angle: Fraction) -> Real:
    """sum_k of (2 - [k = 0]) / n 2/(1-k^2) cos(k theta) over even k: midpoints halve nothing, poles the ends."""
    n = 2 * L if grid == "driscoll_healy" else 2 * L - 1
    total = mpmath.mpf(2)
    for k in range(2, n, 2):
        total += 4 * cos_sin(k * angle)[0] / (1 - k * k)
    return total / n / (2 if grid == "equiangular" and angle in (0, 1) else 1)


def _gauss(n: int) -> tuple[list[tuple[Real, Real]], list[Real]]:
    """Roots of P_n as (cos, sin), from 1 to -1, and weights."""
    rings, weights = [], []
    for guess in np.polynomial.legendre.leggauss(n)[0][::-1].tolist():
        x = mpmath.mpf(guess) if abs(guess) > 1e-12 else mpmath.mpf(0)
        for _ in range(6):
            value, slope = _legendre(n, x)
            x -= value / slope
        x = x if abs(guess) > 1e-12 else mpmath.mpf(0)
        slope = _legendre(n, x)[1]
        rings.append((x, mpmath.sqrt(1 - x * x)))
        weights.append(2 / ((1 - x * x) * slope**2))
    return rings, weights


def _legendre(n: int, x: Real) -> tuple[Real, Real]:
    before, present = mpmath.mpf(0), mpmath.mpf(1)
    for k in range(n):
        before, present = present, ((2 * k + 1) * x * present - k * before) / (k + 1)
    return present, n * (before - x * present) / (1 - x * x)


def interpolation(L: int, angles: list[Fraction]) -> tuple[list[tuple[Real, Real]], list[Real], list[Any]]:
    """2L Gauss nodes as (cos, sin), their weights, and fixed-point matrices (node, ring) of even and of odd orders."""
    nodes, weights = _gauss(2 * L)
    thetas = [mpmath.acos(cos) for cos, _ in nodes]
    N = 2 * L - 1
    matrices = []
    for sign in (1, -1):
        matrix = np.zeros((2 * L, L), object)
        for g, theta in enumerate(thetas):
            for t, angle in enumerate(angles):
                at = mpmath.pi * angle.numerator / angle.denominator
                near = mpmath.sin(N * (theta - at) / 2) / mpmath.sin((theta - at) / 2) / N
                if t == L - 1:
                    matrix[g, t] = fixed(near) if sign == 1 else 0
                else:
                    far = mpmath.sin(N * (theta + at) / 2) / mpmath.sin((theta + at) / 2) / N
                    matrix[g, t] = fixed(near + sign * far)
        matrices.append(matrix)
    return nodes, weights, matrices


def without_dust(rows: list[list[Real]], digits: int) -> list[list[Real]]:
    """The numbers, with 0 in place of those below so many digits."""
    least = mpmath.mpf(10) ** -digits
    return [[value if abs(value) > least else mpmath.mpf(0) for value in row] for row in rows]


def fixed(value: Real) -> int:
    """The numbers in units of 2^-FIXED."""
    return int(mpmath.nint(mpmath.ldexp(value, FIXED)))


def _trig(m: int, angle: Fraction) -> Real:
    """trig_m at pi times `angle`."""
    if m == 0:
        return mpmath.mpf(1)
    cos, sin = cos_sin(abs(m) * angle)
    return mpmath.sqrt(2) * (cos if m > 0 else sin)


def floats(rows: list[list[Real]]) -> Array:
    """The nearest float64, 0.0 for zeros."""
    return np.array([[float(value) + 0.0 for value in row] for row in rows])
