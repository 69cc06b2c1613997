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

import torch
from torch import Tensor, nn

from ._constants import At, tensors
from ._layer import GeneratedLayer

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term


class Constants(NamedTuple):
    """What the weights are multiplied by."""

    table: Tensor  # (degree, anchor)


class ZonalConvolution(GeneratedLayer):
    """Signals (batch, channel in, *space) -> (batch, channel out, *space); any axes may follow.

    Every signal out is a sum of signals in, each convolved with a separate zonal filter. bias: one number for each
    signal out, at degree 0.
    """

    basisgen_kind = "zonal"

    in_type: FieldType
    out_type: FieldType
    anchors: int
    table: str  # its name in basis.safetensors

    def __init__(
        self, bias: bool = True, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = _size(self.in_type), _size(self.out_type)
        self.signals, self.signals_out = self.in_type[0][0], self.out_type[0][0]
        # (signal in, anchor, signal out)
        self.weight = nn.Parameter(
            torch.empty(self.signals, self.anchors, self.signals_out, device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(self.weight.new_empty(self.signals_out)) if bias else None
        self.reset_parameters()

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        return f"{_text(cls.in_type)} -> {_text(cls.out_type)}, {cls.anchors} anchors"

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

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of (batch, channel in, *space)."""
        self._check(input)
        batch, space = input.shape[0], input.shape[2:]
        sites = math.prod(space)
        sizes = [self.signals * (2 * degree + 1) for _, degree, _ in self.in_type]
        parts = []
        for degree, (matrix, part) in enumerate(zip(self.spectrum(), input.split_with_sizes(sizes, 1), strict=False)):
            # (signal out, signal in) @ (batch, signal in, component and site)
            mixed = matrix @ part.reshape(batch, self.signals, (2 * degree + 1) * sites)
            if degree == 0 and self.bias is not None:
                mixed = mixed + self.bias[:, None].to(mixed.dtype)
            # (batch, signal out, component and site) -> (batch, channel, site)
            parts.append(mixed.reshape(batch, self.signals_out * (2 * degree + 1), sites))
        return torch.cat(parts, 1).reshape(batch, self.out_channels, *space)

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return f"{_text(self.in_type)} -> {_text(self.out_type)}, anchors={self.anchors}, bias={self.bias is not None}"

    def _check(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes a field (batch, {self.in_channels}, ...), got {tuple(input.shape)}"
            )
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(self.weight.device.type):
            raise ValueError(
                f"{type(self).__name__} has weights of {self.weight.dtype}, got a field of {input.dtype}. "
                "Convert one of them with .to(dtype)."
            )

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        return Constants(at(tensors(cls.basis_sha256)[cls.table]))


def _size(field_type: FieldType) -> int:
    return sum(multiplicity * (2 * degree + 1) for multiplicity, degree, _ in field_type)


def _text(field_type: FieldType) -> str:
    letters = {1: "e", -1: "o", None: ""}
    return " + ".join(f"{multiplicity}x{degree}{letters[parity]}" for multiplicity, degree, parity in field_type)
