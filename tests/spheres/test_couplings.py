"""Couplings of high degree: exact against Racah's sum and e3nn, the proof with its negative controls, rounding."""

from __future__ import annotations

from dataclasses import replace
from math import comb, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from basisgen.algebra.roots import SignedRoot
from basisgen.errors import ProofError
from basisgen.so3.clebsch_gordan import (
    IntegerCoupling,
    _rows,
    coupled_degrees,
    integer_coupling,
    square_factor,
    square_root_factor,
)
from basisgen.spheres.couplings import ProvenInteger, prove, rounded


def _racah(j: int, m: int, l: int, n: int, J: int) -> int:
    """S of Racah 1942, equation 16, as a sum over binomials: another way to the same integers."""
    return sum(
        (-1) ** k * comb(j + l - J, k) * comb(J + j - l, j - m - k) * comb(J - j + l, l + n - k)
        for k in range(max(0, l - J - m, j - J + n), min(j + l - J, j - m, l + n) + 1)
    )


@pytest.mark.parametrize(("j", "l", "J"), [(0, 0, 0), (1, 1, 1), (2, 3, 4), (7, 4, 5), (20, 13, 9), (33, 40, 11)])
def test_the_ladder_gives_racahs_integers(j: int, l: int, J: int) -> None:
    for step, row in enumerate(_rows(j, l, J)):
        M = J - step
        expected = [_racah(j, m, l, M - m, J) if abs(M - m) <= l else 0 for m in range(-j, j + 1)]
        assert row.tolist() == expected


@pytest.mark.parametrize(("j", "l", "J"), [(0, 5, 5), (3, 3, 3), (8, 8, 16), (17, 20, 4), (31, 31, 30), (64, 2, 63)])
def test_couplings_pass_the_proof(j: int, l: int, J: int) -> None:
    assert isinstance(prove(integer_coupling(j, l, J)), ProvenInteger)


def test_couplings_are_e3nns() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    torch = pytest.importorskip("torch")
    for j, l, J in [(1, 1, 1), (2, 3, 4), (5, 6, 7), (8, 8, 8)]:
        dense = np.zeros((2 * j + 1, 2 * l + 1, 2 * J + 1))
        coupling = integer_coupling(j, l, J)
        dense[tuple((coupling.orders + np.array((j, l, J))).T)] = rounded(prove(coupling))
        theirs = o3.wigner_3j(j, l, J, dtype=torch.float64).numpy()
        assert np.abs(dense - (2 * J + 1) ** 0.5 * theirs).max() < 1e-12


def _spoiled(coupling: IntegerCoupling, index: int, value: int) -> IntegerCoupling:
    values = coupling.values.copy()
    values[index] = value
    return replace(coupling, values=values)


@pytest.mark.parametrize(("j", "l", "J"), [(1, 1, 1), (4, 3, 5), (20, 18, 9)])
def test_the_proof_rejects_a_sign_a_value_and_a_missing_coefficient(j: int, l: int, J: int) -> None:
    coupling = integer_coupling(j, l, J)
    for index in range(0, len(coupling.values), max(1, len(coupling.values) // 20)):
        value = coupling.values[index]
        for wrong in (-value, value + 1, 2 * value, 0, value + (1 << 40), value + (1 << 200)):
            with pytest.raises(ProofError, match="is not equivariant"):
                prove(_spoiled(coupling, index, wrong))


def test_the_proof_rejects_another_length_and_an_exchanged_coupling() -> None:
    coupling = integer_coupling(3, 2, 4)
    with pytest.raises(ProofError, match="not normalised"):
        prove(replace(coupling, values=2 * coupling.values))
    other = integer_coupling(3, 2, 5)
    inside = np.abs(other.orders[:, 2]) <= 4
    with pytest.raises(ProofError):
        prove(IntegerCoupling(3, 2, 4, other.orders[inside], other.values[inside]))
    with pytest.raises(ProofError):
        ProvenInteger(coupling)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 40), st.integers(0, 40), st.data())
def test_rounding_is_exact(j: int, l: int, data: st.DataObject) -> None:
    J = data.draw(st.sampled_from(coupled_degrees(j, l)))
    coupling = integer_coupling(j, l, J)
    floats = rounded(prove(coupling))
    for index in data.draw(st.lists(st.integers(0, len(floats) - 1), max_size=30)):
        square = coupling.values[index] ** 2 * square_factor(j, l, J)
        for degree, order in zip((j, l, J), coupling.orders[index].tolist(), strict=True):
            square *= square_root_factor(degree, abs(order))
        assert floats[index] == float(SignedRoot(1 if coupling.values[index] > 0 else -1, square))


def test_factors_by_their_definition() -> None:
    assert square_root_factor(3, 2) == factorial(5) * factorial(1) / 2
    assert 12 * square_factor(1, 1, 0) == 1  # 3! 2!
