"""Real numbers as integers times 2^-bits, with bounds on their errors: what tables of transforms are computed in.

A vector of numbers is an array of Python integers; an error is a bound in units of 2^-bits. Sums are exact, a product
rounded down adds one unit. `nearest` gives float64 only where the bound leaves no doubt which is nearest.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt

import mpmath
import numpy as np
from numpy.typing import NDArray

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
    one, flat = 1 << bits, values.ravel().tolist()
    zero = error.bit_length() + 200 < bits
    flat = [0 if zero and abs(value) <= error else value for value in flat]
    low = np.array([(value - error) / one if value else 0.0 for value in flat])
    high = np.array([(value + error) / one if value else 0.0 for value in flat])
    if not np.array_equal(low, high):
        raise PrecisionError
    return low.reshape(values.shape)


def _integer(value: mpmath.mpf, bits: int) -> int:
    return int(mpmath.floor(mpmath.ldexp(value, bits)))
