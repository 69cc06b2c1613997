"""The exact kernels of a pair in x, y, z, for people: text, LaTeX and JSON.

|x|^J kappa^J(x) = common factor * matrix of polynomials, with integer coefficients as far as they go
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from textwrap import wrap

from basisgen.algebra.polynomials import integer_terms
from basisgen.commands.report.formulas import Entry, ExactKernel, Exponents, root, simplified
from basisgen.couplings.coupling import Coupling
from basisgen.errors import SpecError
from basisgen.so3.field_type import FieldType, Irrep
from basisgen.so3.harmonics import harmonics
from basisgen.text import aligned, counted, grouped
from basisgen.volumes.kernels.constraint import allowed_degrees
from basisgen.volumes.kernels.proof import ProvenBasis

Pair = tuple[Irrep, Irrep]  # out, in

MOST_ENTRIES = 25_000  # of all matrices: one pair of degree 12 has 15,625 and takes a minute


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


def pairs_of(into: FieldType, out: FieldType) -> tuple[Pair, ...]:
    """Every (out, in) pair of irreps of two field types, once, that has kernels.

    Raises SpecError where none has any, or all of them are more than one can read.
    """
    product = dict.fromkeys((o.irrep, i.irrep) for o in out.terms for i in into.terms)
    pairs = tuple(pair for pair in product if allowed_degrees(*pair))
    if not pairs:
        raise SpecError(f"there is no kernel from '{into}' to '{out}': no degree J has the right parity.")
    entries = sum(out.dimension * into.dimension * len(allowed_degrees(out, into)) for out, into in pairs)
    if entries > MOST_ENTRIES:
        raise SpecError(
            f"the kernels from '{into}' to '{out}' have {grouped(entries)} entries, the limit is "
            f"{grouped(MOST_ENTRIES)}. Show fewer degrees at a time."
        )
    return pairs


def as_text(bases: Sequence[ProvenBasis], width: int | None = None) -> str:
    """One matrix per kernel in aligned columns; where it is wider than `width`, an entry per line, wrapped."""
    return "\n\n".join(_text(proven, width) for proven in bases)


def as_latex(bases: Sequence[ProvenBasis], width: int | None = None) -> str:
    """One `bmatrix` per kernel, a line each, which is wrapped where it is wider than `width`."""
    lines = (line for proven in bases for line in _latex(proven))
    return "\n".join("\n".join(_wrapped(line, width)) for line in lines)


def as_json(bases: Sequence[ProvenBasis], width: int | None = None) -> str:
    """A list of `{"out": .., "in": .., "elements": [{"J": .., "factor": .., "kernel": [[polynomial]]}]}`.

    Polynomials are in Python's syntax, one per line: texts in JSON cannot be wrapped.
    """
    return json.dumps([_plain(proven) for proven in bases], indent=1)


STYLES: dict[str, Callable[[Sequence[ProvenBasis], int | None], str]] = {
    "text": as_text,
    "latex": as_latex,
    "json": as_json,
}


def _text(proven: ProvenBasis, width: int | None) -> str:
    parts = ["\n".join(_wrapped(_title(proven), width, others=""))]
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        power = {0: "", 1: "|x| "}.get(coupling.J, f"|x|^{coupling.J} ")
        factor = _factor(exact.square, _TEXT)
        head = f"J = {coupling.J}:   {power}kappa(x) ={f' {factor} *' if factor else ''}\n"
        parts.append(head + _matrix(_entries(exact, _TEXT), width))
    return "\n\n".join(parts)


def _latex(proven: ProvenBasis) -> Iterator[str]:
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        body = r" \\ ".join(" & ".join(row) for row in _entries(exact, _LATEX))
        left = {0: "", 1: r"|x|\,"}.get(coupling.J, rf"|x|^{{{coupling.J}}}\,")
        factor = _factor(exact.square, _LATEX)
        factor += " " if factor else ""
        yield rf"{left}\kappa^{{{coupling.J}}}(x) = {factor}\begin{{bmatrix}} {body} \end{{bmatrix}}"


def _plain(proven: ProvenBasis) -> dict[str, object]:
    elements = []
    for coupling in _couplings(proven):
        exact = _exact(coupling)
        factor = _factor(exact.square, _PYTHON) or "1"
        elements.append({"J": coupling.J, "factor": factor, "kernel": _entries(exact, _PYTHON)})
    return {"out": str(proven.out), "in": str(proven.into), "elements": elements}


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
    return (
        f"kernels kappa(x) from degree {proven.into} (columns) to degree {proven.out} (rows): "
        f"{counted(len(proven.couplings), 'element')}, times any function of |x|; "
        "proved equivariant, independent and complete, exactly"
    )


def _matrix(entries: list[list[str]], width: int | None) -> str:
    widths = [max(len(row[column]) for row in entries) for column in range(len(entries[0]))]
    if width is None or sum(widths) + 3 * len(widths) + 3 <= width:
        return "\n".join(f"  [ {row} ]" for row in aligned(entries, left=0, gap="   "))
    j, l = len(entries) // 2, len(entries[0]) // 2
    return "\n".join(
        line
        for row, cells in enumerate(entries)
        for column, entry in enumerate(cells)
        if entry != "0"
        for line in _wrapped(entry, width, f"  [{row - j:2}, {column - l:2}]  ", " " * 12)
    )


def _wrapped(line: str, width: int | None, first: str = "", others: str = "  ") -> list[str]:
    """A line in parts of at most `width`, broken at blanks as far as that is possible; what each begins with."""
    if width is None or len(first) + len(line) <= width:
        return [first + line]
    least = len(others) + 20  # characters, however narrow the terminal
    parts = wrap(line, max(width, least) - len(others), break_long_words=False, break_on_hyphens=False)
    return [(others if number else first) + part for number, part in enumerate(parts)]


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
