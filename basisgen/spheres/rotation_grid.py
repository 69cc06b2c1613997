"""Small grids of rotations that learned filters have values on, and harmonics and D^l at their points.

    near_identity   beta = max_beta b / betas, b = 1 .. betas;  alpha = 2 pi a / alphas
                    gamma = -max_gamma .. max_gamma - alpha, in equal steps: turns by at most about beta
    equatorial      beta = pi/2 - max_beta .. pi/2 + max_beta;  alpha = 2 pi a / alphas
                    gamma = -max_gamma .. max_gamma

of rotations R = Y(alpha) X(beta) Y(gamma), turns about the axes y and x, which take the pole y to colatitude beta and
longitude alpha. A filter on the sphere has its values there, and no gamma. Points in the order beta, alpha, gamma;
angles as parts of pi, rationals. Values in fixed point, with bounds on their errors, by small_d.
Source: Cohen et al. 2018, arXiv:1801.10130, section 5, and its public code jonkhler/s2cnn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from math import ceil, log2, pi, sin

import mpmath
import numpy as np

from basisgen.spheres import fixed_point
from basisgen.spheres.fixed_point import Floats, Integers, PrecisionError, nearest, root
from basisgen.spheres.small_d import small_d
from basisgen.spheres.sphere_grid import Rings, slack

Angles = tuple[Fraction, Fraction, Fraction]  # alpha, beta, gamma over pi


class Shape(Enum):
    """Where the points of a grid lie."""

    NEAR_IDENTITY = "near_identity"
    EQUATORIAL = "equatorial"


@dataclass(frozen=True)
class RotationGrid:
    """A grid of rotations; one gamma, where it is of points on the sphere."""

    shape: Shape
    alphas: int
    betas: int
    gammas: int
    max_beta: Fraction  # over pi
    max_gamma: Fraction

    def __len__(self) -> int:
        return self.alphas * self.betas * self.gammas

    @property
    def rings(self) -> list[Fraction]:
        """beta over pi."""
        if self.shape is Shape.NEAR_IDENTITY:
            return [self.max_beta * b / self.betas for b in range(1, self.betas + 1)]
        return [Fraction(1, 2) + beta for beta in _steps(self.max_beta, self.betas)]

    @property
    def words(self) -> str:
        """`24 points near identity: 3 beta to 1/8 pi, 8 alpha`."""
        of = f"{self.betas} beta to {self.max_beta} pi, " if self.shape is Shape.NEAR_IDENTITY else ""
        around = f", {self.gammas} gamma" if self.gammas > 1 else ""
        return f"{len(self)} points {self.shape.value.replace('_', ' ')}: {of}{self.alphas} alpha{around}"

    @property
    def points(self) -> list[Angles]:
        """The points in order."""
        found = []
        for beta in self.rings:
            for alpha in (Fraction(2 * a, self.alphas) for a in range(self.alphas)):
                for gamma in _steps(self.max_gamma, self.gammas):
                    found.append((alpha, beta, gamma - alpha if self.shape is Shape.NEAR_IDENTITY else gamma))
        return found


def values_on_sphere(grid: RotationGrid, L: int, N: int) -> Floats:
    """Y_ln at every point, correctly rounded: rows (l, n), l < L, |n| < N; columns points."""
    return _rounded(grid, L, lambda bits, room: _harmonics(grid, L, N, bits, room))


def values_on_rotations(grid: RotationGrid, L: int, N: int, K: int) -> Floats:
    """D^l_nk at every point, correctly rounded: rows (l, n, k), l < L, |n| < N, |k| < K; columns points."""
    return _rounded(grid, L, lambda bits, room: _wigner(grid, L, N, K, bits, room))


def orders(l: int, N: int) -> range:
    """-min(l, N-1) .. min(l, N-1)."""
    return range(-min(l, N - 1), min(l, N - 1) + 1)


def _steps(most: Fraction, count: int) -> list[Fraction]:
    return [-most + 2 * most * c / (count - 1) for c in range(count)] if count > 1 else [Fraction(0)]


def _rounded(grid: RotationGrid, L: int, compute: Callable[[int, int], Integers]) -> Floats:
    room = slack(2 * L)
    smallest = min(
        sin(pi * part / 2) for beta in grid.rings for part in (float(beta), float(1 - beta)) if part > 1e-300
    )
    bits = 256 + room + 2 * L * ceil(-log2(smallest) + 1)
    while True:
        try:
            return nearest(compute(bits, room), 1 << (room + 12), bits)
        except PrecisionError:
            bits *= 2


def _rings(grid: RotationGrid, bits: int) -> Rings:
    full, half = ([_cos_sin(part * beta, bits) for beta in grid.rings] for part in (1, Fraction(1, 2)))
    columns = ([cos for cos, _ in full], [cos for cos, _ in half], [sin for _, sin in half])
    return Rings(bits, 1, *(np.array(column, object) for column in columns))


def _cos_sin(angle: Fraction, bits: int) -> tuple[int, int]:
    """cos and sin of pi times any rational, each to one unit."""
    with mpmath.workprec(bits + 64):
        x = mpmath.mpf(angle.numerator) / angle.denominator
        scale = 1 << bits
        return int(mpmath.nint(mpmath.cospi(x) * scale)), int(mpmath.nint(mpmath.sinpi(x) * scale))


def _multiples(angles: list[Fraction], L: int, bits: int) -> list[tuple[Integers, Integers]]:
    """cos and sin of m times each angle, m = 0 .. L-1; within 4 m + 1 units."""
    first = [_cos_sin(angle, bits) for angle in angles]
    cos, sine = (np.array(column, object) for column in zip(*first, strict=True))
    found = [(np.full(len(angles), 1 << bits, object), np.zeros(len(angles), object))]
    for _ in range(1, L):
        c, s = found[-1]
        found.append(((c * cos - s * sine) >> bits, (s * cos + c * sine) >> bits))
    return found


def _harmonics(grid: RotationGrid, L: int, N: int, bits: int, room: int) -> Integers:
    """sqrt((2l+1) / 4 pi) d^l_n0(beta) trig_n(alpha)."""
    table = small_d(L, 1, _rings(grid, bits), room)
    waves = _multiples([alpha for alpha, _, _ in grid.points], L, bits)
    two, root_of_pi = root(Fraction(2), bits), root(Fraction(fixed_point.pi(bits), 1 << bits), bits)
    rows = []
    for l in range(L):
        scale = (root(Fraction(2 * l + 1, 4), bits) << bits) // root_of_pi
        for n in orders(l, N):
            leg = np.repeat(scale * table[abs(n), 0][l - abs(n)] >> bits, grid.alphas * grid.gammas)
            wave = waves[abs(n)][0 if n >= 0 else 1]
            rows.append((leg * wave >> bits) * (two if n else 1 << bits) >> bits)
    return np.array(rows, object)


def _wigner(grid: RotationGrid, L: int, N: int, K: int, bits: int, room: int) -> Integers:
    """D^l_nk as small_d says it of orders n and k."""
    table = small_d(L, max(N, K), _rings(grid, bits), room)
    alpha, gamma = (_multiples([point[k] for point in grid.points], L, bits) for k in (0, 2))
    legs = {key: [np.repeat(row, grid.alphas * grid.gammas) for row in of] for key, of in table.items()}
    half = root(Fraction(1, 2), bits)
    found: dict[tuple[int, int, int], Integers] = {}
    for n in range(N):
        for k in range(K):
            plus, minus = _sum_and_difference(alpha[n], gamma[k], bits)
            scale = (1 << bits) if n and k else half if n or k else 1 << bits - 1
            for l in range(max(n, k), L):
                a, b = _d(legs, l, n, k), (-1) ** k * _d(legs, l, n, -k)
                cos_a, sin_a, cos_b, sin_b = (
                    scale * (leg * wave >> bits) >> bits for leg, waves in ((a, plus), (b, minus)) for wave in waves
                )
                # where n or k is 0 the later ones count
                found[l, -n, -k], found[l, n, -k] = cos_a - cos_b, sin_b - sin_a
                found[l, -n, k], found[l, n, k] = sin_a + sin_b, cos_a + cos_b
    return np.array([found[l, n, k] for l in range(L) for n in orders(l, N) for k in orders(l, K)], object)


def _sum_and_difference(
    first: tuple[Integers, Integers], second: tuple[Integers, Integers], bits: int
) -> tuple[tuple[Integers, Integers], tuple[Integers, Integers]]:
    """cos and sin of the sum of two angles, and of their difference."""
    (c, s), (d, t) = first, second
    cc, ss, sc, cs = (x * y >> bits for x, y in ((c, d), (s, t), (s, d), (c, t)))
    return (cc - ss, sc + cs), (cc + ss, sc - cs)


def _d(table: dict[tuple[int, int], list[Integers]], l: int, m: int, n: int) -> Integers:
    """d^l_mn, m >= 0, of the canonical ones."""
    if m >= abs(n):
        return table[m, n][l - m]
    if n > 0:
        return (-table[n, m][l - n]) if (m - n) % 2 else table[n, m][l - n]
    return table[-n, -m][l + n]
