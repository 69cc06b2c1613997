"""MathML Core: exact kernels, radial profiles and numbers, as every current browser draws them without a script."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from markupsafe import Markup

from basisgen.commands.report.formulas import Entry, ExactKernel, Exponents, root

_TIMES = Markup("<mo>&#x2062;</mo>")  # invisible
_OPEN, _CLOSE = Markup("<mrow><mo>(</mo>"), Markup("<mo>)</mo></mrow>")
_SPACE = Markup('<mspace width="0.2em"></mspace>')
_MINUS, _PLUS = Markup("<mo>&minus;</mo>"), Markup("<mo>+</mo>")


def kernel(exact: ExactKernel) -> Markup:
    """kappa^J(x) = phi(|x|) root / |x|^J matrix."""
    left = sup(name("κ"), number(exact.J)) + _argument("x") + operator("=") + name("φ") + _argument("r") + _SPACE
    return math(left + _factor_over_radius(exact.square, exact.J) + matrix(exact.entries))


def matrix(entries: tuple[tuple[Entry, ...], ...]) -> Markup:
    """Rows m, columns n; the brackets are borders, which need no font with stretching ones."""
    rows = Markup().join(
        Markup("<mtr>{}</mtr>").format(Markup().join(Markup("<mtd>{}</mtd>").format(_entry(entry)) for entry in row))
        for row in entries
    )
    return _SPACE + Markup('<mtable class="matrix">{}</mtable>').format(rows)


def profile(formula: str) -> Markup:
    """phi(r) as the certificate states it; text that is not a formula stays text."""
    try:
        return math(_unbracketed(_product(ast.parse(formula.replace("^", "**"), mode="eval").body)))
    except (SyntaxError, ValueError, RecursionError):
        return Markup("<span>{}</span>").format(formula)


def law() -> Markup:
    """kappa(g x) = D^j(g) kappa(x) D^l(g)^-1."""
    turned = Markup("<mrow><mo>(</mo><mi>g</mi>{}<mi>x</mi><mo>)</mo></mrow>").format(_TIMES)
    by_j, by_l = (sup(name("D"), name(degree)) + _argument("g") for degree in "jl")
    inverse = sup(Markup("<mrow>{}</mrow>").format(by_l), Markup("<mrow>{}<mn>1</mn></mrow>").format(_MINUS))
    return math(name("κ") + turned + operator("=") + by_j + _TIMES + name("κ") + _argument("x") + _TIMES + inverse)


def math(content: Markup) -> Markup:
    """The element itself, in the flow of the text, with the sizes of a displayed formula."""
    return Markup('<math displaystyle="true"><mrow>{}</mrow></math>').format(content)


def name(text: str) -> Markup:
    """An identifier."""
    return Markup("<mi>{}</mi>").format(text)


def number(value: int) -> Markup:
    """A whole number, its sign before it."""
    return (_MINUS if value < 0 else Markup()) + Markup("<mn>{}</mn>").format(abs(value))


def fraction(value: Fraction) -> Markup:
    """A rational."""
    if value.denominator == 1:
        return number(value.numerator)
    return Markup("<mfrac>{}{}</mfrac>").format(row(number(value.numerator)), number(value.denominator))


def operator(text: str) -> Markup:
    """An operator."""
    return Markup("<mo>{}</mo>").format(text)


def row(content: Markup) -> Markup:
    """One argument of several elements."""
    return Markup("<mrow>{}</mrow>").format(content)


def sup(base: Markup, exponent: Markup) -> Markup:
    """A power, or an upper index."""
    return Markup("<msup>{}{}</msup>").format(base, exponent)


def _argument(text: str) -> Markup:
    return Markup("<mrow><mo>(</mo><mi>{}</mi><mo>)</mo></mrow>").format(text)


def _factor_over_radius(square: Fraction, J: int) -> Markup:
    """sqrt(square) / r^J, the root of a whole number above; nothing where it is 1."""
    factor, s = root(square)
    above = [number(factor.numerator)] if factor.numerator != 1 else []
    above += [Markup("<msqrt><mn>{}</mn></msqrt>").format(s)] if s != 1 else []
    below = [number(factor.denominator)] if factor.denominator != 1 else []
    below += [name("r") if J == 1 else sup(name("r"), number(J))] if J else []
    if not below:
        return _TIMES.join(above)
    return Markup("<mfrac>{}{}</mfrac>").format(row(_TIMES.join(above or [number(1)])), row(_TIMES.join(below)))


def _entry(entry: Entry) -> Markup:
    """A sum of sqrt(s) * polynomial."""
    if not entry:
        return Markup('<mn class="zero">0</mn>')
    parts: list[Markup] = []
    for s, polynomial in sorted(entry.items()):
        if s == 1:
            parts.append(_polynomial(polynomial))
            continue
        content = gcd(*(int(value) for value in polynomial.values()))
        content = -content if _ordered(polynomial)[0][1] < 0 else content
        inside = _polynomial({exponents: value / content for exponents, value in polynomial.items()})
        factors = [number(abs(content))] if abs(content) != 1 else []
        factors += [Markup("<msqrt><mn>{}</mn></msqrt>").format(s)]
        factors += [] if polynomial.keys() == {(0, 0, 0)} else [inside if len(polynomial) == 1 else _bracketed(inside)]
        parts.append((_MINUS if content < 0 else _PLUS if parts else Markup()) + _TIMES.join(factors))
    return row(Markup().join(parts))


def _polynomial(polynomial: dict[Exponents, Fraction]) -> Markup:
    terms: list[Markup] = []
    for exponents, coefficient in _ordered(polynomial):
        sign = _MINUS if coefficient < 0 else (_PLUS if terms else Markup())
        powers = [
            name(axis) if power == 1 else sup(name(axis), number(power))
            for axis, power in zip("xyz", exponents, strict=True)
            if power
        ]
        factors = ([] if abs(coefficient) == 1 and powers else [fraction(abs(coefficient))]) + powers
        terms.append(sign + _TIMES.join(factors))
    return row(Markup().join(terms))


def _ordered(polynomial: dict[Exponents, Fraction]) -> list[tuple[Exponents, Fraction]]:
    return sorted(polynomial.items(), reverse=True)


def _product(node: ast.expr) -> Product:
    """A formula in r, whole numbers, + - * / ^, parentheses and exp, its rational factors multiplied out.

    Raises ValueError for anything else, and for a division by anything but a number.
    """
    match node:
        case ast.Name(id="r"):
            return Product(Fraction(1), {name("r"): 1})
        case ast.Constant(value=int(value)):
            return Product(Fraction(value), {})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _product(operand).times(Product(Fraction(-1), {}))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _product(left).times(_product(right))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _product(left).times(_product(right).power(-1))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            return _product(left).power(power)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            added = _product(right).times(Product(Fraction(1 if isinstance(op, ast.Add) else -1), {}))
            return Product(Fraction(1), {_bracketed(_unbracketed(_product(left)) + added.signed()): 1})
        case ast.Call(func=ast.Name(id="exp"), args=[argument], keywords=[]):
            return Product(Fraction(1), {name("exp") + _bracketed(_unbracketed(_product(argument))): 1})
    raise ValueError


@dataclass(frozen=True)
class Product:
    """coefficient * product of factor ^ power."""

    coefficient: Fraction
    factors: Mapping[Markup, int]

    def times(self, other: Product) -> Product:
        """The product of two."""
        merged = dict(self.factors)
        for factor, power in other.factors.items():
            merged[factor] = merged.get(factor, 0) + power
        return Product(self.coefficient * other.coefficient, merged)

    def power(self, exponent: int) -> Product:
        """Raises ValueError for the reciprocal of anything but a number."""
        if exponent < 0 and (self.factors or not self.coefficient):
            raise ValueError
        return Product(
            self.coefficient**exponent, {factor: power * exponent for factor, power in self.factors.items() if exponent}
        )

    def signed(self) -> Markup:
        """The term with its sign before it, plus included."""
        return (_MINUS if self.coefficient < 0 else _PLUS) + self.magnitude()

    def magnitude(self) -> Markup:
        """The term without its sign."""
        factors = [
            row(factor) if power == 1 else sup(row(factor), number(power)) for factor, power in self.factors.items()
        ]
        above, below = abs(self.coefficient).as_integer_ratio()
        numerator = row(_TIMES.join(([] if above == 1 and factors else [number(above)]) + factors))
        return numerator if below == 1 else Markup("<mfrac>{}{}</mfrac>").format(numerator, number(below))


def _unbracketed(product: Product) -> Markup:
    """A product as it stands alone: a sum without its parentheses, a plus left out."""
    (only, *others) = product.factors or [Markup()]
    if product.coefficient == 1 and not others and product.factors.get(only) == 1 and only.startswith(_OPEN):
        return Markup(only.removeprefix(_OPEN).removesuffix(_CLOSE))
    return row(product.signed()) if product.coefficient < 0 else product.magnitude()


def _bracketed(content: Markup) -> Markup:
    return _OPEN + content + _CLOSE
