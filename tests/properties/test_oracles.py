"""The exact objects against oracles that share no code with them: e3nn, sympy's own, and a brute-force null space."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from math import pi

import mpmath
import numpy as np
import pytest
import sympy
import torch
from e3nn import o3
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from sympy import Rational
from sympy.functions.special.spherical_harmonics import Ynm
from sympy.physics.wigner import clebsch_gordan as sympy_clebsch_gordan
from sympy.physics.wigner import wigner_d as sympy_wigner_d

from basisgen.algebra.linear import rank
from basisgen.couplings.coupling import rational_coefficients
from basisgen.so3.clebsch_gordan import clebsch_gordan, coupled_degrees
from basisgen.so3.field_type import Irrep
from basisgen.so3.harmonics import harmonics
from basisgen.so3.wigner import wigner_d
from basisgen.verify.polynomials import Polynomial, laplacian, standard_harmonic, turn
from basisgen.volumes.kernels.proof import prove
from basisgen.volumes.kernels.solver import solve

Complex = NDArray[np.complex128]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """e3nn computes in torch's default dtype, float32 unless told."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ----------------------------------------------------------------------------------------------------------------- e3nn


@pytest.mark.parametrize("l", range(13))
def test_harmonics_equal_e3nns_up_to_where_it_stops(l: int) -> None:
    points = np.random.default_rng(l).normal(size=(6, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    expected = o3.spherical_harmonics(l, torch.tensor(points), False, "component").numpy()
    with mpmath.workdps(30):  # in float64 the terms of our polynomials cancel; e3nn's recursion is what is measured
        ours = [[_evaluate(l, m, point) for m in range(-l, l + 1)] for point in points]
    assert np.abs(np.array(ours, dtype=float) - expected).max() < 2e-12


@pytest.mark.parametrize(("j", "l"), [(8, 7), (9, 9), pytest.param(12, 11, marks=pytest.mark.slow)])
def test_coefficients_equal_e3nns_at_high_degrees(j: int, l: int) -> None:
    for J in (abs(j - l), (j + l) // 2, j + l):
        expected = (2 * J + 1) ** 0.5 * o3.wigner_3j(j, l, J).numpy()
        ours = np.zeros_like(expected)
        for (m, n, M), value in clebsch_gordan(j, l, J).items():
            ours[m + j, n + l, M + J] = float(value)
        assert np.abs(ours - expected).max() < 1e-11, J


def _evaluate(l: int, m: int, point: NDArray[np.float64]) -> mpmath.mpf:
    harmonic = harmonics(l)[m + l]
    x, y, z = map(mpmath.mpf, point)
    total = sum(int(c) * x**a * y**b * z**d for (a, b, d), c in harmonic.polynomial.terms())
    return mpmath.sqrt(mpmath.mpf(harmonic.square_norm.numerator) / harmonic.square_norm.denominator) * total


# ---------------------------------------------------------------------------------------------------------------- sympy


def _real_from_complex(l: int) -> Complex:
    """U with real = U complex, rows m = -l..l, columns mu = -l..l: the textbook's, without the Condon-Shortley sign."""
    U = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)
    U[l, l] = 1
    for m in range(1, l + 1):
        sign = (-1) ** m
        U[l + m, l + m], U[l + m, l - m] = sign / 2**0.5, 1 / 2**0.5
        U[l - m, l + m], U[l - m, l - m] = -1j * sign / 2**0.5, 1j / 2**0.5
    return U


@pytest.mark.parametrize("l", range(5))
def test_harmonics_equal_sympys_ynm(l: int) -> None:
    for x, y, z in (
        (Rational(1, 3), Rational(2, 3), Rational(2, 3)),
        (Rational(6, 7), Rational(-2, 7), Rational(3, 7)),
    ):
        X, Y, Z = z, x, y  # our axes are the textbook's (Y, Z, X)
        theta, phi = sympy.acos(Z), sympy.atan2(Y, X)
        values = [complex(Ynm(l, mu, theta, phi).expand(func=True).evalf(20)) for mu in range(-l, l + 1)]
        expected = (4 * pi) ** 0.5 * _real_from_complex(l) @ np.array(values)
        ours = [float(_evaluate(l, m, np.array([float(x), float(y), float(z)]))) for m in range(-l, l + 1)]
        assert np.abs(np.array(ours) - expected).max() < 1e-13


@pytest.mark.parametrize(("j", "l"), list(product(range(3), repeat=2)))
def test_coefficients_equal_sympys(j: int, l: int) -> None:
    """C = (-i)^(j+l-J) conj(U) conj(U) U <j mu l nu|J mu+nu>: the complex coefficients in the real basis."""
    for J in coupled_degrees(j, l):
        table = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
        for mu, nu in product(range(-j, j + 1), range(-l, l + 1)):
            if abs(mu + nu) <= J:
                table[mu + j, nu + l, mu + nu + J] = float(sympy_clebsch_gordan(j, l, J, mu, nu, mu + nu))
        by_j, by_l, by_J = map(_real_from_complex, (j, l, J))
        expected = np.einsum("am,bn,cM,mnM->abc", by_j.conj(), by_l.conj(), by_J, table)
        expected *= (-1j) ** (j + l - J)
        ours = np.zeros_like(table)
        for (m, n, M), value in clebsch_gordan(j, l, J).items():
            ours[m + j, n + l, M + J] = float(value)
        assert np.abs(expected - ours).max() < 1e-13


@pytest.mark.parametrize("l", range(4))
def test_rotation_matrices_equal_sympys(l: int) -> None:
    """sympy's D is <m| exp(i alpha J_z) exp(i beta J_y) exp(i gamma J_z) |m'>, m = l..-l: of the inverse of g below.

    Y_m(g x) = sum_m' <m'|g^-1|m> Y_m'(x), so its transpose, in the real basis, is D^l(g).
    """
    alpha, beta, gamma = 0.3, 1.1, -0.7
    D = np.array(sympy_wigner_d(l, alpha, beta, gamma).evalf(20), dtype=complex)[::-1, ::-1]
    U = _real_from_complex(l)
    expected = U @ D.T @ U.conj().T
    g = Rotation.from_euler("ZYZ", [gamma, beta, alpha]).as_matrix()
    axes = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])  # our axes are the textbook's (Y, Z, X)
    assert np.abs(expected - wigner_d(Irrep(l), axes @ g @ axes.T)).max() < 1e-13


