"""Real numbers as integers times 2^-bits, with bounds on their errors: what tables of transforms are computed in.

Numbers are arrays of Python integers; an error is a bound in units of 2^-bits. Sums are exact, a product rounded down
adds one unit. `nearest` gives float64 only where the bound leaves no doubt which is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt

import mpmath
import numpy as np
from numpy.typing import NDArray

_MOST_BITS = 900  # of numbers that fit into a float64, with a whole part

Integers = NDArray[np.object_]
Floats = NDArray[np.float64]


class PrecisionError(ArithmeticError):
    """The error bound leaves in doubt which float64 is nearest: compute with more bits."""


def cos_sin(angle: Fraction, bits: int) -> tuple[int, int]:
    """cos and sin of pi times `angle`, each to two units; exact at quarter turns."""
    return _circle(angle.denominator, bits)[angle.numerator % (2 * angle.denominator)]


@lru_cache(maxsize=64)
def _circle(parts: int, bits: int) -> list[tuple[int, int]]:
    """cos and sin of pi k / parts, k = 0 .. 2 parts - 1: powers of the first, with 64 bits more."""
    more = bits + 64
    with mpmath.workprec(more + 32):
        step = mpmath.pi / parts
        cos, sin = _integer(mpmath.cos(step), more), _integer(mpmath.sin(step), more)
    found, present = [], (1 << more, 0)
    for k in range(2 * parts):
        if 2 * k % parts == 0:
            quarter = 2 * k // parts
            present = (1, 0, -1, 0)[quarter] << more, (0, 1, 0, -1)[quarter] << more
        found.append((present[0] >> 64, present[1] >> 64))
        present = (present[0] * cos - present[1] * sin) >> more, (present[1] * cos + present[0] * sin) >> more
    return found


def pi(bits: int) -> int:
    """pi, to one unit."""
    with mpmath.workprec(bits + 32):
        return _integer(+mpmath.pi, bits)


def root(square: Fraction, bits: int) -> int:
    """The square root of a rational, to one unit."""
    return isqrt((square.numerator << 2 * bits) // square.denominator)


def roots(squares: Integers, bits: int) -> Integers:
    """Square roots of numbers; one unit of error, and the numbers' own over twice the root."""
    return np.array([isqrt(max(0, square) << bits) for square in squares.tolist()], object)


def nearest(values: Integers, error: int, bits: int) -> Floats:
    """The float64 nearest to each number, all numbers within `error`; 0 for what is within 2^-200 of it and may be 0.

    No enclosure can distinguish a number of 10^-61 from 0, and algebraic coincidences do make such zeros.
    Raises PrecisionError where the bound leaves a choice.
    """
    if (more := bits - _MOST_BITS) > 0:
        values, error, bits = values >> more, (error >> more) + 2, _MOST_BITS
    if error.bit_length() + 200 < bits:
        values = np.where(abs(values) <= error, 0, values)
    doubt = np.where(values != 0, np.array(error, object), 0)
    low, high = (values - doubt).astype(np.float64), (values + doubt).astype(np.float64)
    if not np.array_equal(low, high):
        raise PrecisionError
    found: Floats = np.ldexp(low, -bits)
    return found


@dataclass(frozen=True)
class Limbs:
    """A matrix of integers, x = sum_i x_i 2^(16 i), the last limb of either sign; n of them, the last one first."""

    n: int
    inner: int  # rows
    stacked: Floats  # (limb and row, column)


def in_limbs(values: Integers, bits: int) -> Limbs:
    """A matrix of numbers below 2^bits, for `product`."""
    n = bits // 16 + 1
    return Limbs(n, len(values), _limbs(values, n)[::-1].reshape(n * len(values), -1))


def product(left: Integers, right: Limbs, bits: int) -> tuple[Integers, int]:
    """left @ right of numbers with `bits` bits behind the point, and a bound on the error of it.

    Sums of products of limbs are exact float64. Those of limbs i + j < n - 2, below all that counts, are left out.
    """
    n, inner = right.n, right.inner
    assert 32 + (n * inner).bit_length() <= 53, "sums of products of limbs would not be exact"
    a = _limbs(left, n).transpose(1, 0, 2).reshape(len(left), -1)  # (row, limb and inner)
    total: Integers = np.zeros((len(left), right.stacked.shape[1]), object)
    first = max(0, n - 2)
    for k in reversed(range(first, 2 * n - 1)):  # = i + j, i from low to high
        low, high = max(0, k - n + 1), min(k, n - 1)
        rows = slice((n - 1 - k + low) * inner, (n - k + high) * inner)
        of_k = a[:, low * inner : (high + 1) * inner] @ right.stacked[rows]
        total = (total << 16) + of_k.astype(np.int64)
    left_out = n * inner << (16 * first + 17)
    return (total << 16 * first) >> bits, (left_out >> bits) + 2


def _limbs(values: Integers, n: int) -> Floats:
    """(limb, row, column)"""
    body = b"".join([value.to_bytes(2 * n, "little", signed=True) for value in values.ravel().tolist()])
    limbs = np.frombuffer(body, "<u2").reshape(*values.shape, n).astype(np.float64)
    limbs[..., -1] -= (limbs[..., -1] >= 1 << 15) * float(1 << 16)
    return limbs.transpose(2, 0, 1)


def _integer(value: mpmath.mpf, bits: int) -> int:
    return int(mpmath.floor(mpmath.ldexp(value, bits)))
