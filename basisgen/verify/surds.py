"""Whether a radial profile is exactly 0 at a radius whose square is rational.

A profile is a polynomial in r, or a product of such and of exponentials, which are never 0. At r = sqrt(q) a polynomial
is a + b sqrt(q) with rational a and b: exact arithmetic decides.
"""

from __future__ import annotations

import ast
from fractions import Fraction
from typing import NamedTuple

MAX_BITS = 1 << 15


class Surd(NamedTuple):
    """a + b sqrt(q), q >= 0."""

    a: Fraction
    b: Fraction
    q: Fraction

    def plus(self, other: Surd, sign: int = 1) -> Surd:
        """self + sign * other."""
        return Surd(self.a + sign * other.a, self.b + sign * other.b, self.q)

    def times(self, other: Surd) -> Surd:
        """self * other. Raises OverflowError for numbers of more than MAX_BITS bits."""
        if sum(part.numerator.bit_length() + part.denominator.bit_length() for part in (*self, *other)) > MAX_BITS:
            raise OverflowError
        return Surd(self.a * other.a + self.b * other.b * self.q, self.a * other.b + self.b * other.a, self.q)

    def over(self, other: Surd) -> Surd:
        """self / other. Raises ZeroDivisionError."""
        if other.is_zero():
            raise ZeroDivisionError
        norm = other.a**2 - other.b**2 * other.q
        if norm == 0:  # b sqrt(q) is a
            return Surd(self.a / (2 * other.a), self.b / (2 * other.a), self.q)
        return self.times(Surd(other.a / norm, -other.b / norm, self.q))

    def to(self, power: int) -> Surd:
        """self^power, power >= 0."""
        result, base = Surd(Fraction(1), Fraction(0), self.q), self
        while power:
            if power & 1:
                result = result.times(base)
            base, power = base.times(base), power >> 1
        return result

    def is_zero(self) -> bool:
        """Whether the number is 0: both parts are, or they cancel, sqrt(q) being rational."""
        return self.a**2 == self.b**2 * self.q and self.a * self.b <= 0


def vanishes(expression: ast.expr, square: Fraction) -> bool:
    """Whether an expression in r is certainly 0 at r = sqrt(square).

    False where this does not decide: for sums of exponentials, and for numbers of thousands of digits.
    """
    match expression:
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return vanishes(left, square) or vanishes(right, square)
        case ast.BinOp(left=left, op=ast.Div() | ast.Pow()):
            return vanishes(left, square)
        case ast.UnaryOp(operand=operand):
            return vanishes(operand, square)
    if any(isinstance(part, ast.Call) for part in ast.walk(expression)):
        return False
    try:
        return _surd(expression, square).is_zero()
    except (OverflowError, ZeroDivisionError):
        return False


def _surd(node: ast.expr, square: Fraction) -> Surd:
    match node:
        case ast.Name():
            return Surd(Fraction(0), Fraction(1), square)
        case ast.Constant(value=int(number)):
            return Surd(Fraction(number), Fraction(0), square)
        case ast.UnaryOp(operand=operand):
            return Surd(Fraction(0), Fraction(0), square).plus(_surd(operand, square), -1)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            return _surd(left, square).to(power)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = _surd(left, square), _surd(right, square)
            match op:
                case ast.Add():
                    return a.plus(b)
                case ast.Sub():
                    return a.plus(b, -1)
                case ast.Mult():
                    return a.times(b)
                case ast.Div():
                    return a.over(b)
    raise ValueError
