"""From exact to float64: values of phi(|x|) Y_JM(x/|x|) on a grid, each correctly rounded.

    H[M](x) = phi(|x|) sqrt(norm_M) |x|^-J  *  R_JM(x)
              real factor, 250 bits, once    exact integer polynomial, once
              per |x| and M                  per tap and M

The product is rounded once, by Python's correctly rounded division of integers. A factor of 250 bits leaves the nearest
float64 in doubt only for values within 2^-190 of the middle between two.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.polynomials import integer_terms
from basisgen.sampling.grid import VoxelGrid
from basisgen.so3.harmonics import harmonics

PRECISION = 250  # bits

RadialProfile = Callable[[Fraction], "mpmath.mpf"]  # |x|^2 -> phi(|x|), evaluated at mpmath's working precision


def sample_profile(J: int, profile: RadialProfile, grid: VoxelGrid) -> NDArray[np.float64]:
    """phi(|x|) Y_JM(x/|x|) at every tap: float64 (M, x, y, z), M = -J..J, correctly rounded.

    At the origin only J = 0 is non-zero: Y_J(0) has no direction to depend on.
    """
    points, denominator = grid.integer_coordinates
    points = points.reshape(3, -1)
    squares = (points**2).sum(axis=0)
    values = np.zeros((2 * J + 1, points.shape[1]))
    for row, harmonic in enumerate(harmonics(J)):
        polynomial = evaluate(integer_terms(harmonic.polynomial), points)
        factors = _factors(J, profile, harmonic.square_norm, set(squares), denominator)
        values[row] = [_round(*factors[square], value) for square, value in zip(squares, polynomial, strict=True)]
    return values.reshape(2 * J + 1, *grid.size)


def evaluate(terms: dict[tuple[int, int, int], int], points: NDArray[np.object_]) -> NDArray[np.object_]:
    """An integer polynomial at integer points (3, n), exactly."""
    total = np.zeros(points.shape[1], dtype=object)
    for (a, b, c), coefficient in terms.items():
        total = total + coefficient * points[0] ** a * points[1] ** b * points[2] ** c
    return total


def _factors(
    J: int, profile: RadialProfile, square_norm: Fraction, squares: set[int], denominator: int
) -> dict[int, tuple[int, int]]:
    """phi sqrt(norm) |x|^-J for each integer |x|^2, as (mantissa, exponent); 0 at the origin for J > 0."""
    factors = {}
    with mpmath.workprec(PRECISION):
        root = mpmath.sqrt(mpmath.mpf(square_norm.numerator) / square_norm.denominator)
        for square in squares:
            if square == 0 and J > 0:
                factors[square] = (0, 0)
                continue
            radius_power = mpmath.sqrt(mpmath.mpf(square)) ** J  # in units of 1/denominator, as the polynomial's
            factor = profile(Fraction(square, denominator**2)) * root / radius_power
            factors[square] = (int(factor.man) * (-1 if factor < 0 else 1), int(factor.exp))
    return factors


def _round(mantissa: int, exponent: int, polynomial: int) -> float:
    """The float64 nearest to mantissa * 2^exponent * polynomial."""
    product = mantissa * polynomial
    return float(product << exponent) if exponent >= 0 else product / (1 << -exponent)
