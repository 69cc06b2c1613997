"""An equivariant convolution made with e3nn alone: the oracle that stands in for generated modules."""

import math
from itertools import product

import torch
from e3nn import o3
from torch import Tensor, nn

from runtime.fields import as_field_type, channel_count, has_parity


class OracleConv(nn.Module):
    """kappa(x) = sum_b,J w[b,J] phi_b(|x|) C^J Y_J(x), from e3nn's Clebsch-Gordan coefficients and harmonics.

    It has the interface of a generated convolution: in_type, out_type, kernel_size, kernel(), to_conv3d().
    """

    def __init__(self, in_type, out_type, kernel_size=3, *, stride=1, padding="same", bias=True):
        super().__init__()
        self.in_type, self.out_type = as_field_type(in_type), as_field_type(out_type)
        self.kernel_size = (kernel_size,) * 3
        self.stride, self.padding = stride, (kernel_size // 2 if padding == "same" else padding)
        self.weights, self.blocks = nn.ParameterList(), []
        for (i, out), (k, into) in product(enumerate(self.out_type), enumerate(self.in_type)):
            basis = self._basis(out, into, kernel_size)
            if len(basis):
                self.weights.append(nn.Parameter(torch.randn(len(basis), out.multiplicity, into.multiplicity)))
                self.blocks.append((i, k, basis))
        scalars = sum(term.multiplicity for term in self.out_type if term.is_even_scalar)
        self.bias = nn.Parameter(0.1 * torch.randn(scalars)) if bias else None

    def _basis(self, out, into, size):
        """(element, out component, in component, x, y, z), with unit norm over all but the first axis."""
        axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)
        radius = points.norm(dim=-1)
        elements = []
        for J in range(abs(out.degree - into.degree), out.degree + into.degree + 1):
            if has_parity(self.in_type) and out.parity * into.parity != (-1) ** J:
                continue
            Y = o3.spherical_harmonics(J, points, normalize=True, normalization="component")
            Y[radius == 0] = float(J == 0)
            C = o3.wigner_3j(out.degree, into.degree, J, dtype=torch.float64)
            for shell in range(J > 0, size // 2 + 1):
                phi = torch.exp(-((radius - shell) ** 2) / (2 * 0.6**2))
                element = torch.einsum("mnM,xyzM,xyz->mnxyz", C, Y, phi)
                elements.append(element / element.norm())
        return torch.stack(elements) if elements else torch.zeros(0)

    def kernel(self) -> Tensor:
        blocks = {
            (i, k): torch.einsum("eoi,emnxyz->ominxyz", weight, basis.to(weight))
            for (i, k, basis), weight in zip(self.blocks, self.weights.parameters(), strict=True)
        }
        rows = []
        for i, out in enumerate(self.out_type):
            row = [
                blocks[i, k].reshape(out.channels, into.channels, *self.kernel_size)
                if (i, k) in blocks
                else next(iter(blocks.values())).new_zeros(out.channels, into.channels, *self.kernel_size)
                for k, into in enumerate(self.in_type)
            ]
            rows.append(torch.cat(row, 1))
        return torch.cat(rows) / math.sqrt(channel_count(self.in_type))

    def channel_bias(self):
        if self.bias is None:
            return None
        used, pieces = 0, []
        for term in self.out_type:
            if term.is_even_scalar:
                pieces.append(self.bias[used : used + term.multiplicity])
                used += term.multiplicity
            else:
                pieces.append(self.bias.new_zeros(term.channels))
        return torch.cat(pieces)

    def forward(self, fields: Tensor) -> Tensor:
        return nn.functional.conv3d(fields, self.kernel(), self.channel_bias(), self.stride, self.padding)

    def to_conv3d(self) -> nn.Conv3d:
        conv = nn.Conv3d(
            channel_count(self.in_type),
            channel_count(self.out_type),
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            bias=self.bias is not None,
            dtype=self.weights[0].dtype,
        )
        with torch.no_grad():
            conv.weight.copy_(self.kernel())
            if self.bias is not None:
                conv.bias.copy_(self.channel_bias())
        return conv
