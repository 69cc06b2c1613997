"""A coupling of three degrees as frozen data: what the solver claims, before and apart from its proof.

C[j m, l n; J M],      m = -j..j, n = -l..l, M = -J..J, one coupling per (j, l, J) with |j-l| <= J <= j+l
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

from basisgen.algebra.roots import rational_root
from basisgen.so3.clebsch_gordan import Coefficients, clebsch_gordan
from basisgen.so3.harmonics import square_norm

Degrees = tuple[int, int, int]  # j, l, J


@dataclass(frozen=True)
class Coupling:
    """Degrees j, l, J and the non-zero coefficients C[j m, l n; J M], keyed by the orders (m, n, M)."""

    j: int
    l: int
    J: int
    coefficients: Coefficients

    def __post_init__(self) -> None:
        assert min(self.degrees) >= 0 and self.coefficients, "a coupling needs degrees and a coefficient"
        for m, n, M in self.coefficients:
            assert abs(m) <= self.j and abs(n) <= self.l and abs(M) <= self.J

    @property
    def degrees(self) -> Degrees:
        """(j, l, J)."""
        return self.j, self.l, self.J

    def __str__(self) -> str:
        return f"coupling (j, l, J) = {self.degrees}"


def couple(j: int, l: int, J: int) -> Coupling:
    """The coupling of three degrees in closed form (Racah); not yet proved."""
    return Coupling(j, l, J, clebsch_gordan(j, l, J))


def rational_coefficients(coupling: Coupling) -> dict[tuple[int, int, int], int] | None:
    """The coefficients in the rational basis, times a common factor that makes all of them integers.

    Before: C[m, n; J, M] over the harmonics Y = sqrt(square_norm) R, fields likewise. After: C sqrt(N_JM N_ln / N_jm)
    divided by its first entry, times the common denominator. None where the ratio of two entries is irrational, which
    no solution of the intertwiner identity allows.
    """
    first, scaled = None, {}
    for (m, n, M), value in coupling.coefficients.items():
        square = value.square * square_norm(coupling.J, M) * square_norm(coupling.l, n) / square_norm(coupling.j, m)
        first = square if first is None else first
        ratio = rational_root(square / first) if first else None
        if ratio is None:
            return None
        scaled[m, n, M] = value.sign * ratio
    common = lcm(*(value.denominator for value in scaled.values()))
    return {index: int(Fraction(value * common)) for index, value in scaled.items()}