_PRIME = 2**31 - 1  # modulo which the compiler eliminates first
numbers = st.sampled_from(
    (0, 1, -1, 2, _PRIME, 2 * _PRIME, _PRIME + 1, Fraction(1, 3), Fraction(_PRIME, 2), Fraction(1, _PRIME))
)
matrices = st.integers(1, 4).flatmap(
    lambda columns: st.lists(st.lists(numbers, min_size=columns, max_size=columns), min_size=1, max_size=4)
)


@settings(deadline=None)
@given(matrices)
def test_rank_equals_sympys_also_where_it_drops_modulo_the_prime(rows: list[list[Fraction]]) -> None:
    assert rank(rows) == sympy.Matrix([[Rational(Fraction(v)) for v in row] for row in rows]).rank()


# ------------------------------------------------------------------------------------------------ brute force, exactly


def _null_space(equations: list[dict[int, Fraction]], unknowns: int) -> list[dict[int, Fraction]]:
    """A basis of the solutions, by elimination over the rationals; each has a 1 where the others have 0."""
    pivots: dict[int, dict[int, Fraction]] = {}
    for equation in equations:
        row = {k: v for k, v in equation.items() if v}
        for k in sorted(pivots.keys() & row.keys()):
            if k in row:
                _subtract(row, row[k], pivots[k])
        if row:
            lead = min(row)
            row = {k: v / row[lead] for k, v in row.items()}
            for other in pivots.values():
                if lead in other:
                    _subtract(other, other[lead], row)
            pivots[lead] = row
    free = [k for k in range(unknowns) if k not in pivots]
    return [{f: Fraction(1), **{k: -row[f] for k, row in pivots.items() if f in row}} for f in free]


def _subtract(row: dict[int, Fraction], factor: Fraction, other: dict[int, Fraction]) -> None:
    for k, v in other.items():
        row[k] = row.get(k, Fraction(0)) - factor * v
        if not row[k]:
            del row[k]


def _turned(l: int, axis: int) -> dict[tuple[int, int], Fraction]:
    """dD^l(X_a) on P_m = Y_m / sqrt(N_m): turn P_m, read off its coordinates in the P_k by elimination."""
    polynomials = [standard_harmonic(l, m)[1] for m in range(-l, l + 1)]
    matrix = {}
    for row, p in enumerate(polynomials):
        turned = turn(p, axis)
        monomials = sorted({monomial for q in (*polynomials, turned) for monomial in q})
        equations = [
            {k: Fraction(q[mono]) for k, q in enumerate((*polynomials, turned)) if mono in q} for mono in monomials
        ]
        (solution,) = _null_space(equations, 2 * l + 2)  # sum_k a_k P_k + a turned = 0
        matrix.update({(row, k): -v / solution[2 * l + 1] for k, v in solution.items() if k <= 2 * l})
    return matrix


