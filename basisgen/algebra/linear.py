"""Exact linear algebra over the rationals."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from sympy import QQ
from sympy.polys.matrices import DomainMatrix


def rank(rows: Sequence[Sequence[Fraction | int]]) -> int:
    """The exact rank of a matrix given by its rows."""
    if not rows or not rows[0]:
        return 0
    entries = [[QQ(Fraction(entry).numerator, Fraction(entry).denominator) for entry in row] for row in rows]
    return int(DomainMatrix(entries, (len(rows), len(rows[0])), QQ).rank())
