"""Oscillator filters as sums of products of functions of x, y and z, exactly: the constants of a separable layer.

    F_row(x) = sum over a + b + c <= levels of  E[row, abc] h_a(x/s) h_b(y/s) h_c(z/s)
    h_a(t)   = (2^a a!)^(-1/2) H_a(t) exp(-t^2/2)

With `cartesian`'s O and kappa, E = s^J O / kappa: the filters carry |x|^J in physical units and no normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from math import factorial

import mpmath
import numpy as np
from numpy.typing import NDArray

from basisgen.algebra.roots import SignedRoot
from basisgen.volumes.sampling.cartesian import Powers, cartesian_expansion, square_kappa
from basisgen.volumes.sampling.exact import PRECISION, real
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.sample import SampledFilters


@dataclass(frozen=True, eq=False)
class Products:
    """The expansion E of every row of some sampled filters, and the functions h on the axes of their grid."""

    square_scale: Fraction
    grid: VoxelGrid
    orders: tuple[int, ...]  # of each filter group the n of its Laguerre polynomial
    expansion: tuple[Mapping[Powers, SignedRoot], ...]  # one per row

    @property
    def levels(self) -> int:
        """The largest a + b + c."""
        return max(sum(powers) for row in self.expansion for powers in row)

    @property
    def indices(self) -> tuple[Powers, ...]:
        """Every (a, b, c) up to `levels`, by the level a + b + c, then in lexical order."""
        return product_indices(self.levels)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """E, float64 (row, product) in the order of `indices`, each number correctly rounded."""
        column = {powers: i for i, powers in enumerate(self.indices)}
        matrix = np.zeros((len(self.expansion), len(column)))
        for row, expansion in enumerate(self.expansion):
            for powers, value in expansion.items():
                matrix[row, column[powers]] = float(value)
        return matrix

    @cached_property
    def taps(self) -> tuple[NDArray[np.float64], ...]:
        """h_a at the taps of each axis, three float64 (level, tap), each number correctly rounded."""
        return tuple(
            _taps(self.levels, n, pitch, self.square_scale)
            for n, pitch in zip(self.grid.size, self.grid.pitch, strict=True)
        )


def product_indices(levels: int) -> tuple[Powers, ...]:
    """Every (a, b, c) with a + b + c <= levels, by the sum, then in lexical order."""
    level = range(levels + 1)
    indices = [(a, b, c) for a, b, c in product(level, level, level) if a + b + c <= levels]
    return tuple(sorted(indices, key=lambda powers: (sum(powers), powers)))


def expand(family: Hermite, filters: SampledFilters) -> Products:
    """The sampled filters of the family as sums of products; every expansion is proved where it is made."""
    square_scale = family.square_scale(filters.grid)
    orders: list[int] = []
    rows: list[Mapping[Powers, SignedRoot]] = []
    seen: dict[int, int] = {}
    for group in filters.groups:
        n = seen[group.J] = seen.get(group.J, -1) + 1
        factor = SignedRoot(1, square_scale**group.J / square_kappa(n, group.J))
        of_order: dict[int, dict[Powers, SignedRoot]] = {M: {} for M in range(-group.J, group.J + 1)}
        for (M, powers), value in cartesian_expansion(n, group.J).items():
            of_order[M][powers] = value * factor
        orders.append(n)
        rows += of_order.values()
    return Products(square_scale, filters.grid, tuple(orders), tuple(rows))


def _taps(levels: int, size: int, pitch: Fraction, square_scale: Fraction) -> NDArray[np.float64]:
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
