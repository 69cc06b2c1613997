"""Harmonics, generators, D^l and Clebsch-Gordan against e3nn, which shares no code, and against exact identities."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from e3nn import o3
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from basisgen.algebra.polynomials import COORDINATES, RING, rotate
from basisgen.algebra.roots import SignedRoot
from basisgen.algebra.rounding import float_of_root
from basisgen.so3.clebsch_gordan import clebsch_gordan, coupled_degrees
from basisgen.so3.field_type import Irrep, parse_field_type
from basisgen.so3.generators import generator, rational_generator
from basisgen.so3.harmonics import harmonics
from basisgen.so3.wigner import field_matrix, wigner_d


def _evaluate(l: int, points: np.ndarray) -> np.ndarray:
    """Y_l at points, (point, m)."""
    columns = []
    for harmonic in harmonics(l):
        value = sum(
            float(coefficient) * np.prod(points ** np.array(exponents), axis=1)
            for exponents, coefficient in harmonic.polynomial.terms()
        )
        columns.append(float_of_root(harmonic.square_norm) * value)
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("l", range(12))
def test_harmonics_equal_those_of_e3nn(l: int) -> None:
    points = np.random.default_rng(l).normal(size=(40, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    theirs = o3.spherical_harmonics(l, torch.tensor(points), normalize=False, normalization="component")
    np.testing.assert_allclose(_evaluate(l, points), theirs.numpy(), atol=1e-12)


@pytest.mark.parametrize("l", range(9))
def test_harmonics_are_harmonic_homogeneous_and_component_normalised(l: int) -> None:
    for harmonic in harmonics(l):
        laplacian = sum((harmonic.polynomial.diff(x).diff(x) for x in COORDINATES), RING.zero)
        assert laplacian == 0
        assert all(sum(exponents) == l for exponents in harmonic.polynomial.monoms())
    x, y, z = COORDINATES
    total = sum(
        (h.polynomial**2 * RING.domain(h.square_norm.numerator, h.square_norm.denominator) for h in harmonics(l)),
        RING.zero,
    )
    assert total == (2 * l + 1) * (x**2 + y**2 + z**2) ** l


@pytest.mark.parametrize("l", range(7))
@pytest.mark.parametrize("axis", range(3))
def test_harmonics_turn_by_the_generators(l: int, axis: int) -> None:
    matrix = rational_generator(l, axis)
    for m, harmonic in enumerate(harmonics(l), start=-l):
        turned = sum(
            (
                harmonics(l)[n + l].polynomial * RING.domain(value.numerator, value.denominator)
                for (row, n), value in matrix.items()
                if row == m
            ),
            RING.zero,
        )
        assert rotate(harmonic.polynomial, axis) == turned


@pytest.mark.parametrize("l", range(1, 7))
def test_generators_obey_the_lie_algebra(l: int) -> None:
    """[X_x, X_y] = X_z and cyclic, exactly: products of integer matrices over a common denominator."""
    size = 2 * l + 1

    def matrix(axis: int) -> list[list[Fraction]]:
        values = rational_generator(l, axis)
        return [[values.get((m, n), Fraction(0)) for n in range(-l, l + 1)] for m in range(-l, l + 1)]

    def product(a: list[list[Fraction]], b: list[list[Fraction]]) -> list[list[Fraction]]:
        return [[sum(a[i][k] * b[k][j] for k in range(size)) for j in range(size)] for i in range(size)]

    for axis in range(3):
        a, b, c = (matrix((axis + shift) % 3) for shift in range(3))
        ab, ba = product(a, b), product(b, a)
        assert [[ab[i][j] - ba[i][j] for j in range(size)] for i in range(size)] == c


def test_degree_one_is_the_vector_itself() -> None:
    x, y, z = COORDINATES
    assert [harmonic.polynomial for harmonic in harmonics(1)] == [x, y, z]
    rotation = Rotation.random(rng=0).as_matrix()
    np.testing.assert_allclose(wigner_d(Irrep(1), rotation), rotation, atol=1e-14)


@pytest.mark.parametrize("l", range(9))
def test_wigner_d_equals_that_of_e3nn(l: int) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # e3nn takes its angles in the default type
    try:
        for seed in range(5):
            rotation = Rotation.random(rng=seed).as_matrix()
            for parity in (1, -1):
                for matrix in (rotation, -rotation):
                    theirs = o3.Irrep(l, parity).D_from_matrix(torch.tensor(matrix)).numpy()
                    np.testing.assert_allclose(wigner_d(Irrep(l, parity), matrix), theirs, atol=1e-12)
    finally:
        torch.set_default_dtype(before)


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_wigner_d_is_a_representation_and_moves_the_harmonics(seed: int, l: int) -> None:
    r, s = Rotation.random(2, rng=seed).as_matrix()
    point = np.random.default_rng(seed).normal(size=(1, 3))
    np.testing.assert_allclose(wigner_d(Irrep(l), r @ s), wigner_d(Irrep(l), r) @ wigner_d(Irrep(l), s), atol=1e-12)
    moved = _evaluate(l, point @ r.T)
    np.testing.assert_allclose(moved, _evaluate(l, point) @ wigner_d(Irrep(l), r).T, atol=1e-10 * abs(moved).max())


def test_wigner_d_refuses_what_is_no_rotation() -> None:
    with pytest.raises(ValueError, match="no parity"):
        wigner_d(Irrep(1), -np.eye(3))
    with pytest.raises(ValueError, match="not an orthogonal"):
        wigner_d(Irrep(1), 2 * np.eye(3))


def test_field_matrix_follows_the_channel_order() -> None:
    rotation = Rotation.random(rng=3).as_matrix()
    matrix = field_matrix(parse_field_type("2x0 + 2x1"), rotation)
    np.testing.assert_allclose(matrix[2:5, 2:5], rotation, atol=1e-14)
    np.testing.assert_allclose(matrix[5:8, 5:8], rotation, atol=1e-14)
    assert matrix[0, 0] == matrix[1, 1] == 1 and abs(matrix[:2, 2:]).max() == 0 and abs(matrix[2:5, 5:8]).max() == 0


@pytest.mark.parametrize(("j", "l"), [(j, l) for j in range(7) for l in range(7)])
def test_coefficients_equal_those_of_e3nn(j: int, l: int) -> None:
    for J in coupled_degrees(j, l):
        if J <= 11:  # where e3nn's tables end
            ours = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
            for (m, n, M), value in clebsch_gordan(j, l, J).items():
                ours[m + j, n + l, M + J] = float(value)
            theirs = o3.wigner_3j(j, l, J, dtype=torch.float64).numpy() * (2 * J + 1) ** 0.5
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_generators_are_antisymmetric_in_the_orthonormal_basis() -> None:
    for l in range(5):
        for axis in range(3):
            matrix = generator(l, axis)
            assert all(matrix[n, m] == -value for (m, n), value in matrix.items())


@given(st.fractions(min_value=0, max_value=10**6), st.sampled_from([-1, 1]))
def test_signed_roots_round_correctly_and_read_back(square: Fraction, sign: int) -> None:
    root = SignedRoot(sign if square else 0, square)
    assert SignedRoot.parse(str(root)) == root
    value = abs(float(root))
    below, above = np.nextafter(value, -1), np.nextafter(value, np.inf)
    if value:  # the exact root lies between the midpoints to the neighbouring floats
        assert ((Fraction(value) + Fraction(float(below))) / 2) ** 2 <= square
        assert square <= ((Fraction(value) + Fraction(float(above))) / 2) ** 2
