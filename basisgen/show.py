"""The exact kernels of a pair in x, y, z, for people: text, LaTeX and JSON.

kappa^J[m, n] |x|^J is a polynomial: one square root, common to the matrix of an entry, times integers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction

from sympy import Expr, Integer, Rational, factor_terms, latex, sqrt, symbols

from basisgen.algebra.polynomials import integer_terms
from basisgen.algebra.roots import SignedRoot
from basisgen.kernels.basis import KernelElement
from basisgen.kernels.proof import ProvenBasis
from basisgen.so3.harmonics import harmonics

_XYZ = symbols("x y z")


def as_text(proven: ProvenBasis) -> str:
    """One matrix per element, aligned columns."""
    return "\n\n".join([_title(proven), *(_text_matrix(proven, element) for element in proven.basis.elements)])


def as_latex(proven: ProvenBasis) -> str:
    """One `bmatrix` per element."""
    blocks = []
    for element in proven.basis.elements:
        rows = [" & ".join(latex(entry) for entry in row) for row in kernel_matrix(proven, element)]
        body = r" \\ ".join(rows)
        blocks.append(rf"|x|^{{{element.J}}}\,\kappa^{{{element.J}}}(x) = \begin{{bmatrix}} {body} \end{{bmatrix}}")
    return "\n".join(blocks)


def as_json(proven: ProvenBasis) -> str:
    """`{"out": .., "in": .., "elements": [{"J": .., "kernel": [[polynomial as text]]}]}`."""
    elements = [
        {"J": element.J, "kernel": [[str(entry) for entry in row] for row in kernel_matrix(proven, element)]}
        for element in proven.basis.elements
    ]
    out, into = str(proven.basis.out), str(proven.basis.into)
    return json.dumps({"out": out, "in": into, "elements": elements}, indent=1)


STYLES: dict[str, Callable[[ProvenBasis], str]] = {"text": as_text, "latex": as_latex, "json": as_json}


def kernel_matrix(proven: ProvenBasis, element: KernelElement) -> list[list[Expr]]:
    """|x|^J kappa^J(x): exact polynomials, rows m = -j..j, columns n = -l..l."""
    j, l = proven.basis.out.degree, proven.basis.into.degree
    terms: dict[tuple[int, int], list[tuple[SignedRoot, int]]] = defaultdict(list)
    for (m, n, M), value in element.coefficients.items():
        terms[m, n].append((value, M))
    return [[_entry(element.J, terms[m, n]) for n in range(-l, l + 1)] for m in range(-j, j + 1)]


def _entry(J: int, terms: list[tuple[SignedRoot, int]]) -> Expr:
    total: Expr = Integer(0)
    for value, M in terms:
        harmonic = harmonics(J)[M + J]
        factor = value.sign * sqrt(_rational(value.square * harmonic.square_norm))
        for exponents, coefficient in integer_terms(harmonic.polynomial).items():
            monomial = Integer(coefficient)
            for variable, power in zip(_XYZ, exponents, strict=True):
                monomial = monomial * variable**power
            total = total + factor * monomial
    return factor_terms(total.expand())


def _rational(value: Fraction) -> Rational:
    return Rational(value.numerator, value.denominator)


def _title(proven: ProvenBasis) -> str:
    basis, count = proven.basis, len(proven.basis.elements)
    return (
        f"kernels kappa(x) from degree {basis.into.degree} (columns) to degree {basis.out.degree} (rows): "
        f"{count} element{'s' if count > 1 else ''}, times any function of |x|\n"
        "proved: equivariant, independent, complete (exactly)"
    )


def _text_matrix(proven: ProvenBasis, element: KernelElement) -> str:
    rows = [[str(entry) for entry in row] for row in kernel_matrix(proven, element)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  [ " + "   ".join(entry.rjust(width) for entry, width in zip(row, widths, strict=True)) + " ]" for row in rows
    ]
    power = {0: "", 1: "|x| "}.get(element.J, f"|x|^{element.J} ")
    return f"J = {element.J}:   {power}kappa(x) =\n" + "\n".join(lines)