def _brute_force(j: int, l: int, J: int) -> list[dict[tuple[int, int], Polynomial]]:
    """All matrices of harmonic homogeneous polynomials of degree J that obey the constraint, differentiated.

    The unknowns are the coefficients of every monomial of every entry: no Clebsch-Gordan, no harmonic of degree J.
    """
    monomials = [(a, b, J - a - b) for a in range(J + 1) for b in range(J + 1 - a)]
    number = {(m, n, mono): k for k, (m, n, mono) in enumerate(product(range(2 * j + 1), range(2 * l + 1), monomials))}
    equations: dict[tuple[object, ...], dict[int, Fraction]] = {}

    def put(equation: tuple[object, ...], unknown: int, value: Fraction | int) -> None:
        row = equations.setdefault(equation, {})
        row[unknown] = row.get(unknown, Fraction(0)) + value

    for (m, n, mono), k in number.items():
        for out, value in laplacian({mono: 1}).items():
            put(("laplacian", m, n, out), k, value)
        for axis in range(3):
            for out, value in turn({mono: 1}, axis).items():
                put((axis, m, n, out), k, value)
    for axis in range(3):
        for (row, m), value in _turned(j, axis).items():
            for n, mono in product(range(2 * l + 1), monomials):
                put((axis, row, n, mono), number[m, n, mono], -value)
        for (n, column), value in _turned(l, axis).items():
            for m, mono in product(range(2 * j + 1), monomials):
                put((axis, m, column, mono), number[m, n, mono], value)
    index = {k: key for key, k in number.items()}
    found = []
    for solution in _null_space(list(equations.values()), len(number)):
        kernel: dict[tuple[int, int], Polynomial] = {}
        for k, v in solution.items():
            m, n, mono = index[k]
            kernel.setdefault((m - j, n - l), {})[mono] = v  # type: ignore[assignment]  # rational, here
        found.append(kernel)
    return found


small = [pytest.param(j, l, marks=pytest.mark.slow if j + l > 3 else ()) for j, l in product(range(4), repeat=2)]


@pytest.mark.parametrize(("j", "l"), small)
def test_the_solver_finds_what_brute_force_finds(j: int, l: int) -> None:
    """For J = 0..j+l+1: one solution where |j-l| <= J <= j+l, and it is the solver's; none elsewhere."""
    couplings = {coupling.J: coupling for coupling in solve(Irrep(j), Irrep(l)).couplings}
    for J in range(j + l + 2):
        found = _brute_force(j, l, J)
        assert len(found) == (J in couplings), (J, len(found))
        if not found:
            continue
        coefficients = rational_coefficients(couplings[J])
        assert coefficients is not None
        ours: dict[tuple[int, int], dict[tuple[int, int, int], Fraction]] = {}
        for (m, n, M), c in coefficients.items():
            entry = ours.setdefault((m, n), {})
            for mono, value in standard_harmonic(J, M)[1].items():
                entry[mono] = entry.get(mono, Fraction(0)) + c * Fraction(value) * _scale(J, M)
        ours = {key: {mono: v for mono, v in entry.items() if v} for key, entry in ours.items()}
        ratios = {
            ours[key][mono] / v * _scale(l, key[1]) / _scale(j, key[0])
            for key, entry in found[0].items()
            for mono, v in entry.items()
        }
        assert {key for key, entry in ours.items() if entry} == found[0].keys() and len(ratios) == 1


def _scale(l: int, m: int) -> Fraction:
    """The compiler's integer polynomial over the verifier's."""
    ours, theirs = harmonics(l)[m + l].polynomial, standard_harmonic(l, m)[1]
    monomial = next(iter(theirs))
    return Fraction(int(ours[monomial])) / theirs[monomial]


def test_brute_force_without_one_equation_finds_too_much() -> None:
    """The negative control: one axis of the three would not do."""
    matrix = _turned(1, 1)  # kernels (1 <- 1) of degree 0, about y alone: k dD = dD k
    equations = []
    for m, n in product(range(3), repeat=2):
        row: dict[int, Fraction] = {}
        for k in range(3):
            row[3 * m + k] = row.get(3 * m + k, Fraction(0)) + matrix.get((k, n), 0)
            row[3 * k + n] = row.get(3 * k + n, Fraction(0)) - matrix.get((m, k), 0)
        equations.append(row)
    assert len(_null_space(equations, 9)) == 3


# -------------------------------------------------------------------------------------------- beyond: identities alone


@pytest.mark.slow
@pytest.mark.parametrize(("j", "l"), [(12, 12), (12, 11), (16, 3)])
def test_high_degrees_are_proved_by_identity(j: int, l: int) -> None:
    assert len(prove(solve(Irrep(j), Irrep(l))).degrees) == 2 * min(j, l) + 1
