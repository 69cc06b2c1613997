"""Infinitesimal rotations of the real harmonics in closed form: (X_a Y_m)(x) = sum_m' dD^l(X_a)[m, m'] Y_m'(x).

With c_m = sqrt((l-m)(l+m+1)), cosine-like C_m = Y_m (m >= 0) and sine-like S_m = Y_-m (m > 0), about the standard axes:

    L_Z C_m = -m S_m                                L_Z S_m = m C_m
    L_Y C_m = (-c_m C_m+1 + c_m-1 C_m-1) / 2        L_Y S_m = (-c_m S_m+1 + c_m-1 S_m-1) / 2
    L_X C_m = ( c_m S_m+1 + c_m-1 S_m-1) / 2        L_X S_m = (-c_m C_m+1 - c_m-1 C_m-1) / 2

with an extra sqrt(2) on every element that touches C_0, and S_0 = 0. Our (x, y, z) are the standard (Y, Z, X).
Source: the ladder operators J+- of angular momentum (Varshalovich et al. 1988, section 4.1), in the real basis.

In the rational basis R_m = Y_m / sqrt(square_norm) of the integer polynomials every element is rational:
`rational_generator` serves exact proofs without roots.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

from basisgen.algebra.roots import SignedRoot, rational_root
from basisgen.so3.harmonics import square_norm

Generator = dict[tuple[int, int], SignedRoot]


@cache
def generator(l: int, axis: int) -> Generator:
    """The non-zero elements (m, m') of the antisymmetric dD^l(X_a), m and m' in -l..l; axis 0, 1, 2 = x, y, z."""
    upper = {0: _about_standard_y, 1: _about_standard_z, 2: _about_standard_x}[axis](l)
    return upper | {(n, m): -element for (m, n), element in upper.items()}


@cache
def rational_generator(l: int, axis: int) -> dict[tuple[int, int], Fraction]:
    """dD^l(X_a) in the rational basis: element (m, m') times sqrt(square_norm(m') / square_norm(m))."""
    rational = {}
    for (m, n), element in generator(l, axis).items():
        magnitude = rational_root(element.square * square_norm(l, n) / square_norm(l, m))
        assert magnitude is not None, f"dD^{l} is not rational in the rational basis at {(m, n)}"
        rational[m, n] = element.sign * magnitude
    return rational


def _about_standard_z(l: int) -> Generator:
    return {(m, -m): SignedRoot(-1, Fraction(m * m)) for m in range(1, l + 1)}


def _about_standard_y(l: int) -> Generator:
    cosines = {(m, m + 1): SignedRoot(-1, _ladder(l, m)) for m in range(l)}
    sines = {(-m, -m - 1): SignedRoot(-1, _ladder(l, m)) for m in range(1, l)}
    return cosines | sines


def _about_standard_x(l: int) -> Generator:
    up = {(m, -m - 1): SignedRoot(1, _ladder(l, m)) for m in range(l)}
    down = {(m + 1, -m): SignedRoot(1, _ladder(l, m)) for m in range(1, l)}
    return up | down


def _ladder(l: int, m: int) -> Fraction:
    """(c_m / 2)^2, twice that where the element touches C_0."""
    return Fraction((l - m) * (l + m + 1), 2 if m == 0 else 4)
