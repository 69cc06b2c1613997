"""From exact numbers to float64: every number is rounded once, to the nearest.

    sqrt(p/q)                 by an integer square root with a sticky last bit
    real * integer            a real factor of 250 bits times an exact integer

Both end in Python's division of integers, which is correctly rounded. A factor of 250 bits leaves the nearest float64
in doubt only for values within 2^-190 of the middle between two.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import mpmath

PRECISION = 250  # bits of a real factor
_SMALLEST = -1074  # 2^-1075, half the smallest float64, and less is nearest to zero


def float_of_root(square: Fraction) -> float:
    """The float64 nearest to sqrt(square).

    The integer square root has well over 53 bits; a last bit is set where it is inexact, so that the one division at
    the end rounds correctly.
    """
    if square == 0:
        return 0.0
    shift = max(0, 128 - square.numerator.bit_length() + square.denominator.bit_length())
    shift += shift % 2
    quotient, remainder = divmod(square.numerator << shift, square.denominator)
    root = isqrt(quotient)
    inexact = remainder != 0 or root * root != quotient
    return (2 * root + inexact) / (1 << (shift // 2 + 1))


def real(number: Fraction) -> mpmath.mpf:
    """A rational at mpmath's working precision."""
    return mpmath.mpf(number.numerator) / number.denominator


def mantissa_exponent(number: mpmath.mpf) -> tuple[int, int]:
    """(m, e) with number = m * 2^e."""
    return int(number.man) * (-1 if number < 0 else 1), int(number.exp)


def rounded_product(mantissa: int, exponent: int, integer: int) -> float:
    """The float64 nearest to mantissa * 2^exponent * integer; a power of 2 that makes it zero is never written out."""
    product = mantissa * integer
    if exponent >= 0:
        return float(product << exponent)
    return 0.0 if product.bit_length() + exponent < _SMALLEST else product / (1 << -exponent)
