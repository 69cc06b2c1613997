"""Signed square roots of rationals, s * sqrt(p/q) with s in {-1, 0, 1}: the real Clebsch-Gordan coefficients."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from basisgen.algebra.rounding import float_of_root

_TEXT = re.compile(r"(-?)sqrt\((\d+)(?:/(\d+))?\)")


def rational_root(square: Fraction) -> Fraction | None:
    """The rational square root of a non-negative rational, or None where it is irrational."""
    numerator, denominator = isqrt(square.numerator), isqrt(square.denominator)
    if numerator**2 == square.numerator and denominator**2 == square.denominator:
        return Fraction(numerator, denominator)
    return None


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """The exact number sign * sqrt(square)."""

    sign: int
    square: Fraction

    def __post_init__(self) -> None:
        assert self.sign in (-1, 0, 1) and self.square >= 0 and (self.sign == 0) == (self.square == 0)

    def __neg__(self) -> SignedRoot:
        return SignedRoot(-self.sign, self.square)

    def __mul__(self, other: SignedRoot) -> SignedRoot:
        return SignedRoot(self.sign * other.sign, self.square * other.square)

    def __float__(self) -> float:
        """The nearest float64 (ties to even)."""
        return self.sign * float_of_root(self.square)

    def __str__(self) -> str:
        """`-sqrt(3/10)`: the plain text that certificates carry; `parse` reads it back."""
        return f"{'-' if self.sign < 0 else ''}sqrt({self.square})"

    @staticmethod
    def parse(text: str) -> SignedRoot:
        """Reads `sqrt(p/q)` or `-sqrt(p/q)`; raises ValueError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"cannot read {text!r} as a signed root: write sqrt(p/q) or -sqrt(p/q)")
        square = Fraction(int(match[2]), int(match[3] or 1))
        return SignedRoot(0 if square == 0 else -1 if match[1] else 1, square)
