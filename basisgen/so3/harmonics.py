"""Real solid harmonics as exact polynomials: r^l Y_lm(x/r) = sqrt(norm) * polynomial, "component" normalised.

    Y_lm = sqrt((2l+1) (2 - [m=0]) (l-|m|)!/(l+|m|)!)  P_l|m|(Z, r)  Re (m >= 0) or Im (m < 0) of (X + iY)^|m|
    P_lm = 2^-l sum_k (-1)^k C(l,k) C(2l-2k,l) (l-2k)!/(l-2k-m)!  r^2k Z^(l-2k-m)

evaluated at (X, Y, Z) = (z, x, y), so that l = 1 is (x, y, z) and the components are e3nn's; no Condon-Shortley phase;
sum_m Y_lm(u)^2 = 2l+1 on the unit sphere.
Source: Varshalovich, Moskalev, Khersonskii, Quantum Theory of Angular Momentum (1988), section 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import comb, factorial, gcd, perm

from basisgen.algebra.polynomials import COORDINATES, RING, Polynomial

_X, _Y, _Z = COORDINATES[2], COORDINATES[0], COORDINATES[1]  # the standard axes (X, Y, Z) are our (z, x, y)
_R2 = _X**2 + _Y**2 + _Z**2


@dataclass(frozen=True)
class SolidHarmonic:
    """One r^l Y_lm(x/r) = sqrt(square_norm) * polynomial; the polynomial has coprime integer coefficients."""

    degree: int
    order: int
    square_norm: Fraction
    polynomial: Polynomial


@cache
def harmonics(l: int) -> tuple[SolidHarmonic, ...]:
    """The 2l+1 solid harmonics of degree l, m = -l..l."""
    real, imaginary = _powers(l)
    return tuple(
        _normalised(l, m, _zonal(l, abs(m)) * (real[m] if m >= 0 else imaginary[-m])) for m in range(-l, l + 1)
    )


def square_norm(l: int, m: int) -> Fraction:
    """The square of Y_lm / R_lm, R_lm the polynomial: the change to the rational basis, in which proofs work."""
    return harmonics(l)[m + l].square_norm


def _powers(l: int) -> tuple[list[Polynomial], list[Polynomial]]:
    """Re and Im of (X + iY)^m for m = 0..l."""
    real, imaginary = [RING.one], [RING.zero]
    for _ in range(l):
        a, b = real[-1], imaginary[-1]
        real.append(a * _X - b * _Y)
        imaginary.append(a * _Y + b * _X)
    return real, imaginary


def _zonal(l: int, m: int) -> Polynomial:
    """2^l P_lm(Z, r), homogeneous of degree l-m."""
    total = RING.zero
    for k in range((l - m) // 2 + 1):
        factor = (-1) ** k * comb(l, k) * comb(2 * l - 2 * k, l) * perm(l - 2 * k, m)
        total += factor * _R2**k * _Z ** (l - 2 * k - m)
    return total


def _normalised(l: int, m: int, polynomial: Polynomial) -> SolidHarmonic:
    """Before: 2^l times the harmonic without its root. After: coprime integers, the rest moved under the root."""
    content = gcd(*(int(c.numerator) for c in polynomial.coeffs()))
    order = abs(m)
    square = Fraction((2 * l + 1) * (2 if order else 1) * factorial(l - order), factorial(l + order))
    return SolidHarmonic(l, m, square * Fraction(content, 2**l) ** 2, polynomial.quo_ground(content))
