"""The solution of the kernel constraint for one pair of irreps, by Clebsch-Gordan decomposition.

vec(kappa) lives in D^j x D^l = sum of D^J, J = |j-l|..j+l; its component in D^J must turn like Y_J. So the solutions
are kappa^J[m, n] = sum_M C[m, n; J, M] Y_JM, one per J, times any function of |x|.
Source: Weiler et al. 2018, arXiv:1807.02547, section 3.3, equations 12 to 16.
"""

from __future__ import annotations

from basisgen.couplings.coupling import couple
from basisgen.so3.field_type import Irrep
from basisgen.volumes.kernels.basis import KernelBasis
from basisgen.volumes.kernels.constraint import allowed_degrees


def solve(out: Irrep, into: Irrep) -> KernelBasis:
    """The basis of all kernels from `into` to `out`, one coupling per allowed J; not yet proved."""
    couplings = (couple(out.degree, into.degree, J) for J in allowed_degrees(out, into))
    return KernelBasis(out, into, tuple(couplings))
