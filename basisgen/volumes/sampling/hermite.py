"""Oscillator filters: smooth, of one scale, and sums of products of functions of x, y and z (see `cartesian`).

    F_nJM(x) = exp(-|x|^2 / (2 s^2)) L_n^(J+1/2)(|x|^2/s^2) |x|^J Y_JM(x/|x|),      level N = J + 2n <= n_max

Their Fourier transforms are themselves, so one number s balances two errors: a filter cut off by the kernel's edge, at
k/2, and one aliased beyond the Nyquist frequency, at pi. Equal shares of both are s^2 = k / (2 pi); the default is

    s^2 = 4k/25,      n_max = 2k/3 rounded down,      in units of the widest pitch p; k = the smallest extent / p

which no other s betters by more than 2 %: worst defect over the span of the filters of a degree, at the default s | at
the best s, by minimisation

    k       3     4     5     6     7     8     9     11
    n_max   2     2     3     4     4     5     6     7
    s       .693  .800  .894  .980  1.06  1.13  1.20  1.33
    worst   .183  .097  .146  .176  .104  .129  .148  .122
    best    .183  .096  .146  .173  .104  .129  .148  .122

Source: the isotropic harmonic oscillator, e.g. Cohen-Tannoudji, Diu, Laloe, Quantum Mechanics, complement B-VII.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import factorial
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.roots import SignedRoot
from basisgen.algebra.rounding import PRECISION, real
from basisgen.errors import SamplingError
from basisgen.reading import Settings
from basisgen.volumes.sampling.cartesian import cartesian_expansion, laguerre, square_kappa
from basisgen.volumes.sampling.exact import RadialProfile, sample_solid
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.products import Powers, Products, product_indices

MOST_LEVELS = 40


@dataclass(frozen=True)
class Hermite:
    """Oscillator filters up to level `n_max`; `scale` s is a physical length. None: the defaults above."""

    n_max: int | None = None
    scale: Fraction | None = None

    @classmethod
    def parse(cls, settings: Settings) -> Hermite:
        """Reads n_max and scale."""
        return cls(settings.integer("n_max", most=MOST_LEVELS), settings.positive("scale"))

    @property
    def name(self) -> str:
        """`hermite`."""
        return "hermite"

    @property
    def separable(self) -> bool:
        """True: the filters are sums of products."""
        return True

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {"n_max": self.n_max, "scale": None if self.scale is None else str(self.scale)}

    def levels(self, grid: VoxelGrid) -> int:
        """The largest N = J + 2n."""
        return int(2 * _width(grid) // 3) if self.n_max is None else self.n_max

    def square_scale(self, grid: VoxelGrid) -> Fraction:
        """s^2 in physical units."""
        if self.scale is not None:
            return self.scale**2
        return Fraction(4, 25) * _width(grid) * max(grid.pitch) ** 2

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; values are correctly rounded. Profiles n = 0, 1, .. of every J."""
        n_max = self.levels(grid)
        return tuple(self._group(J, n, grid) for J in degrees for n in range((n_max - J) // 2 + 1))

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> Products:
        """See RadialFamily; every expansion is proved where it is made, and each number correctly rounded.

        With `cartesian`'s O and kappa, h_a(t) = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2) of t = x/s, and E = s^J O / kappa:
        the filters carry |x|^J in physical units and no normalisation.
        """
        square_scale = self.square_scale(grid)
        orders = [_order(group, square_scale) for group in groups]
        expansion = [row for group, n in zip(groups, orders, strict=True) for row in _rows(n, group.J, square_scale)]
        levels = max(sum(powers) for row in expansion for powers in row)
        column = {powers: i for i, powers in enumerate(product_indices(levels))}
        matrix = np.zeros((len(expansion), len(column)))
        for row, terms in enumerate(expansion):
            for powers, value in terms.items():
                matrix[row, column[powers]] = float(value)
        x, y, z = (
            oscillator_taps(levels, n, pitch, square_scale) for n, pitch in zip(grid.size, grid.pitch, strict=True)
        )
        statement = {
            "square_scale": str(square_scale),
            "orders": orders,
            "expansion": [[row, *powers, str(e)] for row, terms in enumerate(expansion) for powers, e in terms.items()],
        }
        return Products(grid, matrix, (x, y, z), statement)

    def _group(self, J: int, n: int, grid: VoxelGrid) -> FilterGroup:
        square_scale = self.square_scale(grid)
        values = sample_solid(J, oscillator(n, J, square_scale), grid)
        if not values.any():
            raise SamplingError(
                f"the oscillator filter of degree J = {J}, level {J + 2 * n} is zero at every tap of a {grid} grid. "
                "Lower n_max, or enlarge the kernel or the scale."
            )
        return FilterGroup(J, _formula(n, J, square_scale), values)


def oscillator(n: int, J: int, square_scale: Fraction) -> RadialProfile:
    """exp(-r^2 / (2 s^2)) L_n^(J+1/2)(r^2/s^2) as a function of r^2; the Laguerre polynomial exactly."""
    coefficients = laguerre(n, J)

    def phi(square: Fraction) -> mpmath.mpf:
        t = square / square_scale
        polynomial = sum(c * t**i for i, c in enumerate(coefficients))
        return real(Fraction(polynomial)) * mpmath.exp(-real(t / 2))

    return phi


def _formula(n: int, J: int, square_scale: Fraction) -> str:
    """phi(r) Y_J(x/r) is the filter: r^J L_n exp(-r^2/(2 s^2))."""
    t = f"r^2/({square_scale})"
    terms = [f"({c})*({t})^{i}" if i else f"({c})" for i, c in enumerate(laguerre(n, J))]
    factors = [f"r^{J}"] * (J > 0) + [f"({' + '.join(terms)})"] * (n > 0) + [f"exp(-{t}/2)"]
    return "*".join(factors)


def _order(group: FilterGroup, square_scale: Fraction) -> int:
    """The n of a group, read from its formula."""
    return next(n for n in range(MOST_LEVELS) if _formula(n, group.J, square_scale) == group.formula)


def _width(grid: VoxelGrid) -> Fraction:
    """k: the smallest extent of the grid in units of its widest pitch."""
    return min(n * pitch for n, pitch in zip(grid.size, grid.pitch, strict=True)) / max(grid.pitch)


def _rows(n: int, J: int, square_scale: Fraction) -> list[Mapping[Powers, SignedRoot]]:
    """E of the rows M = -J..J of one group: (a, b, c) -> s^J O / kappa."""
    factor = SignedRoot(1, square_scale**J / square_kappa(n, J))
    of_order: dict[int, dict[Powers, SignedRoot]] = {M: {} for M in range(-J, J + 1)}
    for (M, powers), value in cartesian_expansion(n, J).items():
        of_order[M][powers] = value * factor
    return list(of_order.values())


def oscillator_taps(levels: int, size: int, pitch: Fraction, square_scale: Fraction) -> NDArray[np.float64]:
    """h_a(x/s), x = (i - (size-1)/2) pitch: float64 (level, tap). H_a(t) is t^(a mod 2) times rationals in t^2."""
    values = np.zeros((levels + 1, size))
    with mpmath.workprec(PRECISION):
        for tap in range(size):
            x = (tap - Fraction(size - 1, 2)) * pitch
            t = mpmath.sqrt(real(x**2 / square_scale)) * (-1 if x < 0 else 1)
            envelope = mpmath.exp(-real(x**2 / square_scale) / 2)
            before, now = mpmath.mpf(0), mpmath.mpf(1)
            for a in range(levels + 1):
                values[a, tap] = float(now * envelope / mpmath.sqrt(2**a * factorial(a)))
                before, now = now, 2 * t * now - 2 * a * before
    return values
