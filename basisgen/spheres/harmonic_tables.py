"""Tables of analysis and synthesis on the sphere, correctly rounded: what turns samples into coefficients and back.

    f(theta, phi) = sum_lm f_lm Y_lm,      Y_lm = P_l|m|(theta) trig_m(phi),      integral Y_lm Y_l'm' = delta delta
    trig_m = sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi      for m < 0, m = 0, m > 0
    P_lm   = sqrt((2l+1) / 4 pi) d_lm,      d_lm = sqrt((l-m)! / (l+m)!) P_l^m, without the Condon-Shortley phase

    synthesis[m, t, l] = P_lm(theta_t)
    analysis[m, l, t]  = 2 pi w_t P_lm(theta_t),       mw: 2 pi sum_g w_g P_lm(theta_g) I_m(g, t)
    f_lm = sum_t analysis[|m|, l, t]  1/n sum_p f(t, p) trig_m(phi_p)

d_mm = sqrt(C(2m, m)) (cos(theta/2) sin(theta/2))^m, and upwards in l, with its error, in fixed point:

    sqrt((l+1)^2 - m^2) d_l+1,m = (2l+1) cos(theta) d_lm - sqrt(l^2 - m^2) d_l-1,m
Source: Varshalovich et al. 1988, section 5.7 (recursion); McEwen, Wiaux 2011 (mw).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np

from basisgen.errors import ProofError
from basisgen.spheres.fixed_point import Floats, Integers, PrecisionError, cos_sin, nearest, pi, root
from basisgen.spheres.sphere_grid import (
    Rings,
    Sampling,
    check_interpolation,
    check_quadrature,
    enough_bits,
    gauss_rings,
    interpolation,
    points_of_ring,
    rings,
    slack,
    weights,
)

PRODUCT_BITS = 320  # of the factors of a table of `mw`


@dataclass(frozen=True, eq=False)
class Tables:
    """A transform in float64; rows (m, l) with l >= m, in order of m, then l."""

    sampling: Sampling
    L: int
    cos_theta: Floats  # (ring)
    analysis: Floats  # (m and l, ring)
    synthesis: Floats  # (m and l, ring)
    trigonometric: Floats  # (point, 2L-1): trig_m(phi_p), m = -(L-1) .. L-1


def tables(sampling: Sampling, L: int) -> Tables:
    """The tables of a grid, its quadrature proved on the way.

    Raises ProofError where the grid is not exact below the band limit.
    """
    bits = enough_bits(L)
    while True:
        try:
            return _tables(sampling, L, bits)
        except PrecisionError:
            bits *= 2


def _tables(sampling: Sampling, L: int, bits: int) -> Tables:
    grid = rings(sampling, L, bits)
    harmonics = _harmonics(L, grid)
    factors = [root(Fraction(2 * l + 1), bits) for l in range(L)]
    scale = (root(Fraction(1, 4), bits) << bits) // _root_of_pi(bits)  # 1 / sqrt(4 pi)
    synthesis = [scale * (factors[l] * row >> bits) >> bits for (_, l), row in harmonics.items()]
    error = 1 << (slack(L) + 8)
    if sampling is Sampling.MW:
        analysis, product_error, product_bits = _analysis_of_mw(L, bits)
    else:
        weight = weights(sampling, L, grid)
        check_quadrature(L, grid, weight)
        analysis = [_weighted(row, l, weight, factors, bits) for (_, l), row in harmonics.items()]
        product_error, product_bits = error, bits
    n = points_of_ring(sampling, L)
    return Tables(
        sampling,
        L,
        nearest(grid.cos, 1 << slack(L), bits),
        nearest(np.array(analysis), product_error, product_bits),
        nearest(np.array(synthesis), error, bits),
        trigonometric(L, n, bits),
    )


def trigonometric(L: int, points: int, bits: int) -> Floats:
    """trig_m at 2 pi p / points, (point, m = -(L-1) .. L-1)."""
    two = root(Fraction(2), bits)
    rows = []
    for p in range(points):
        of_point = [cos_sin(Fraction(2 * m * p, points), bits) for m in range(L)]
        sines = [two * sin >> bits for _, sin in reversed(of_point[1:])]
        rows.append([*sines, 1 << bits, *(two * cos >> bits for cos, _ in of_point[1:])])
    return nearest(np.array(rows, object), 16, bits)


def _harmonics(L: int, grid: Rings) -> dict[tuple[int, int], Integers]:
    """(m, l) -> d_lm at every ring, l >= m, in order of m, then l; within 2^-(bits - slack).

    Raises ProofError where the recursion lost more bits.
    """
    bits = grid.bits
    found: dict[tuple[int, int], Integers] = {}
    halves = (grid.half_cos * grid.half_sin) >> bits
    power, power_error = np.full(len(grid), 1 << bits, object), 0
    for m in range(L):
        if m:
            power, power_error = power * halves >> bits, power_error + 2 * grid.error + 4
        central = root(Fraction(comb(2 * m, m)), bits)
        row: Integers = np.array(central * power >> bits, object)
        before = np.zeros(len(grid), object)
        error, error_before = ((central >> bits) + 2) * (power_error + 2), 0
        for l in range(m, L):
            found[m, l] = row
            # ahead = up cos d_l - down d_l-1
            square = Fraction((l + 1) ** 2 - m * m)
            up, down = root((2 * l + 1) ** 2 / square, bits), root((l * l - m * m) / square, bits)
            ahead: Integers = (up * (grid.cos * row >> bits) - down * before) >> bits
            growth = (up >> bits) + 1
            error, error_before = growth * (error + grid.error + 2) + 2 * error_before + 8, error
            row, before = ahead, row
        if error.bit_length() > slack(L):
            raise ProofError(f"the harmonics of order {m} lost more than {slack(L)} bits")
    return found


def _weighted(row: Integers, l: int, weight: Integers, factors: list[int], bits: int) -> Integers:
    """sqrt(pi (2l+1)) w_t d_lm."""
    weighted: Integers = _root_of_pi(bits) * (factors[l] * (weight * row >> bits) >> bits) >> bits
    return weighted


def _root_of_pi(bits: int) -> int:
    return root(Fraction(pi(bits), 1 << bits), bits)


def _analysis_of_mw(L: int, bits: int) -> tuple[list[Integers], int, int]:
    """The rows of the analysis, their error and their bits."""
    nodes = gauss_rings(L, bits)
    weight = weights(Sampling.GAUSS, L, nodes)
    check_quadrature(L, nodes, weight)
    matrices = interpolation(L, nodes, True), interpolation(L, nodes, False)
    check_interpolation(L, nodes, matrices)
    less = max(0, bits - PRODUCT_BITS)
    kept = bits - less
    even, odd = (matrix >> less for matrix in matrices)
    factors = [root(Fraction(2 * l + 1), bits) for l in range(L)]
    rows: dict[int, list[Integers]] = {}
    for (m, l), row in _harmonics(L, nodes).items():
        rows.setdefault(m, []).append(_weighted(row, l, weight, factors, bits) >> less)
    found: list[Integers] = []
    for m, of_order in rows.items():
        # (l, node) @ (node, ring)
        found += list(np.array(of_order).dot(odd if m % 2 else even) >> kept)
    # each of L products is off by at most one unit times either factor, whose sizes are below 2 L
    return found, 8 * L * L + 8, kept
