"""The exact proof that a kernel basis is right; the only maker of `ProvenBasis`.

    (1) harmonics    (X_a x) . grad Y_JM = sum_M' dD^J(X_a)[M, M'] Y_JM', identities of polynomials; Y_JM homogeneous
    (2) equivariant  every coupling is proved (`couplings.proof`); with (1) that is the constraint itself
    (3) parity       kappa(-x) = p_out p_in kappa(x), for O(3)
    (4) independent  the kernels' values at one point of the y axis have full rank over the rationals
    (5) complete     their number is the dimension of Hom over the stabiliser of an axis

No floating point. This module does not know how the basis was found: it never imports the solver.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import InitVar, dataclass
from functools import cache

from sympy import QQ

from basisgen.algebra.linear import rank
from basisgen.algebra.polynomials import RING, integer_terms, rotate
from basisgen.couplings.coupling import rational_coefficients
from basisgen.couplings.proof import ProvenCoupling, prove_coupling
from basisgen.errors import ProofError
from basisgen.so3.field_type import Irrep
from basisgen.so3.generators import rational_generator
from basisgen.so3.harmonics import harmonics
from basisgen.volumes.kernels.basis import KernelBasis
from basisgen.volumes.kernels.constraint import has_right_parity, number_of_solutions

_SEAL = object()


@dataclass(frozen=True)
class ProvenBasis:
    """A kernel basis that has passed the exact proof. Only `prove` makes one; sampling takes nothing else."""

    out: Irrep
    into: Irrep
    couplings: tuple[ProvenCoupling, ...]
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise ProofError("a ProvenBasis is made by basisgen.volumes.kernels.proof.prove and by nothing else")

    @property
    def degrees(self) -> tuple[int, ...]:
        """The harmonic degrees J of the kernels, increasing."""
        return tuple(sorted(proven.coupling.J for proven in self.couplings))


def prove(basis: KernelBasis) -> ProvenBasis:
    """Proves a basis equivariant, independent and complete, exactly.

    Raises ProofError naming the pair, the coupling and the first violation.
    """
    pair = f"basis {basis.out} <- {basis.into}"
    proven = []
    for coupling in basis.couplings:
        _check_harmonics(coupling.J)
        proven.append(prove_coupling(coupling))
        if not has_right_parity(basis.out, basis.into, coupling.J):
            raise ProofError(f"{pair}, J = {coupling.J} has the wrong parity under inversion")
    _check_independent(pair, basis)
    expected = number_of_solutions(basis.out, basis.into)
    if len(proven) != expected:
        raise ProofError(f"{pair} is not complete: {len(proven)} kernels, the solutions have dimension {expected}")
    return ProvenBasis(basis.out, basis.into, tuple(proven), _SEAL)


@cache
def _check_harmonics(J: int) -> None:
    """(1): each harmonic is homogeneous of degree J and turns by dD^J; their number 2J+1 and rank make them a basis."""
    solid = {harmonic.order: harmonic for harmonic in harmonics(J)}
    for M, harmonic in solid.items():
        if any(sum(exponents) != J for exponents in harmonic.polynomial.monoms()):
            raise ProofError(f"harmonic ({J}, {M}) is not homogeneous of degree {J}")
        for axis in range(3):
            turned = RING.zero
            for (row, column), element in rational_generator(J, axis).items():
                if row == M:
                    turned += solid[column].polynomial * QQ(element.numerator, element.denominator)
            if rotate(harmonic.polynomial, axis) != turned:
                raise ProofError(f"harmonic ({J}, {M}) does not turn by dD^{J} about axis {'xyz'[axis]}")
    terms = [integer_terms(harmonic.polynomial) for harmonic in solid.values()]
    monomials = sorted({monomial for polynomial in terms for monomial in polynomial})
    rows = [[polynomial.get(monomial, 0) for monomial in monomials] for polynomial in terms]
    if sorted(solid) != list(range(-J, J + 1)) or rank(rows) != 2 * J + 1:
        raise ProofError(f"the harmonics of degree {J} are not a basis")


def _check_independent(pair: str, basis: KernelBasis) -> None:
    """(4): values at (0, 1, 0) in the rational basis, one row per kernel; scaling a row does not change the rank."""
    rows = []
    for coupling in basis.couplings:
        rational = rational_coefficients(coupling)
        assert rational is not None, "checked by prove_coupling"
        at_axis = [int(harmonic.polynomial(0, 1, 0)) for harmonic in harmonics(coupling.J)]
        row: dict[tuple[int, int], int] = defaultdict(int)
        for (m, n, M), value in rational.items():
            row[m, n] += value * at_axis[M + coupling.J]
        rows.append(row)
    entries = sorted({entry for row in rows for entry in row})
    if rank([[row.get(entry, 0) for entry in entries] for row in rows]) != len(rows):
        raise ProofError(f"{pair}: its {len(rows)} kernels are linearly dependent")
