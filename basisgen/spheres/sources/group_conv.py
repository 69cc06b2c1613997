"""Correlation with learned filters over all rotations: what every such layer of this package shares.

    sphere -> rotations       z^l_mn = sum over i of x^l_m(i) psi^l_n(i),     psi^l_n  = sum over g of k(g) Y_ln(g)
    rotations -> rotations    z^l_mn = sum over i, k of x^l_mk(i) psi^l_nk(i),   psi^l_nk = sum over g of k(g) D^l_nk(g)

z(R) is the sum of k(g) x~(R g) over the points g of the filter, x~ the signal with degree l times sqrt(2l+1) (on the
sphere). A rotation of x mixes m, which psi leaves alone. By Schur's lemma every equivariant linear map between these
fields has such matrices psi; those of a filter on few points are a part of them. Harmonics Y and D^l at the points are
float64 in basis.safetensors.
Source: Cohen et al. 2018, arXiv:1801.10130, section 4.
"""

import functools
import math
from typing import NamedTuple

from torch import Tensor, nn

from ._constants import At, tensors
from ._linear import EquivariantLinear, Irrep


class Constants(NamedTuple):
    """What turns a filter into matrices."""

    values: Tensor  # (degree and n, or degree and n and k; point)


class GroupConv(EquivariantLinear):
    """Correlation: (batch, channel, *space) -> (batch, channel out, *space); any axes may follow.

    Channels out are signals on the rotation group: fragments n of each degree, of each all signals. Weights are values
    of the filters, (signal in, signal out, point), drawn evenly from -1 .. 1 and scaled so that outputs have unit
    variance for such inputs; the bias of a signal is added everywhere.
    """

    points: int  # of a filter
    basis_sha256: str
    table: str  # the name in it

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        return f"{super().words()}; filters of {cls.points} points"

    def reset_parameters(self) -> None:
        """Draws weights evenly from -1 .. 1 and sets the bias to zero."""
        nn.init.uniform_(self.weight, -1, 1)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return f"{super().extra_repr()}, {self.points} points"

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_type[0][0], self.out_type[0][0], self.points)

    def _norm(self) -> float:
        """The variance of a sum over points and signals in, for weights and inputs of unit variance, of one point."""
        raise NotImplementedError

    def _factors(self) -> dict[Irrep, list[tuple[str, Tensor]]]:
        """The matrix of every degree: (n and signal out, k and signal in)."""
        of: Constants = self._constants("_make_constants", self.weight)
        into, out, points = self.weight.shape
        # (degree and n and k, point) @ (point, signal in and out)
        psi = of.values @ self.weight.to(of.values.dtype).reshape(into * out, points).t()
        psi = (psi * (3 / (points * into * self._norm())) ** 0.5).to(self.weight.dtype)
        found: dict[Irrep, list[tuple[str, Tensor]]] = {}
        first = 0
        for (before, degree, _), (after, _, _) in zip(self.in_type, self.out_type, strict=False):
            n, k = after // out, before // into
            # (n, k, signal in, signal out) -> (n and signal out, k and signal in)
            part = psi[first : first + n * k].reshape(n, k, into, out)
            first += n * k
            matrix = part.permute(0, 3, 1, 2).reshape(after, before)
            found[degree, None] = [("dense", matrix)]
        return found

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        return Constants(*map(at, cls._exact()))

    @classmethod
    @functools.cache
    def _exact(cls) -> Constants:
        """The tables, float64 on the CPU; made once, never changed."""
        return Constants(tensors(cls.basis_sha256)[f"{cls.table}_values"])


class SphereConv(GroupConv):
    """Correlation of signals on the sphere with filters on it: signals on the rotation group."""

    basisgen_kind = "sphere_conv"

    def _norm(self) -> float:
        return 1 / (4 * math.pi)  # the mean of Y_ln^2


class RotationConv(GroupConv):
    """Correlation of signals on the rotation group with filters on it."""

    basisgen_kind = "rotation_conv"

    def _norm(self) -> float:
        return 1.0  # the sum over k of D^l_nk squared
