"""The exact basis of one pair of irreps, as frozen data: what the solver claims, before and apart from its proof.

kappa^J(x)[m, n] = sum_M C[m, n; J, M] Y_JM(x),      one element per allowed J
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from basisgen.algebra.roots import rational_root
from basisgen.so3.clebsch_gordan import Coefficients
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import square_norm


@dataclass(frozen=True)
class KernelElement:
    """One kernel kappa^J: its coefficients C[m, n; J, M], keyed by the orders (m, n, M)."""

    J: int
    coefficients: Coefficients

    def __post_init__(self) -> None:
        assert self.J >= 0 and self.coefficients, "an element needs a degree and a coefficient"


@dataclass(frozen=True)
class KernelBasis:
    """All elements of the kernels from irrep `into` (l, m columns) to irrep `out` (j, rows); perhaps none."""

    out: Irrep
    into: Irrep
    elements: tuple[KernelElement, ...]

    def __post_init__(self) -> None:
        assert (self.out.parity is None) == (self.into.parity is None), "a pair is of one group"
        for element in self.elements:
            for m, n, M in element.coefficients:
                assert abs(m) <= self.out.degree and abs(n) <= self.into.degree and abs(M) <= element.J


def rational_coefficients(element: KernelElement, j: int, l: int) -> dict[tuple[int, int, int], int] | None:
    """The coefficients in the rational basis, times a common factor that makes them coprime-free integers.

    Before: C[m, n; J, M] over the harmonics Y = sqrt(square_norm) R, fields likewise. After: C sqrt(N_JM N_ln / N_jm)
    divided by its first entry, times the common denominator. None where the ratio of two entries is irrational, which
    no solution of the constraint allows.
    """
    J, first, scaled = element.J, None, {}
    for (m, n, M), value in element.coefficients.items():
        square = value.square * square_norm(J, M) * square_norm(l, n) / square_norm(j, m)
        first = square if first is None else first
        ratio = rational_root(square / first) if first else None
        if ratio is None:
            return None
        scaled[m, n, M] = value.sign * ratio
    common = lcm(*(value.denominator for value in scaled.values()))
    return {index: int(Fraction(value * common)) for index, value in scaled.items()}
