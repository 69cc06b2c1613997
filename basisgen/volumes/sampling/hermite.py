"""Oscillator filters: smooth, of one scale, and sums of products of functions of x, y and z (see `cartesian`).

    F_nJM(x) = exp(-|x|^2 / (2 s^2)) L_n^(J+1/2)(|x|^2/s^2) |x|^J Y_JM(x/|x|),      level N = J + 2n <= n_max

Their Fourier transforms are themselves, so one number s balances two errors: a filter cut off by the kernel's edge, at
k/2, and one aliased beyond the Nyquist frequency, at pi. Equal shares of both are s^2 = k / (2 pi); the default is

    s^2 = 4k/25,      n_max = 2k/3 rounded down,      in units of the widest pitch p; k = the smallest extent / p

which no other s betters by more than 1 %: worst defect over the span of the filters of a degree, at the default s | at
the best s, by minimisation

    k       3     4     5     6     7     8     9     11
    n_max   2     2     3     4     4     5     6     7
    s       .693  .800  .894  .980  1.06  1.13  1.20  1.33
    worst   .183  .097  .146  .176  .104  .129  .148  .122
    best    .183  .096  .146  .173  .104  .129  .148  .122

Source: the isotropic harmonic oscillator, e.g. Cohen-Tannoudji, Diu, Laloe, Quantum Mechanics, complement B-VII.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import factorial, prod
from typing import Any

import mpmath

from basisgen.errors import SamplingError
from basisgen.reading import Settings
from basisgen.volumes.sampling.exact import RadialProfile, real, sample_solid
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid

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

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {"n_max": self.n_max, "scale": None if self.scale is None else str(self.scale)}

    def levels(self, grid: VoxelGrid) -> int:
        """The largest N = J + 2n."""
        return int(2 * _width(grid) // 3) if self.n_max is None else self.n_max

    def square_scale(self, grid: VoxelGrid) -> Fraction:
        """s^2, physical."""
        if self.scale is not None:
            return self.scale**2
        return Fraction(4, 25) * _width(grid) * max(grid.pitch) ** 2

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; values are correctly rounded. Profiles n = 0, 1, .. of every J."""
        n_max = self.levels(grid)
        return tuple(self._group(J, n, grid) for J in degrees for n in range((n_max - J) // 2 + 1))

    def _group(self, J: int, n: int, grid: VoxelGrid) -> FilterGroup:
        square_scale = self.square_scale(grid)
        values = sample_solid(J, oscillator(n, J, square_scale), grid)
        if not values.any():
            raise SamplingError(
                f"the oscillator filter of degree J = {J}, level {J + 2 * n} is zero at every tap of a {grid} grid. "
                "Lower n_max, or enlarge the kernel or the scale."
            )
        return FilterGroup(J, _formula(n, J, square_scale), values)


def laguerre(n: int, J: int) -> tuple[Fraction, ...]:
    """The coefficients of L_n^(J+1/2)(t), of t^0, t^1, .. t^n: (-1)^i / i! binomial(n + J + 1/2, n - i)."""
    return tuple(
        Fraction((-1) ** i, factorial(i) * factorial(n - i))
        * prod(Fraction(2 * (J + m) + 1, 2) for m in range(i + 1, n + 1))
        for i in range(n + 1)
    )


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


def _width(grid: VoxelGrid) -> Fraction:
    """k: the smallest extent of the grid in units of its widest pitch."""
    return min(n * pitch for n, pitch in zip(grid.size, grid.pitch, strict=True)) / max(grid.pitch)
