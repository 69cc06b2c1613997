"""From exact to float64: values of phi(|x|) Y_JM(x/|x|) on a grid, each correctly rounded.

    H[M](x) = phi(|x|) |x|^-J sqrt(norm_M)  *  R_JM(x)
              real factor, 250 bits, once      exact integer polynomial, once
              per |x| and M                    per tap and M

The product is rounded once, see `algebra.rounding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import lru_cache

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.polynomials import integer_terms
from basisgen.algebra.rounding import PRECISION, mantissa_exponent, real, rounded_product
from basisgen.so3.harmonics import harmonics
from basisgen.volumes.sampling.grid import VoxelGrid

# a function of the exact |x|^2, evaluated at mpmath's working precision
RadialProfile = Callable[[Fraction], "mpmath.mpf"]


def sample_profile(J: int, profile: RadialProfile, grid: VoxelGrid) -> NDArray[np.float64]:
    """phi(|x|) Y_JM(x/|x|) at every tap: float64 (M, x, y, z), M = -J..J, correctly rounded.

    At the origin only J = 0 is non-zero: Y_J(0) has no direction to depend on.
    """

    def per_solid_harmonic(square: Fraction) -> mpmath.mpf:
        if J == 0:
            return profile(square)
        return profile(square) / mpmath.sqrt(real(square)) ** J if square else mpmath.mpf(0)

    return sample_solid(J, per_solid_harmonic, grid)


def sample_solid(J: int, profile: RadialProfile, grid: VoxelGrid) -> NDArray[np.float64]:
    """phi(|x|) |x|^J Y_JM(x/|x|), the solid harmonics: float64 (M, x, y, z), M = -J..J, correctly rounded."""
    points, denominator = grid.integer_coordinates
    squares = (points.reshape(3, -1) ** 2).sum(axis=0)  # (tap)
    values = np.zeros((2 * J + 1, len(squares)))
    with mpmath.workprec(PRECISION):
        factors = _values(J, profile, set(squares), denominator)
        for row, (harmonic, polynomial) in enumerate(zip(harmonics(J), _polynomials(J, grid), strict=True)):
            root = mpmath.sqrt(real(harmonic.square_norm))
            scaled = {square: mantissa_exponent(root * factor) for square, factor in factors.items()}
            values[row] = [rounded_product(*scaled[square], p) for square, p in zip(squares, polynomial, strict=True)]
    return values.reshape(2 * J + 1, *grid.size)  # (M, x, y, z)


@lru_cache(maxsize=1)  # the profiles of one J are sampled one after another
def _polynomials(J: int, grid: VoxelGrid) -> list[NDArray[np.object_]]:
    """R_JM at the taps' integer coordinates, M = -J..J, each (tap)."""
    points = grid.integer_coordinates[0].reshape(3, -1)  # (axis, tap)
    return [evaluate(integer_terms(harmonic.polynomial), points) for harmonic in harmonics(J)]


def evaluate(terms: dict[tuple[int, int, int], int], points: NDArray[np.object_]) -> NDArray[np.object_]:
    """An integer polynomial at integer points (3, n), exactly."""
    total = np.zeros(points.shape[1], dtype=object)
    for (a, b, c), coefficient in terms.items():
        total = total + coefficient * points[0] ** a * points[1] ** b * points[2] ** c
    return total


def _values(J: int, profile: RadialProfile, squares: Iterable[int], denominator: int) -> dict[int, mpmath.mpf]:
    """phi for each integer |x|^2, over the denominator's power that a polynomial at integer points lacks."""
    return {square: profile(Fraction(square, denominator**2)) / denominator**J for square in squares}
