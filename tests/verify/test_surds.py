"""Exact zeros of radial profiles, and packages whose filters have them."""

from fractions import Fraction

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from basisgen.commands.recompile import recompile
from basisgen.emission.write import write_package
from basisgen.pipeline import compile_package
from basisgen.spec import parse_package
from basisgen.verify.floats import parsed_profile
from basisgen.verify.surds import Surd, vanishes
from basisgen.verify.verify import verify_package

small = st.fractions(-3, 3, max_denominator=4)
squares = st.fractions(0, 5, max_denominator=4)


def exact(surd: Surd) -> sympy.Expr:
    a, b, q = (sympy.Rational(part.numerator, part.denominator) for part in surd)
    return a + b * sympy.sqrt(q)


@given(small, small, small, small, squares)
def test_surds_are_sympys(a, b, c, d, q):
    x, y = Surd(a, b, q), Surd(c, d, q)
    assert sympy.simplify(exact(x.times(y)) - exact(x) * exact(y)) == 0
    assert sympy.simplify(exact(x.plus(y, -1)) - exact(x) + exact(y)) == 0
    assert x.is_zero() == (sympy.simplify(exact(x)) == 0)
    if not y.is_zero():
        assert sympy.simplify(exact(x.over(y)) * exact(y) - exact(x)) == 0


@pytest.mark.parametrize(
    ("formula", "square", "zero"),
    [
        ("r^1*((5/2) + (-1)*(r^2/(9/5))^1)*exp(-r^2/(9/5)/2)", Fraction(9, 2), True),
        ("r^1*((5/2) + (-1)*(r^2/(9/5))^1)*exp(-r^2/(9/5)/2)", Fraction(9, 2) + Fraction(1, 10**30), False),
        ("(r - 3)/(r + 3)", Fraction(9), True),
        ("(r + 3)/(r + 3)", Fraction(9), False),
        ("1/(r - 3)", Fraction(9), False),
        ("-(r^2 - 2)^3", Fraction(2), True),
        ("exp(r) - exp(r)", Fraction(1), False),  # true, but not decided
        ("((r^200)^200)^200 - ((r^200)^200)^200", Fraction(2, 3), False),  # likewise: too large
    ],
)
def test_zeros_of_formulas(formula, square, zero):
    assert vanishes(parsed_profile(formula), square) is zero


def test_filters_that_vanish_at_a_voxel_are_verified(tmp_path):
    layer = 'in = "1x0"\nout = "1x0 + 1x1"\nkernel_size = 5\nvoxel_spacing = "3/2"\nradial = "hermite"'
    files = compile_package(parse_package(f'name = "drawn"\n[[conv]]\nname = "Conv"\n{layer}\n'))
    write_package(files, tmp_path / "drawn")
    verdict = verify_package(tmp_path / "drawn", run=False, recompile=recompile)
    assert verdict.verified, verdict.complaints
