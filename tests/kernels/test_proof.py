"""The proof accepts every solution with j, l <= 6, and refuses every kind of wrong one."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from basisgen.couplings.coupling import Coupling, couple
from basisgen.errors import ProofError
from basisgen.so3.field_type import Irrep
from basisgen.volumes.kernels.basis import KernelBasis
from basisgen.volumes.kernels.proof import ProvenBasis, prove
from basisgen.volumes.kernels.solver import solve
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.sample import sample
from basisgen.volumes.sampling.shells import Shells

PAIRS = [(Irrep(j), Irrep(l)) for j in range(7) for l in range(7)]
PARITIES = [(Irrep(j, p), Irrep(l, q)) for j in range(7) for l in range(7) for p in (1, -1) for q in (1, -1)]
CONTROLS = [(Irrep(1), Irrep(1)), (Irrep(2), Irrep(1)), (Irrep(3), Irrep(2)), (Irrep(1, -1), Irrep(2, 1))]


@pytest.mark.parametrize(("out", "into"), PAIRS, ids=str)
def test_every_solution_is_proved(out: Irrep, into: Irrep) -> None:
    assert len(prove(solve(out, into)).degrees) == 2 * min(out.degree, into.degree) + 1


def test_every_solution_with_parity_is_proved() -> None:
    for out, into in PARITIES:
        natural = out.parity * into.parity == (-1) ** (out.degree + into.degree)
        assert len(prove(solve(out, into)).degrees) == min(out.degree, into.degree) + natural


def _flip_one_sign(coupling: Coupling, index: int) -> Coupling:
    coefficients = dict(coupling.coefficients)
    key = list(coefficients)[index % len(coefficients)]
    coefficients[key] = -coefficients[key]
    return replace(coupling, coefficients=MappingProxyType(coefficients))


@pytest.mark.parametrize(("out", "into"), CONTROLS, ids=str)
@pytest.mark.parametrize("index", [0, 1, 5])
def test_a_flipped_sign_is_rejected(out: Irrep, into: Irrep, index: int) -> None:
    basis = solve(out, into)
    for position, coupling in enumerate(basis.couplings):
        if len(coupling.coefficients) > 1:  # one coefficient alone: a sign is only a scale
            wrong = list(basis.couplings)
            wrong[position] = _flip_one_sign(coupling, index)
            with pytest.raises(ProofError, match=rf"{coupling.J}\) is not equivariant"):
                prove(replace(basis, couplings=tuple(wrong)))


@pytest.mark.parametrize(("out", "into"), CONTROLS, ids=str)
def test_a_missing_coupling_is_rejected(out: Irrep, into: Irrep) -> None:
    basis = solve(out, into)
    with pytest.raises(ProofError, match="not complete"):
        prove(replace(basis, couplings=basis.couplings[1:]))


@pytest.mark.parametrize(("out", "into"), CONTROLS, ids=str)
def test_a_doubled_coupling_is_rejected(out: Irrep, into: Irrep) -> None:
    basis = solve(out, into)
    with pytest.raises(ProofError, match="linearly dependent"):
        prove(replace(basis, couplings=(*basis.couplings, basis.couplings[0])))
    if len(basis.couplings) > 1:  # at the right number, too
        with pytest.raises(ProofError, match="linearly dependent"):
            prove(replace(basis, couplings=(*basis.couplings[1:], basis.couplings[-1])))


@pytest.mark.parametrize(("out", "into"), CONTROLS, ids=str)
def test_an_extra_coupling_that_is_not_equivariant_is_rejected(out: Irrep, into: Irrep) -> None:
    basis = solve(out, into)
    coupling = basis.couplings[0]
    index = (out.degree, into.degree, 0)
    coefficients = {index: next(iter(coupling.coefficients.values()))}
    stranger = Coupling(*coupling.degrees, MappingProxyType(coefficients))
    with pytest.raises(ProofError, match="not equivariant"):
        prove(replace(basis, couplings=(*basis.couplings, stranger)))


def test_a_coupling_of_the_wrong_parity_is_rejected() -> None:
    out, into = Irrep(1, -1), Irrep(1, -1)
    right = solve(out, into)
    wrong = KernelBasis(out, into, (*right.couplings, couple(1, 1, 1)))
    with pytest.raises(ProofError, match="wrong parity"):
        prove(wrong)


def test_a_wrong_scale_is_rejected() -> None:
    basis = solve(Irrep(1), Irrep(1))
    coupling = basis.couplings[1]
    doubled = {key: value * value * value for key, value in coupling.coefficients.items()}
    with pytest.raises(ProofError, match="not normalised"):
        prove(
            replace(
                basis,
                couplings=(
                    basis.couplings[0],
                    replace(coupling, coefficients=MappingProxyType(doubled)),
                    basis.couplings[2],
                ),
            )
        )


def test_only_the_proof_makes_a_proven_basis() -> None:
    with pytest.raises(ProofError, match="made by"):
        ProvenBasis(Irrep(0), Irrep(0), ())
    with pytest.raises(ProofError, match="made by"):
        replace(prove(solve(Irrep(1), Irrep(1))))


def test_sampling_takes_nothing_else() -> None:
    with pytest.raises(AttributeError):
        sample([solve(Irrep(1), Irrep(1))], Shells(), VoxelGrid((3, 3, 3)))  # type: ignore[list-item]
