"""The tables of the rotation group in many digits, each number the nearest float64, by another way than the compiler's.

    d^l_mn(beta), |n| <= m, for one l and n downwards in m from m = l, by the ladder operator:

        sqrt((l+m)(l-m+1)) d_m-1,n = 2 (m cos(beta) - n) / sin(beta) d_m,n - sqrt((l-m)(l+m+1)) d_m+1,n
        d_l,n = sqrt(C(2l, l-n)) cos(beta/2)^(l+n) sin(beta/2)^(l-n)

    D^l(Y(alpha) X(beta) Y(gamma)) = Z(alpha) J(beta) Z(gamma):  Z turns the components m and -m into one another,
    J keeps cosines (m >= 0) and sines (m < 0) apart

d is without the Condon-Shortley phase. Source: Varshalovich et al. 1988, sections 4.3 and 4.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, comb, log10, pi, sin
from typing import Any

import mpmath
import numpy as np

from basisgen.verify.spheres import rings as grids
from basisgen.verify.spheres.rings import DIGITS, FIXED, Array, Real
from basisgen.verify.spheres.statement import Correlation, Transform

Legs = Mapping[tuple[int, int, int], list[Real]]  # (l, m, n), m >= |n| -> d^l_mn at every angle beta


def expected_transform(name: str, transform: Transform) -> dict[str, Array]:
    """The five tensors of one transform on the rotation group."""
    grid, L, N = transform.grid, transform.band_limit, transform.orders
    digits = DIGITS + ceil(2 * L * log10(8 * L))  # the smallest number is above (pi / 8L)^2L
    with mpmath.workdps(digits + 20):
        angles, rings, weights = grids.rings_and_weights(grid, L)
        legs = small_d(L, N, rings)
        rows = [(m, n, l) for m in range(L) for n in _orders(m, N) for l in range(m, L)]
        synthesis = [[mpmath.sqrt(2 * l + 1) * value for value in legs[l, m, n]] for m, n, l in rows]
        synthesis = grids.without_dust(synthesis, digits)
        if grid == "mw":
            assert angles is not None
            analysis = _analysis_of_mw(L, N, angles)
        else:
            analysis = [[w / 2 * value for w, value in zip(weights, row, strict=True)] for row in synthesis]
        found = {"analysis": analysis, "synthesis": synthesis, "cos": [[cos] for cos, _ in rings]}
        found |= {"trig": grids.waves(grid, L, L), "around": grids.waves(grid, N, N)}
        tables = {f"{name}_{key}": grids.floats(value) for key, value in found.items()}
        return tables | {f"{name}_cos": tables[f"{name}_cos"][:, 0]}


def expected_filter(layer: Correlation) -> Array:
    """Harmonics or D^l at the points of the filters, by (degree, n) or (degree, n, k), and point."""
    L, (N, K) = layer.band_limit, layer.orders
    smallest = min(
        sin(pi * part / 2) for beta in layer.betas for part in (float(beta), float(1 - beta)) if part > 1e-300
    )
    digits = DIGITS + ceil(-2 * L * log10(smallest)) + 20
    with mpmath.workdps(digits + 20):
        legs = small_d(L, max(N, K), [grids.cos_sin(beta) for beta in layer.betas])
        rows: list[list[Real]] = []
        columns = [(layer.betas.index(beta), _turns(alpha, L), _turns(gamma, L)) for alpha, beta, gamma in layer.points]
        for l in range(L):
            for n in _orders(l, N):
                for k in _orders(l, K) if layer.on_rotations else (0,):
                    norm = mpmath.mpf(1) if layer.on_rotations else mpmath.sqrt((2 * l + 1) / (4 * mpmath.pi))
                    rows.append([norm * value for value in _row(legs, l, n, k, columns)])
        return grids.floats(grids.without_dust(rows, digits))


def small_d(L: int, N: int, angles: list[tuple[Real, Real]]) -> Legs:
    """d^l_mn for m >= |n|, |n| < N, l < L, at angles given as (cos, sin) of beta."""
    halves = [(mpmath.sqrt((1 + cos) / 2), mpmath.sqrt((1 - cos) / 2)) for cos, _ in angles]
    found: dict[tuple[int, int, int], list[Real]] = {}
    for l in range(L):
        for n in _orders(l, N):
            columns = [_column(l, n, *angle, *half) for angle, half in zip(angles, halves, strict=True)]
            for m in range(abs(n), l + 1):
                found[l, m, n] = [column[m] for column in columns]
    return found


def _column(l: int, n: int, cos: Real, sin: Real, half_cos: Real, half_sin: Real) -> dict[int, Real]:
    """m -> d^l_mn, m = |n| .. l."""
    if sin == 0:  # at a pole d^l_m,+-m = 1 alone is not zero, and at the south one its sign is (-1)^(l+m)
        sign = 1 if cos > 0 else -1
        return {m: mpmath.mpf((sign ** (l + m)) if n == sign * m else 0) for m in range(abs(n), l + 1)}
    column = {l + 1: mpmath.mpf(0), l: mpmath.sqrt(comb(2 * l, l - n)) * half_cos ** (l + n) * half_sin ** (l - n)}
    for m in range(l, abs(n), -1):
        down, up = mpmath.sqrt((l + m) * (l - m + 1)), mpmath.sqrt((l - m) * (l + m + 1))
        column[m - 1] = (2 * (m * cos - n) / sin * column[m] - up * column[m + 1]) / down
    return column


def _row(legs: Legs, l: int, m: int, n: int, columns: list[tuple[int, list[Any], list[Any]]]) -> list[Real]:
    """(Z J Z)_mn at every point, (beta, turns by alpha, by gamma): over p = m, -m and q = n, -n of one sign."""
    total = [mpmath.mpf(0)] * len(columns)
    for sine in (False, True) if m and n else (False,):
        p, q = (-abs(m), -abs(n)) if sine else (abs(m), abs(n))
        tilts = _tilts(legs, l, abs(m), abs(n), sine)
        terms = [_turn(m, p, alpha) * tilts[b] * _turn(q, n, gamma) for b, alpha, gamma in columns]
        total = [a + b for a, b in zip(total, terms, strict=True)]
    return total


def _turn(m: int, p: int, waves: list[Any]) -> Real:
    """Z_mp: cos(m angle) for p = m, sin(m angle) for p = -m."""
    cos, sin = waves[abs(m)]
    return cos if p == m else sin if m < 0 else -sin


def _tilts(legs: Legs, l: int, m: int, n: int, sine: bool) -> list[Real]:
    """J_mn of cosines, or of sines, m, n >= 0, at every angle beta."""
    first = _d(legs, l, m, n)
    if m == 0 or n == 0:
        return first if m == n else [mpmath.sqrt(2) * d for d in first]
    sign = (-1) ** n * (-1 if sine else 1)
    return [a + sign * b for a, b in zip(first, _d(legs, l, m, -n), strict=True)]


def _d(legs: Legs, l: int, m: int, n: int) -> list[Real]:
    """d^l_mn, m >= 0: (-1)^(m-n) d^l_nm, or d^l_-n,-m, where |n| is the larger."""
    if m >= abs(n):
        return legs[l, m, n]
    if n < 0:
        return legs[l, -n, -m]
    return [-d for d in legs[l, n, m]] if (m - n) % 2 else legs[l, n, m]


def _turns(angle: Fraction, L: int) -> list[tuple[Real, Real]]:
    """cos and sin of pi m times the angle, m < L."""
    return [grids.cos_sin(m * angle) for m in range(L)]


def _orders(m: int, N: int) -> range:
    return range(-min(m, N - 1), min(m, N - 1) + 1)


def _analysis_of_mw(L: int, N: int, angles: list[Fraction]) -> list[list[Real]]:
    """Every order (m, n) interpolated to 2L Gauss nodes with the parity of m + n, and integrated there."""
    nodes, weights, matrices = grids.interpolation(L, angles)
    legs = small_d(L, N, nodes)
    rows: list[list[Real]] = []
    for m in range(L):
        for n in _orders(m, N):
            left = [
                [grids.fixed(mpmath.sqrt(2 * l + 1) * w / 2 * d) for w, d in zip(weights, legs[l, m, n], strict=True)]
                for l in range(m, L)
            ]
            found = np.array(left, object).dot(matrices[(m + n) % 2])
            rows += [[mpmath.ldexp(mpmath.mpf(int(value)), -2 * FIXED) for value in row] for row in found.tolist()]
    return grids.without_dust(rows, DIGITS)
