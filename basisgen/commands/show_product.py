"""One coupling as the product of two fields, for people: h[M] = sum over m and n of C[l1 m, l2 n; l M] f[m] g[n]."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from math import isqrt

from basisgen.algebra.roots import SignedRoot
from basisgen.errors import SpecError
from basisgen.so3.clebsch_gordan import clebsch_gordan, coupled_degrees, integer_coupling
from basisgen.spheres.couplings import prove
from basisgen.text import counted

MAX_DEGREE = 24
Terms = dict[int, list[tuple[int, int, SignedRoot]]]  # M -> m, n, C


def product_terms(l1: int, l2: int, l: int) -> Terms:
    """The proven coefficients by the order of the product.

    Raises SpecError where the degrees have no product, or are more than one can read.
    """
    if l not in coupled_degrees(l1, l2):
        first, last = abs(l1 - l2), l1 + l2
        raise SpecError(f"there is no product of degrees {l1} and {l2} of degree {l}: they give {first} to {last}.")
    if max(l1, l2, l) > MAX_DEGREE:
        raise SpecError(f"degree {max(l1, l2, l)} is over the limit for `show`, {MAX_DEGREE}.")
    prove(integer_coupling(l1, l2, l))
    found: Terms = {M: [] for M in range(-l, l + 1)}
    for (m, n, M), value in clebsch_gordan(l1, l2, l).items():
        found[M].append((m, n, value))
    return found


def as_text(l1: int, l2: int, l: int) -> str:
    """One line per order."""
    terms = product_terms(l1, l2, l)
    count = counted(sum(map(len, terms.values())), "coefficient")
    head = f"degree {l} of the product of f, degree {l1}, and g, degree {l2}: {count}; for one field g is f\n"
    lines = [f"h[{M}] = {_sum(of, '{factor}f[{m}] g[{n}]', plain_root)}" for M, of in terms.items()]
    return "\n".join([head, *lines])


def as_latex(l1: int, l2: int, l: int) -> str:
    """One line per order."""
    terms = product_terms(l1, l2, l)
    return "\n".join(f"h_{{{M}}} = {_sum(of, '{factor}f_{{{m}}} g_{{{n}}}', latex_root)}" for M, of in terms.items())


def as_json(l1: int, l2: int, l: int) -> str:
    """A list of [m, n, M, C], every C a signed root."""
    entries = [[m, n, M, str(value)] for M, of in product_terms(l1, l2, l).items() for m, n, value in of]
    return json.dumps({"degrees": [l1, l2, l], "coefficients": entries}, indent=1)


STYLES: dict[str, Callable[[int, int, int], str]] = {"text": as_text, "latex": as_latex, "json": as_json}


def _sum(of: list[tuple[int, int, SignedRoot]], form: str, root: Callable[[Fraction], str]) -> str:
    text = ""
    for m, n, value in of:
        sign = ("-" if value.sign < 0 else "") if not text else (" - " if value.sign < 0 else " + ")
        factor = root(value.square)
        text += sign + form.format(factor=f"{factor} " if factor else "", m=m, n=n)
    return text


def plain_root(square: Fraction) -> str:
    """The root in text; nothing for 1."""
    rational = _rational(square)
    return f"sqrt({square})" if rational is None else rational


def latex_root(square: Fraction) -> str:
    """The same in LaTeX."""
    rational = _rational(square)
    if rational is not None:
        return rational
    top, bottom = square.numerator, square.denominator
    return rf"\sqrt{{{top}}}" if bottom == 1 else rf"\sqrt{{\frac{{{top}}}{{{bottom}}}}}"


def _rational(square: Fraction) -> str | None:
    """The root where it is rational; nothing for 1."""
    top, bottom = isqrt(square.numerator), isqrt(square.denominator)
    if Fraction(top * top, bottom * bottom) != square:
        return None
    return "" if top == bottom else str(Fraction(top, bottom))
