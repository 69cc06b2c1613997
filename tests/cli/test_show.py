"""`basisgen show`: what is printed, read back by sympy, is the kernel; in any width."""

from __future__ import annotations

import json

import pytest
import sympy
from sympy.parsing.sympy_parser import implicit_multiplication, parse_expr, standard_transformations

from basisgen.algebra.polynomials import integer_terms
from basisgen.commands.show import as_json, as_latex, as_text
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import harmonics
from basisgen.volumes.kernels.proof import ProvenBasis, prove
from basisgen.volumes.kernels.solver import solve

XYZ = sympy.symbols("x y z")
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (3, 1)]


def oracle(proven: ProvenBasis) -> list[sympy.Matrix]:
    """|x|^J kappa^J for every element, by sympy."""
    j, l = proven.out.degree, proven.into.degree
    matrices = []
    for coupling in (of.coupling for of in proven.couplings):
        matrix = sympy.zeros(2 * j + 1, 2 * l + 1)
        for (m, n, M), value in coupling.coefficients.items():
            harmonic = harmonics(coupling.J)[M + coupling.J]
            root = sympy.sqrt(sympy.Rational(str(value.square * harmonic.square_norm)))
            polynomial = sympy.Poly.from_dict(integer_terms(harmonic.polynomial), *XYZ).as_expr()
            matrix[m + j, n + l] += value.sign * root * polynomial
        matrices.append(matrix)
    return matrices


def parsed(text: str) -> sympy.Expr:
    """A formula as the text style writes it: 2sqrt(3)xy^2."""
    spaced = text.replace("^", "**").replace("x", " x ").replace("y", " y ").replace("z", " z ")
    spaced = spaced.replace(" **", "**").replace(")(", ") (").replace("sqrt", " sqrt")
    return parse_expr(spaced, {}, transformations=(*standard_transformations, implicit_multiplication))


def read_text(text: str, j: int, l: int) -> list[sympy.Matrix]:
    matrices = []
    for block in text.split("\n\n")[1:]:
        head, *lines = block.splitlines()
        factor = head.split("=", 2)[2].strip().removesuffix("*").strip() or "1"
        matrix = sympy.zeros(2 * j + 1, 2 * l + 1)
        for row, line in enumerate(lines):
            if line.rstrip().endswith("]"):
                entries = [entry for entry in line.strip("[ ]").split("   ") if entry.strip()]
                for column, entry in enumerate(entries):
                    matrix[row, column] = parsed(entry)
            else:
                place, entry = line.strip().split("]")
                m, n = map(int, place.strip("[").split(","))
                matrix[m + j, n + l] = parsed(entry)
        matrices.append(parsed(factor) * matrix)
    return matrices


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("width", [None, 20])
def test_text_is_the_kernel(pair: tuple[int, int], width: int | None) -> None:
    proven = prove(solve(*map(Irrep, pair)))
    shown = read_text(as_text(proven, width), *pair)
    for matrix, exact in zip(shown, oracle(proven), strict=True):
        assert (matrix - exact).expand().is_zero_matrix


@pytest.mark.parametrize("pair", PAIRS)
def test_json_is_the_kernel(pair: tuple[int, int]) -> None:
    proven = prove(solve(*map(Irrep, pair)))
    for element, exact in zip(json.loads(as_json(proven))["elements"], oracle(proven), strict=True):
        matrix = sympy.sympify(element["factor"]) * sympy.Matrix(sympy.sympify(element["kernel"]))
        assert (matrix - exact).expand().is_zero_matrix


def test_latex_is_balanced_and_names_every_element() -> None:
    lines = as_latex(prove(solve(Irrep(1), Irrep(2)))).splitlines()
    assert len(lines) == 3
    for J, line in enumerate(lines, 1):
        assert rf"\kappa^{{{J}}}(x)" in line and line.count("{") == line.count("}")
        assert line.count("&") == 3 * 4 and line.count(r"\\") == 2


def test_no_line_is_wider_than_the_terminal_where_entries_fit() -> None:
    assert max(map(len, as_text(prove(solve(Irrep(2), Irrep(2))), 80).splitlines())) <= 80
