"""Grids on the sphere with a quadrature that is exact below a band limit L, in fixed point.

    grid            rings theta_t, t = 0, 1, ..             rings    points of each ring
    gauss           roots of P_L(cos theta)                  L        2L-1
    driscoll_healy  pi (2t+1) / 4L                           2L       2L
    equiangular     pi t / (2L-1), poles included            2L       2L
    mw              pi (2t+1) / (2L-1), south pole included  L        2L-1

Two harmonics of degree below L multiply to a polynomial of degree at most 2L-2 in cos theta (times sin theta for odd
orders). The weights w_t of the first three integrate these exactly:

    sum_t w_t P_k(cos theta_t) = 2 [k = 0],     k = 0 .. 2L-2                                                       (Q)

and points phi_p = 2 pi p / n do so in longitude for n >= 2L-1. On `mw` no weights do; there a function of order m,
continued over the pole by f(2 pi - theta) = (-1)^m f(theta), is a trigonometric polynomial of degree below L, which its
2L-1 values determine: they are interpolated to Gauss nodes theta_g,

    f(theta_g) = sum_t I_m(g, t) f(theta_t),  I_m = D(theta_g - theta_t) + (-1)^m D(theta_g + theta_t)              (I)
    D(x) = sin((2L-1) x/2) / ((2L-1) sin(x/2)),      at the pole D(theta_g - pi) for even m, nothing for odd m

and integrated there: the McEwen-Wiaux sampling theorem.
Sources: Driscoll, Healy 1994, Adv. Appl. Math. 15, 202; McEwen, Wiaux 2011, arXiv:1110.6298; Clenshaw, Curtis 1960.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from itertools import islice

import numpy as np

from basisgen.errors import ProofError
from basisgen.spheres.fixed_point import Integers, cos_sin, roots


class Sampling(Enum):
    """The grids that have a name."""

    MW = "mw"
    GAUSS = "gauss"
    DRISCOLL_HEALY = "driscoll_healy"
    EQUIANGULAR = "equiangular"


CHECKED = 256  # bits in which the interpolation is checked, to 2^-200


def slack(L: int) -> int:
    """The bits that a computation may lose at band limit L: every number is within 2^-(bits - slack)."""
    return 4 * L + 64


def enough_bits(L: int) -> int:
    """Bits that leave numbers of 2^L and less, which harmonics without their power of the sine are, 380 bits."""
    return 384 + slack(L) + L


@dataclass(frozen=True)
class Rings:
    """Rings of latitude in fixed point: cos theta, and cos and sin of theta / 2; numbers within `error`."""

    bits: int
    error: int
    cos: Integers
    half_cos: Integers
    half_sin: Integers

    def __len__(self) -> int:
        return len(self.cos)


def points_of_ring(sampling: Sampling, L: int) -> int:
    """The number of longitudes."""
    return 2 * L - 1 if sampling in (Sampling.MW, Sampling.GAUSS) else 2 * L


def angles(sampling: Sampling, L: int) -> list[Fraction]:
    """theta_t / pi of the rings, for all grids but `gauss`."""
    if sampling is Sampling.MW:
        return [Fraction(2 * t + 1, 2 * L - 1) for t in range(L)]
    if sampling is Sampling.DRISCOLL_HEALY:
        return [Fraction(2 * t + 1, 4 * L) for t in range(2 * L)]
    assert sampling is Sampling.EQUIANGULAR
    return [Fraction(t, 2 * L - 1) for t in range(2 * L)]


def rings(sampling: Sampling, L: int, bits: int) -> Rings:
    """The rings of a grid, from north to south."""
    if sampling is Sampling.GAUSS:
        return gauss_rings(L, bits)
    thetas = angles(sampling, L)
    cosines = [cos_sin(theta, bits)[0] for theta in thetas]
    halves = [cos_sin(theta / 2, bits) for theta in thetas]
    columns = (cosines, [cos for cos, _ in halves], [sin for _, sin in halves])
    return Rings(bits, 1, *(np.array(column, object) for column in columns))


def weights(sampling: Sampling, L: int, grid: Rings) -> Integers:
    """w_t of (Q), within the slack; not of `mw`, which has none."""
    bits = grid.bits
    if sampling is Sampling.GAUSS:
        one = 1 << bits
        slope = _legendre(L, grid.cos, bits)[1]
        weight: Integers = (2 * one << 2 * bits) // ((one - (grid.cos**2 >> bits)) * (slope**2 >> bits))
        return weight
    found = []
    for theta in angles(sampling, L):
        if sampling is Sampling.DRISCOLL_HEALY:
            series = sum(cos_sin((2 * k + 1) * theta, bits)[1] // (2 * k + 1) for k in range(L))
            found.append((2 * cos_sin(theta, bits)[1] * series >> bits) // L)
        else:  # Clenshaw-Curtis with 2L-1 intervals, an odd number
            series = sum(2 * cos_sin(2 * k * theta, bits)[0] // (4 * k * k - 1) for k in range(1, L))
            ends = theta in (0, 1)
            found.append(((1 if ends else 2) * ((1 << bits) - series)) // (2 * L - 1))
    return np.array(found, object)


def check_quadrature(L: int, grid: Rings, weight: Integers) -> None:
    """(Q) to 2^-(bits - slack), so to 60 digits and more; raises ProofError."""
    one = 1 << grid.bits
    before, present = np.zeros(len(grid), object), np.full(len(grid), one, object)
    for k in range(2 * L - 1):
        total = sum((weight * present >> grid.bits).tolist())
        if abs(total - (2 * one if k == 0 else 0)) >> slack(L):
            raise ProofError(
                f"the weights of the grid do not integrate P_{k}: an analysis of band limit {L} would be wrong"
            )
        before, present = present, ((2 * k + 1) * (grid.cos * present >> grid.bits) - k * before) // (k + 1)


def gauss_rings(L: int, bits: int) -> Rings:
    """The roots of P_L by Newton's method; each is proved to lie within the error by a change of sign."""
    x = np.array([int(root * (1 << 60)) << (bits - 60) for root in np.polynomial.legendre.leggauss(L)[0][::-1]], object)
    if L % 2:
        x[L // 2] = 0
    for _ in range(2 + bits.bit_length()):
        value, slope = _legendre(L, x, bits)
        step = (value << bits) // slope
        x = x - step
        if L % 2:
            x[L // 2] = 0
        if max(abs(step).tolist()) <= 4:
            break
    error = 1 << (2 * L + 16)
    low, high = _legendre(L, x - error, bits)[0], _legendre(L, x + error, bits)[0]
    if not all(a * b < 0 for a, b in zip(low.tolist(), high.tolist(), strict=True)):
        raise ProofError(f"the {L} roots of P_{L} were not found")
    one = 1 << bits
    half = (roots((one + x) // 2, bits), roots((one - x) // 2, bits))
    return Rings(bits, error * 4 * L, x, *half)


def interpolation(L: int, grid: Rings, even: bool) -> Integers:
    """I_m(g, t) of (I), (Gauss node, ring of `mw`), for even or odd m; within the slack.

    With N = 2L-1 and theta_t = (2t+1) pi / N:  sin(N (theta_g -+ theta_t) / 2) = -+(-1)^t cos(N theta_g / 2).
    """
    bits, N = grid.bits, 2 * L - 1
    top = _multiple_cosine(N, grid)  # cos(N theta_g / 2)
    columns = []
    for t, theta in enumerate(angles(Sampling.MW, L)):
        cos, sin = cos_sin(theta / 2, bits)
        ahead = (grid.half_sin * cos - grid.half_cos * sin) >> bits  # sin((theta_g - theta_t) / 2)
        behind = (grid.half_sin * cos + grid.half_cos * sin) >> bits
        sign = -1 if t % 2 == 0 else 1
        first = ((sign * top) << bits) // (N * ahead)
        second = ((-sign * top) << bits) // (N * behind)
        if t == L - 1:
            columns.append(first if even else np.zeros(L, object))
        else:
            columns.append(first + second if even else first - second)
    return np.stack(columns, axis=1)


def check_interpolation(L: int, grid: Rings, matrices: tuple[Integers, Integers]) -> None:
    """(I) for cos(k theta), of even orders, and sin(k theta), of odd ones, k < L, to 60 digits; raises ProofError."""
    more = max(0, grid.bits - CHECKED)
    even, odd = (matrix >> more for matrix in matrices)
    for k, (cos_k, sin_k) in enumerate(islice(_multiple_angles(grid), L)):
        values = [cos_sin(k * theta, CHECKED) for theta in angles(Sampling.MW, L)]
        of_even = (even * np.array([cos for cos, _ in values], object)).sum(axis=1) >> CHECKED
        of_odd = (odd * np.array([sin for _, sin in values], object)).sum(axis=1) >> CHECKED
        errors = [*abs(of_even - (cos_k >> more)).tolist(), *abs(of_odd - (sin_k >> more)).tolist()]
        if max(errors) >> (CHECKED - 200):
            raise ProofError(f"the grid mw of band limit {L} does not interpolate degree {k}")


def _multiple_angles(grid: Rings) -> Iterator[tuple[Integers, Integers]]:
    """cos and sin of k theta at the rings, k = 0, 1, .., by the addition theorem."""
    bits = grid.bits
    sin = grid.half_sin * grid.half_cos * 2 >> bits
    cos_k, sin_k = np.full(len(grid), 1 << bits, object), np.zeros(len(grid), object)
    while True:
        yield cos_k, sin_k
        cos_k, sin_k = (cos_k * grid.cos - sin_k * sin) >> bits, (sin_k * grid.cos + cos_k * sin) >> bits


def _multiple_cosine(N: int, grid: Rings) -> Integers:
    """cos(N theta / 2), N odd."""
    cos_k, sin_k = next(islice(_multiple_angles(grid), N // 2, None))
    cosine: Integers = (cos_k * grid.half_cos - sin_k * grid.half_sin) >> grid.bits
    return cosine


def _legendre(L: int, x: Integers, bits: int) -> tuple[Integers, Integers]:
    """P_L(x) and its derivative."""
    one = 1 << bits
    before, present = np.zeros(len(x), object), np.full(len(x), one, object)
    for k in range(L):
        before, present = present, ((2 * k + 1) * (x * present >> bits) - k * before) // (k + 1)
    slope = (L * (before - (x * present >> bits)) << bits) // (one - (x * x >> bits))
    return present, slope
