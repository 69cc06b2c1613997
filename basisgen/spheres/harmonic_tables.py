"""Tables of analysis and synthesis on the sphere and on the rotation group, correctly rounded.

On the sphere, harmonics orthonormal for the integral:

    f(theta, phi) = sum_lm f_lm Y_lm,      Y_lm = sqrt((2l+1) / 4 pi) d^l_|m|0(theta) trig_m(phi)
    trig_m = sqrt(2) sin |m| phi, 1, sqrt(2) cos m phi      for m < 0, m = 0, m > 0

    synthesis[m, l, t] = sqrt((2l+1) / 4 pi) d^l_m0(theta_t)
    analysis[m, l, t]  = sqrt(pi (2l+1)) w_t d^l_m0(theta_t)
    f_lm = sum_t analysis[|m|, l, t]  1/n sum_p f(t, p) trig_m(phi_p)

On the rotation group, orthonormal for the mean over all rotations, |n| < N, beta at the rings:

    f(R) = sum_lmn sqrt(2l+1) F^l_mn D^l_mn(R),      R = Y(alpha) X(beta) Y(gamma), turns about the axes y and x

    synthesis[m, n, l, t] = sqrt(2l+1) d^l_mn(beta_t)
    analysis[m, n, l, t]  = sqrt(2l+1) w_t / 2 d^l_mn(beta_t)

for m >= |n|; small_d says how D^l is made of them. On `mw`, samples of the rings are interpolated to Gauss nodes, an
order (m, n) as one of parity m + n:  w_t d(t) becomes sum_g w_g d(g) I_m+n(g, t).
Source: McEwen, Wiaux 2011, arXiv:1110.6298; McEwen et al. 2015, arXiv:1508.03101 (rotations).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from basisgen.errors import ProofError
from basisgen.spheres.fixed_point import (
    Floats,
    Integers,
    PrecisionError,
    cos_sin,
    in_limbs,
    nearest,
    pi,
    product,
    root,
)
from basisgen.spheres.small_d import Order, canonical, orders
from basisgen.spheres.sphere_grid import (
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
    """A transform in float64; rows (m, l), l >= m, or (m, n, l), l >= m >= |n|, in this order."""

    sampling: Sampling
    L: int
    cos_theta: Floats  # (ring)
    analysis: Floats  # (row, ring)
    synthesis: Floats  # (row, ring)
    trigonometric: Floats  # (point, 2L-1): trig_m(phi_p), m = -(L-1) .. L-1
    around: Floats | None = None  # (point, 2N-1): trig_n(gamma_p), n = -(N-1) .. N-1; on the rotation group alone


def tables(sampling: Sampling, L: int, N: int | None = None) -> Tables:
    """The tables of a grid on the sphere, or on the rotation group with azimuthal band limit N.

    The quadrature is proved on the way, and the identity of the result to rounding. Raises ProofError where the grid is
    not exact below the band limit.
    """
    bits, kept = enough_bits(L if N is None else 2 * L), PRODUCT_BITS
    while True:
        try:
            found = _tables(sampling, L, N, bits, kept)
        except PrecisionError:
            bits, kept = 2 * bits, 2 * kept
        else:
            check_identity(found)
            return found


def check_identity(found: Tables) -> None:
    """Analysis after synthesis is the identity on every order, up to the rounding of the tables and of their product.

    |sum_t A[l, t] S[l', t] - delta| <= (rings + 4) 2^-53 sum_t |A[l, t]| |S[l', t]|: each number is within half an ulp,
    and a sum of n products within n roundings. Raises ProofError.
    """
    N = 1 if found.around is None else (found.around.shape[1] + 1) // 2
    unit, start = (len(found.cos_theta) + 4) * 2.0**-53, 0
    for m, n in canonical(found.L, N):
        rows = slice(start, start + found.L - m)
        start = rows.stop
        analysis, synthesis = found.analysis[rows], found.synthesis[rows]  # (degree, ring)
        off = np.abs(analysis @ synthesis.T - np.eye(found.L - m))  # (degree, ring) @ (ring, degree)
        if not np.all(off <= unit * (np.abs(analysis) @ np.abs(synthesis).T)):
            raise ProofError(f"orders {m}, {n}: analysis after synthesis is off by {off.max():.1e} from the identity")


def _tables(sampling: Sampling, L: int, N: int | None, bits: int, kept: int = PRODUCT_BITS) -> Tables:
    grid = rings(sampling, L, bits)
    room = slack(L if N is None else 2 * L)
    scale = None
    if sampling is not Sampling.MW:
        weight = weights(sampling, L, grid)
        check_quadrature(L, grid, weight)
        scale = weight * _scale_of_analysis(N, bits) >> bits
    synthesis, analysis = [], []
    for order in orders(L, N or 1, grid, room):
        synthesis.append(_rounded(_scaled(order, _scale_of_synthesis(N, bits), bits), order, room, bits))
        if scale is not None:
            analysis.append(_rounded(_scaled(order, scale, bits), order, room, bits))
    return Tables(
        sampling,
        L,
        nearest(grid.cos, 1 << room, bits),
        np.concatenate(analysis) if analysis else _analysis_of_mw(L, N, room, kept),
        np.concatenate(synthesis),
        trigonometric(L, points_of_ring(sampling, L), bits),
        None if N is None else trigonometric(N, points_of_ring(sampling, N), bits),
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


def _scaled(order: Order, scale: Integers | int, bits: int) -> Integers:
    """scale sqrt(2l+1) q_l, (degree, ring)."""
    degrees = range(order.m, order.m + len(order.polynomials))
    roots = np.array([root(Fraction(2 * l + 1), bits) for l in degrees], object)
    values: Integers = scale * (roots[:, None] * order.polynomials >> bits) >> bits
    return values


def _rounded(values: Integers, order: Order, room: int, bits: int) -> Floats:
    """Values (degree, ring) times the factor of the order."""
    found = nearest(values * order.mantissa >> bits, order.size << (room + 8), bits)
    scaled: Floats = np.ldexp(found, np.array(order.exponent))  # exact: 10^-280 is no subnormal number
    return scaled


def _scale_of_synthesis(N: int | None, bits: int) -> int:
    return 1 << bits if N is not None else (1 << 2 * bits - 1) // _root_of_pi(bits)


def _scale_of_analysis(N: int | None, bits: int) -> int:
    return 1 << bits - 1 if N is not None else _root_of_pi(bits)


def _root_of_pi(bits: int) -> int:
    return root(Fraction(pi(bits), 1 << bits), bits)


def _analysis_of_mw(L: int, N: int | None, room: int, kept: int) -> Floats:
    """The rows of the analysis, from products of numbers in units of 2^-kept."""
    bits = enough_bits(L if N is None else 2 * L) + kept - PRODUCT_BITS
    nodes = gauss_rings(L, bits)
    weight = weights(Sampling.GAUSS, L, nodes)
    check_quadrature(L, nodes, weight)
    matrices = interpolation(L, nodes, True), interpolation(L, nodes, False)
    check_interpolation(L, nodes, matrices)
    even, odd = (in_limbs(matrix >> bits - kept, kept + L.bit_length() + 2) for matrix in matrices)
    short = kept + 64  # bits that are enough behind the recursion
    scale = weight * _scale_of_analysis(N, bits) >> 2 * bits - short
    found = []
    for order in orders(L, N or 1, nodes, room):
        left = _scaled(order.shortened(bits - short), scale, short)  # (degree, node)
        left = left * (order.mantissa >> bits - short) >> np.array(
            [2 * short - kept - e for e in order.exponent], object
        )
        # (degree, node) @ (node, ring), either number within a unit, and smaller than 4 L
        values, error = product(left, odd if (order.m + order.n) % 2 else even, kept)
        found.append(nearest(values, error + 16 * L * L + 8, kept))
    return np.concatenate(found)
