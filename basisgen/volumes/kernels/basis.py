"""The basis of one pair of irreps, as frozen data: what the solver claims, before and apart from its proof.

kappa^J(x)[m, n] = sum_M C[j m, l n; J M] Y_JM(x),      one coupling per allowed J
"""

from __future__ import annotations

from dataclasses import dataclass

from basisgen.couplings.coupling import Coupling
from basisgen.so3.field_type import Irrep


@dataclass(frozen=True)
class KernelBasis:
    """The couplings of all kernels from irrep `into` (l, columns) to irrep `out` (j, rows); perhaps none."""

    out: Irrep
    into: Irrep
    couplings: tuple[Coupling, ...]

    def __post_init__(self) -> None:
        assert (self.out.parity is None) == (self.into.parity is None), "a pair is of one group"
        assert all((c.j, c.l) == (self.out.degree, self.into.degree) for c in self.couplings)
