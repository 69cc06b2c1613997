"""Exact linear algebra over the rationals."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import lcm

from sympy import GF, QQ, ZZ
from sympy.polys.matrices import DomainMatrix

_PRIME = 2**31 - 1


def rank(rows: Sequence[Sequence[Fraction | int]]) -> int:
    """The exact rank of a matrix given by its rows.

    The rank modulo a prime is never the larger one, so if it is full, so is the rank over the rationals: elimination
    among small numbers settles what is asked most. Only the others are eliminated over the rationals.
    """
    if not rows or not rows[0]:
        return 0
    shape = (len(rows), len(rows[0]))
    integers = DomainMatrix([[ZZ(entry) for entry in _integers(row)] for row in rows], shape, ZZ).to_sparse()
    if integers.convert_to(GF(_PRIME)).rank() == min(shape):
        return min(shape)
    return int(integers.convert_to(QQ).rank())


def _integers(row: Sequence[Fraction | int]) -> list[int]:
    """A row times its common denominator."""
    common = lcm(*(Fraction(entry).denominator for entry in row))
    return [int(entry * common) for entry in row]
