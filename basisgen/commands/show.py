"""The exact kernels of a pair in x, y, z, for people: text, LaTeX and JSON.

|x|^J kappa^J(x) = common factor * matrix of polynomials, with integer coefficients as far as they go
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from basisgen.algebra.polynomials import integer_terms
from basisgen.commands.report.formulas import Entry, ExactKernel, Exponents, root, simplified
from basisgen.couplings.coupling import Coupling
from basisgen.so3.harmonics import harmonics
from basisgen.volumes.kernels.proof import ProvenBasis


@dataclass(frozen=True)
class _Style:
    """How a formula is written: a root of {s}, a fraction of {above} and {below}, a power, a product."""

    root: str
    fraction: str
    power: str
    times: str


_TEXT = _Style("sqrt({s})", "{above}/{below}", "{base}^{power}", "")
_LATEX = _Style(r"\sqrt{{{s}}}", r"\frac{{{above}}}{{{below}}}", "{base}^{{{power}}}", " ")
_PYTHON = _Style("sqrt({s})", "{above}/{below}", "{base}**{power}", "*")


def as_text(proven: ProvenBasis, width: int | None = None) -> str:
    """One matrix per kernel in aligned columns; one entry per line where a matrix is wider than `width`."""
    parts = [_title(proven)]
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        power = {0: "", 1: "|x| "}.get(coupling.J, f"|x|^{coupling.J} ")
        factor = _factor(exact.square, _TEXT)
        head = f"J = {coupling.J}:   {power}kappa(x) ={f' {factor} *' if factor else ''}\n"
        parts.append(head + _matrix(_entries(exact, _TEXT), width))
    return "\n\n".join(parts)


def as_latex(proven: ProvenBasis, width: int | None = None) -> str:
    """One `bmatrix` per kernel, a line each."""
    lines = []
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        body = r" \\ ".join(" & ".join(row) for row in _entries(exact, _LATEX))
        left = {0: "", 1: r"|x|\,"}.get(coupling.J, rf"|x|^{{{coupling.J}}}\,")
        factor = _factor(exact.square, _LATEX)
        factor += " " if factor else ""
        lines.append(rf"{left}\kappa^{{{coupling.J}}}(x) = {factor}\begin{{bmatrix}} {body} \end{{bmatrix}}")
    return "\n".join(lines)


def as_json(proven: ProvenBasis, width: int | None = None) -> str:
    """`{"out": .., "in": .., "elements": [{"J": .., "factor": .., "kernel": [[polynomial]]}]}`, Python's syntax."""
    elements = []
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        factor = _factor(exact.square, _PYTHON) or "1"
        elements.append({"J": coupling.J, "factor": factor, "kernel": _entries(exact, _PYTHON)})
    return json.dumps({"out": str(proven.out), "in": str(proven.into), "elements": elements}, indent=1)


STYLES: dict[str, Callable[[ProvenBasis, int | None], str]] = {"text": as_text, "latex": as_latex, "json": as_json}


def _couplings(proven: ProvenBasis) -> list[Coupling]:
    return [of.coupling for of in proven.couplings]


def _exact(coupling: Coupling) -> ExactKernel:
    """|x|^J kappa^J(x), rows m = -j..j, columns n = -l..l."""
    J, of_degree = coupling.J, harmonics(coupling.J)
    products = (
        (m, n, value.sign, value.square, of_degree[M + J].square_norm, integer_terms(of_degree[M + J].polynomial))
        for (m, n, M), value in coupling.coefficients.items()
    )
    return simplified(J, coupling.j, coupling.l, products)


def _title(proven: ProvenBasis) -> str:
    count = len(proven.couplings)
    return (
        f"kernels kappa(x) from degree {proven.into.degree} (columns) to degree {proven.out.degree} (rows): "
        f"{count} element{'s' if count > 1 else ''},\ntimes any function of |x|; "
        "proved equivariant, independent and complete, exactly"
    )


def _matrix(entries: list[list[str]], width: int | None) -> str:
    widths = [max(len(row[column]) for row in entries) for column in range(len(entries[0]))]
    if width is None or sum(widths) + 3 * len(widths) + 3 <= width:
        aligned = [[entry.rjust(size) for entry, size in zip(row, widths, strict=True)] for row in entries]
        return "\n".join(f"  [ {'   '.join(row)} ]" for row in aligned)
    j, l = len(entries) // 2, len(entries[0]) // 2
    return "\n".join(
        f"  [{row - j:2}, {column - l:2}]  {entry}"
        for row, line in enumerate(entries)
        for column, entry in enumerate(line)
        if entry != "0"
    )


def _factor(square: Fraction, style: _Style) -> str:
    """sqrt(square); nothing where it is 1."""
    factor, s = root(square)
    above = style.times.join([str(factor.numerator)] * (factor.numerator != 1 or s == 1) + [_root(s, style)] * (s != 1))
    if factor.denominator != 1:
        return style.fraction.format(above=above, below=factor.denominator)
    return above if above != "1" else ""


def _entries(exact: ExactKernel, style: _Style) -> list[list[str]]:
    return [[_entry(entry, style) for entry in row] for row in exact.entries]


def _entry(entry: Entry, style: _Style) -> str:
    """A sum of sqrt(s) * polynomial."""
    text = ""
    for s, polynomial in sorted(entry.items()):
        if s == 1:
            text = _joined(text, _polynomial(polynomial, style))
            continue
        content = gcd(*(int(value) for value in polynomial.values()))
        content = -content if _ordered(polynomial)[0][1] < 0 else content
        inside = _polynomial({exponents: value / content for exponents, value in polynomial.items()}, style)
        factors = [str(abs(content))] * (abs(content) != 1) + [_root(s, style)]
        factors += [] if inside == "1" else [inside if len(polynomial) == 1 else f"({inside})"]
        text = _joined(text, ("-" if content < 0 else "") + style.times.join(factors))
    return text or "0"


def _joined(text: str, term: str) -> str:
    """The sum of two terms, with the sign of the second between them."""
    if not text:
        return term
    return f"{text} - {term[1:]}" if term.startswith("-") else f"{text} + {term}"


def _polynomial(polynomial: dict[Exponents, Fraction], style: _Style) -> str:
    text = ""
    for exponents, value in _ordered(polynomial):
        powers = [
            base if power == 1 else style.power.format(base=base, power=power)
            for base, power in zip("xyz", exponents, strict=True)
            if power
        ]
        number = [str(abs(value))] if abs(value) != 1 or not powers else []
        text = _joined(text, ("-" if value < 0 else "") + style.times.join([*number, *powers]))
    return text


def _ordered(polynomial: dict[Exponents, Fraction]) -> list[tuple[Exponents, Fraction]]:
    return sorted(polynomial.items(), reverse=True)


def _root(s: int, style: _Style) -> str:
    return style.root.format(s=s)
