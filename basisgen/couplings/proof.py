"""The exact proof of one coupling; the only maker of `ProvenCoupling`.

    (0) orthonormal  sum_mn C[m,n;J,M] C[m,n;J,M'] = delta, the normalisation everything downstream relies on
    (1) equivariant  the intertwiner identity (1'') of `law`, for the turns about x, y and z

No floating point. This module does not know how the coupling was found.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import InitVar, dataclass

from basisgen.algebra.roots import SignedRoot
from basisgen.couplings.coupling import Coupling, rational_coefficients
from basisgen.couplings.law import violations
from basisgen.errors import ProofError

_SEAL = object()


@dataclass(frozen=True)
class ProvenCoupling:
    """A coupling that has passed the exact proof. Only `prove_coupling` makes one."""

    coupling: Coupling
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise ProofError("a ProvenCoupling is made by basisgen.couplings.proof.prove_coupling and by nothing else")


def prove_coupling(coupling: Coupling) -> ProvenCoupling:
    """Proves a coupling equivariant and orthonormal, exactly.

    Raises ProofError that names the coupling and the first violation.
    """
    _check_equivariant(coupling)
    _check_normalised(coupling)
    return ProvenCoupling(coupling, _SEAL)


def _check_equivariant(coupling: Coupling) -> None:
    """(1)."""
    rational = rational_coefficients(coupling)
    if rational is None:
        raise ProofError(f"{coupling}: coefficients with an irrational ratio in the rational basis")
    found = violations(rational, *coupling.degrees)
    if found:
        axis, m, n, M = found[0]
        raise ProofError(
            f"{coupling} is not equivariant: {len(found)} of the identities fail, "
            f"the first for the turn about {'xyz'[axis]} at (m, n, M) = ({m}, {n}, {M})"
        )


def _check_normalised(coupling: Coupling) -> None:
    """(0): each column M has length 1; that columns are orthogonal follows from (1) by Schur's lemma."""
    columns: dict[int, dict[tuple[int, int], SignedRoot]] = defaultdict(dict)
    for (m, n, M), value in coupling.coefficients.items():
        columns[M][m, n] = value
    for M, column in columns.items():
        if sum(value.square for value in column.values()) != 1:
            raise ProofError(f"{coupling}: column M = {M} of C is not normalised")
    if len(columns) != 2 * coupling.J + 1:
        raise ProofError(f"{coupling}: {len(columns)} of {2 * coupling.J + 1} columns of C")
