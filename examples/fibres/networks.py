"""Three ways from a noisy density to an orientation at every voxel: (batch, 1, x, y, z) -> 2e (batch, 5, x, y, z)."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

import runtime
from examples.fibres.volumes import harmonic_matrices


def steerable(package: ModuleType) -> nn.Module:
    """Gated blocks of a package's convolutions; the last has no gate and gives 1x2e."""
    *hidden, last = (getattr(package, name) for name in package.__all__)
    blocks = [
        runtime.GatedBlock(conv(), activation=lambda terms: runtime.Gate(terms, activation=nn.functional.silu))
        for conv in hidden
    ]
    return nn.Sequential(*blocks, last())


def conventional(widths: Sequence[int], kernel_size: int) -> nn.Module:
    """Plain convolutions with batch norm and SiLU; the last gives 5 channels."""
    layers: list[nn.Module] = []
    channels = 1
    for width in widths:
        conv = nn.Conv3d(channels, width, kernel_size, padding="same", bias=False)
        layers += [conv, nn.BatchNorm3d(width), nn.SiLU()]
        channels = width
    return nn.Sequential(*layers, nn.Conv3d(channels, 5, kernel_size, padding="same"))


class StructureTensor(nn.Module):
    """The classical estimate, without learning: along a fibre the density changes least.

        S = blur_outer( grad(blur_inner(density)) grad(blur_inner(density))^T ),    output_m = -<A_m, S>

    so that the output's direction is the eigenvector of S with the smallest eigenvalue. inner, outer: widths of the
    Gaussians in voxels. Source: Foerstner and Guelch, 1987; Bigun and Granlund, 1987.
    """

    def __init__(self, inner: float, outer: float) -> None:
        super().__init__()
        self.inner, self.outer = _blur(1, inner), _blur(9, outer)
        self.register_buffer("widths", torch.tensor([inner, outer]))

    def forward(self, volumes: Tensor) -> Tensor:
        """(batch, 1, x, y, z) -> (batch, 5, x, y, z)."""
        slopes = runtime.gradient(self.inner(volumes))  # (batch, 3, x, y, z)
        products = (slopes[:, :, None] * slopes[:, None]).flatten(1, 2)
        tensors = torch.unflatten(self.outer(products), 1, (3, 3))
        return -torch.einsum("mij,bij...->bm...", harmonic_matrices().to(tensors), tensors)


def _blur(multiplicity: int, sigma: float) -> nn.Module:
    """A Gaussian of `sigma` voxels: that of a low-pass whose scale has 2 sigma = sqrt(scale^2 - 1)."""
    kernel_size = 2 * round(3 * sigma) + 1
    return runtime.LowPass(f"{multiplicity}x0e", 1, scale=(1 + 4 * sigma**2) ** 0.5, kernel_size=kernel_size)
