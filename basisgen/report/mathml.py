"""MathML Core: exact kernels, radial profiles and numbers, as every current browser draws them without a script."""

from __future__ import annotations

import ast
from fractions import Fraction

from markupsafe import Markup

from basisgen.report.formulas import Entry, ExactKernel, Exponents, root

_TIMES = Markup("<mo>&#x2062;</mo>")  # invisible
_SPACE = Markup('<mspace width="0.2em"></mspace>')
_MINUS, _PLUS = Markup("<mo>&minus;</mo>"), Markup("<mo>+</mo>")


def kernel(exact: ExactKernel) -> Markup:
    """kappa^J(x) = phi(|x|) root / |x|^J matrix."""
    left = sup(name("κ"), number(exact.J)) + _argument("x") + operator("=") + name("φ") + _argument("r") + _TIMES
    return math(left + _factor_over_radius(exact.square, exact.J) + matrix(exact.entries))


def matrix(entries: tuple[tuple[Entry, ...], ...]) -> Markup:
    """Rows m, columns n; the brackets are borders, which need no font with stretching ones."""
    rows = Markup().join(
        Markup("<mtr>{}</mtr>").format(Markup().join(Markup("<mtd>{}</mtd>").format(_entry(entry)) for entry in row))
        for row in entries
    )
    return _SPACE + Markup('<mtable class="matrix">{}</mtable>').format(rows)


def profile(formula: str) -> Markup:
    """phi(r) as the certificate states it; text that is no formula, `optimal 1`, is a name."""
    try:
        return math(_expression(ast.parse(formula.replace("^", "**"), mode="eval").body))
    except (SyntaxError, ValueError):
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
        negative = next(iter(_ordered(polynomial)))[1] < 0
        inside = _polynomial({exponents: -value if negative else value for exponents, value in polynomial.items()})
        if len(polynomial) > 1:
            inside = Markup("<mrow><mo>(</mo>{}<mo>)</mo></mrow>").format(inside)
        inside = Markup() if polynomial.keys() == {(0, 0, 0)} and abs(polynomial[0, 0, 0]) == 1 else _TIMES + inside
        sign = _MINUS if negative else (_PLUS if parts else Markup())
        parts.append(sign + Markup("<msqrt><mn>{}</mn></msqrt>").format(s) + inside)
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


def _expression(node: ast.expr) -> Markup:
    """A formula in r, whole numbers, + - * / ^, parentheses and exp.

    Raises ValueError for anything else.
    """
    match node:
        case ast.Name(id="r"):
            return name("r")
        case ast.Constant(value=int(value)):
            return number(value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return row(_MINUS + _expression(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
            base = _expression(left)
            simple = isinstance(left, ast.Name | ast.Constant)
            return sup(base if simple else _bracketed(base), number(power)) if power != 1 else base
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return Markup("<mfrac>{}{}</mfrac>").format(row(_expression(left)), row(_expression(right)))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return row(_factor(left) + _TIMES + _factor(right))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return row(_expression(left) + _PLUS + _expression(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return row(_expression(left) + _MINUS + _factor(right))
        case ast.Call(func=ast.Name(id="exp"), args=[argument], keywords=[]):
            return row(name("exp") + _bracketed(_expression(argument)))
    raise ValueError


def _factor(node: ast.expr) -> Markup:
    """A factor of a product: a sum or a negative number in parentheses."""
    needs = isinstance(node, ast.UnaryOp) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub))
    return _bracketed(_expression(node)) if needs else _expression(node)


def _bracketed(content: Markup) -> Markup:
    return Markup("<mrow><mo>(</mo>{}<mo>)</mo></mrow>").format(content)
