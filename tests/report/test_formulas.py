"""What the page prints is the mathematics: every formula is read back from its markup and evaluated."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
import sympy
from markup import evaluate, kernel, parse

from basisgen.algebra.polynomials import integer_terms
from basisgen.commands.report import mathml
from basisgen.commands.report.formulas import ExactKernel, exact_kernel, root
from basisgen.emission.certificate import certificate, to_json
from basisgen.pipeline import plan
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import harmonics
from basisgen.spec import parse_layer, single_layer_package
from basisgen.verify.floats import evaluate_profile
from basisgen.verify.statement import Certificate, read_certificate
from basisgen.volumes.kernels.proof import prove
from basisgen.volumes.kernels.solver import solve
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.hermite import Hermite
from basisgen.volumes.sampling.shells import Shells

POINT = (0.3, -1.1, 0.7)
PAIRS = [(0, 0), (1, 0), (0, 2), (1, 1), (1, 2), (2, 2), (3, 2), (5, 1)]


@pytest.fixture(scope="module")
def certified() -> Certificate:
    degrees = "1x0 + 1x1 + 1x2 + 1x3"
    layer = parse_layer({"name": "Conv", "in": degrees, "out": f"{degrees} + 1x5", "kernel_size": 3})
    return read_certificate(to_json(certificate(plan(single_layer_package("conv", layer)))).encode())


def oracle(j: int, l: int, J: int) -> np.ndarray:
    """kappa^J at POINT from the solver, by sympy."""
    proven = prove(solve(Irrep(j), Irrep(l)))
    (coupling,) = (of.coupling for of in proven.couplings if of.coupling.J == J)
    values = dict(zip(sympy.symbols("x y z"), POINT, strict=True))
    matrix = np.zeros((2 * j + 1, 2 * l + 1))
    for (m, n, M), value in coupling.coefficients.items():
        harmonic = harmonics(J)[M + J]
        polynomial = sympy.Poly.from_dict(integer_terms(harmonic.polynomial), *values).as_expr()
        root_of = sympy.sqrt(sympy.Rational(str(value.square * harmonic.square_norm)))
        matrix[m + j, n + l] += value.sign * float(sympy.N((root_of * polynomial).subs(values), 30))
    return matrix / np.linalg.norm(POINT) ** J


@pytest.mark.parametrize(("j", "l"), PAIRS)
def test_every_kernel_on_the_page_is_the_solvers(certified: Certificate, j: int, l: int) -> None:
    for J in range(abs(j - l), j + l + 1):
        printed = kernel(mathml.kernel(exact_kernel(certified, j, l, J)), POINT)
        assert printed == pytest.approx(oracle(j, l, J), abs=1e-12)


def test_the_test_above_sees_one_wrong_sign(certified: Certificate) -> None:
    exact = exact_kernel(certified, 1, 2, 3)
    first, *others = exact.entries
    entry = {s: {powers: -value for powers, value in polynomial.items()} for s, polynomial in first[0].items()}
    wrong = ExactKernel(exact.J, exact.square, ((entry, *first[1:]), *others))
    assert abs(kernel(mathml.kernel(wrong), POINT) - oracle(1, 2, 3)).max() > 1e-3


@pytest.mark.parametrize(("j", "l"), PAIRS)
def test_coefficients_are_whole_and_without_a_common_factor(certified: Certificate, j: int, l: int) -> None:
    for J in range(abs(j - l), j + l + 1):
        exact = exact_kernel(certified, j, l, J)
        values = [v for row in exact.entries for entry in row for p in entry.values() for v in p.values()]
        assert all(value.denominator == 1 for value in values)
        assert np.gcd.reduce([int(value) for value in values]) == 1
        assert exact.terms == len(values)


def test_the_cross_product_reads_as_one(certified: Certificate) -> None:
    text = "".join(parse(mathml.kernel(exact_kernel(certified, 1, 1, 1))).itertext()).replace("\N{INVISIBLE TIMES}", "")
    assert text == "κ1(x)=φ(r)62r0z−y−z0xy−x0"  # sqrt(6)/(2r) [[0, z, -y], [-z, 0, x], [y, -x, 0]]


@pytest.mark.parametrize(
    "square", [Fraction(1), Fraction(3, 10), Fraction(8, 9), Fraction(720, 7), Fraction(2**61 * 97)]
)
def test_root_takes_out_every_square(square: Fraction) -> None:
    factor, s = root(square)
    assert factor**2 * s == square and all(s % p**2 for p in range(2, 100))


def profiles() -> list[str]:
    cube, flat = VoxelGrid((7, 7, 7)), VoxelGrid((9, 9, 5), (Fraction(1), Fraction(1), Fraction(5, 2)))
    groups = [*Shells().groups(cube, [0, 2]), *Hermite().groups(cube, [0, 1, 2]), *Hermite(n_max=7).groups(flat, [1])]
    return [group.formula for group in groups]


@pytest.mark.parametrize("formula", profiles())
def test_profiles_are_what_the_certificate_says(formula: str) -> None:
    for r in random.Random(0).choices(range(1, 400), k=5):
        assert evaluate(mathml.profile(formula), {"r": r / 100}) == pytest.approx(
            float(evaluate_profile(formula, r / 100)), rel=1e-10
        )


@pytest.mark.parametrize("text", ["optimal 3", "1/r", "r^r", "(" * 5000, "<script>alert(1)</script>"])
def test_what_is_no_formula_is_shown_as_text(text: str) -> None:
    shown = parse(mathml.profile(text))
    assert shown.tag == "span" and shown.text == text
