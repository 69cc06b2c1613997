"""Zonal convolutions of signals on the sphere: what every one of this package shares.

    out[o, l m] = sum over i of  H[l, o, i] * input[i, l m]
    H[l, o, i]  = sum over a of  table[l, a] * weight[i, a, o]

table[l, a] is linear interpolation between anchors on the degrees times 2 pi sqrt(4 pi / (2l+1)), the factor of a
convolution on the sphere with orthonormal harmonics; float64 in basis.safetensors. Degrees that the output
lacks are left out.

Weights begin as in Esteves et al. 2018, arXiv:1711.06721: normal, cut at two deviations of 1 / (pi sqrt(L * signals)),
which keeps the size of samples through a rectifier.
"""

import math
from typing import NamedTuple

from torch import Tensor, nn

from ._constants import At, tensors
from ._linear import EquivariantLinear, Irrep, _text


class Constants(NamedTuple):
    """What the weights are multiplied by."""

    table: Tensor  # (degree, anchor)


class ZonalConvolution(EquivariantLinear):
    """Signals (batch, channel in, *space) -> (batch, channel out, *space); any axes may follow.

    Every signal out is a sum of signals in, each convolved with a separate zonal filter. bias: one number for each
    signal out, at degree 0. Weights are (signal in, anchor, signal out).
    """

    basisgen_kind = "zonal"

    anchors: int
    basis_sha256: str
    table: str  # the name in it

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        return f"{super().words()}, {cls.anchors} anchors"

    def reset_parameters(self) -> None:
        """Draws weights as in the source and sets the bias to zero."""
        deviation = 1 / (math.pi * math.sqrt(len(self.out_type) * self.signals))
        nn.init.trunc_normal_(self.weight, 0.0, deviation, -2 * deviation, 2 * deviation)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def spectrum(self) -> Tensor:
        """H: what multiplies each degree, (degree, signal out, signal in)."""
        constants: Constants = self._constants("_make_constants", self.weight)
        # (degree, anchor) @ (signal in, anchor, signal out) -> (degree, signal out, signal in)
        return (constants.table.to(self.weight.dtype) @ self.weight).permute(1, 2, 0)

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return f"{_text(self.in_type)} -> {_text(self.out_type)}, anchors={self.anchors}, bias={self.bias is not None}"

    def _weight_shape(self) -> tuple[int, ...]:
        self.signals, self.signals_out = self.in_type[0][0], self.out_type[0][0]
        return self.signals, self.anchors, self.signals_out

    def _factors(self) -> dict[Irrep, list[tuple[str, Tensor]]]:
        """The matrix of every degree: (signal out, signal in)."""
        terms = zip(self.out_type, self.spectrum(), strict=True)
        return {(degree, parity): [("dense", matrix)] for (_, degree, parity), matrix in terms}

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        return Constants(at(tensors(cls.basis_sha256)[cls.table]))
