"""`basisgen show`: what is printed, read back by sympy, is the kernel; in any width."""

from __future__ import annotations

import json

import pytest
import sympy
from click.testing import CliRunner, Result
from sympy.parsing.sympy_parser import implicit_multiplication, parse_expr, standard_transformations

from basisgen.algebra.polynomials import integer_terms
from basisgen.cli import main
from basisgen.commands.show import STYLES, as_json, as_latex, as_text
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
        matrix, texts = sympy.zeros(2 * j + 1, 2 * l + 1), {}
        for row, line in enumerate(lines):
            if line.rstrip().endswith("]"):
                entries = [entry for entry in line.strip("[ ]").split("   ") if entry.strip()]
                for column, entry in enumerate(entries):
                    matrix[row, column] = parsed(entry)
            elif "]" in line:
                place, entry = line.strip().split("]")
                m, n = map(int, place.strip("[").split(","))
                texts[m + j, n + l] = entry
            else:  # goes on
                texts[m + j, n + l] += line
        for place, entry in texts.items():
            matrix[place] = parsed(entry)
        matrices.append(parsed(factor) * matrix)
    return matrices


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("width", [None, 20])
def test_text_is_the_kernel(pair: tuple[int, int], width: int | None) -> None:
    proven = prove(solve(*map(Irrep, pair)))
    shown = read_text(as_text([proven], width), *pair)
    for matrix, exact in zip(shown, oracle(proven), strict=True):
        assert (matrix - exact).expand().is_zero_matrix


@pytest.mark.parametrize("pair", PAIRS)
def test_json_is_the_kernel(pair: tuple[int, int]) -> None:
    proven = prove(solve(*map(Irrep, pair)))
    for element, exact in zip(json.loads(as_json([proven]))[0]["elements"], oracle(proven), strict=True):
        matrix = sympy.sympify(element["factor"]) * sympy.Matrix(sympy.sympify(element["kernel"]))
        assert (matrix - exact).expand().is_zero_matrix


def test_latex_is_balanced_and_names_every_element() -> None:
    lines = as_latex([prove(solve(Irrep(1), Irrep(2)))]).splitlines()
    assert len(lines) == 3
    for J, line in enumerate(lines, 1):
        assert rf"\kappa^{{{J}}}(x)" in line and line.count("{") == line.count("}")
        assert line.count("&") == 3 * 4 and line.count(r"\\") == 2


def test_no_line_is_wider_than_the_terminal_where_entries_fit() -> None:
    assert max(map(len, as_text([prove(solve(Irrep(2), Irrep(2)))], 80).splitlines())) <= 80


@pytest.mark.parametrize("style", ["text", "latex"])
def test_long_lines_are_wrapped_and_nothing_is_lost(style: str) -> None:
    proven, longest = prove(solve(Irrep(3), Irrep(4))), 44  # characters without a blank
    whole, wrapped = STYLES[style]([proven], None), STYLES[style]([proven], 60)
    assert max(map(len, whole.splitlines())) > 200
    assert max(map(len, wrapped.splitlines())) <= 60 + longest
    if style == "latex":
        assert wrapped.split() == whole.split()
    else:
        for a, b in zip(read_text(wrapped, 3, 4), read_text(whole, 3, 4), strict=True):
            assert (a - b).expand().is_zero_matrix


def test_in_comes_first_and_degrees_take_out_first() -> None:
    by_type, by_degree = run("show", "2x1o", "0o + 3x2o"), run("show", "1", "2", "--format", "json")
    titles = [line for line in by_type.stdout.splitlines() if line.startswith("kernels")]
    assert [title.split(":")[0] for title in titles] == [
        "kernels kappa(x) from degree 1o (columns) to degree 2o (rows)"
    ]
    assert by_degree.stdout == run("show", "--degrees", "2", "1", "--format", "json").stdout
    (pair,) = json.loads(by_degree.stdout)
    assert (pair["in"], pair["out"]) == ("1", "2") and [len(pair["elements"][0]["kernel"]), 3] == [5, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1"], "show takes IN and OUT, or --degrees J L: for example basisgen show 1x0 2x1."),
        ([], "show takes IN and OUT, or --degrees J L"),
        (["1", "2", "--degrees", "1", "2"], "show takes IN and OUT, or --degrees J L"),
        (["1", "13"], "OUT = '13': degree 13 is over the limit, 12. A number alone is a degree"),
        (["--degrees", "13", "1"], "degree 13 is over the limit, 12"),
        (["--degrees", "-1", "1"], "term '-1' is not a number of copies"),
        (["1", "1o"], "are of different groups"),
        (["0e", "0o"], "there is no kernel from '1x0e' to '1x0o': no degree J has the right parity."),
        (["0+1+2+3+4+5+6+7+8+9"] * 2, "entries, the limit is 25,000. Show fewer degrees at a time."),
    ],
)
def test_what_cannot_be_shown_is_one_line(arguments: list[str], message: str) -> None:
    result = run("show", *arguments)
    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)
