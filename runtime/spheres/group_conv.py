"""Correlation of signals with learned filters, over all rotations: Cohen et al. 2018.

    sphere -> rotations       z^l_mn = sum_i x^l_m(i) psi^l_n(i),          psi^l_n = sum_g k(g) Y_ln(g)
    rotations -> rotations    z^l_mn = sum_i sum_k x^l_mk(i) psi^l_nk(i),  psi^l_nk = sum_g k(g) D^l_nk(g)

The filter is a value k at each point of a small grid, near the identity or around the equator. A rotation mixes m,
which both leave alone, so they are exact. Source: arXiv:1801.10130, section 4; grids of the public code jonkhler/s2cnn.
"""

import math

import torch
from torch import Tensor, nn

from runtime.constants import constant
from runtime.fields import FieldType, split_terms, voxels_last
from runtime.layer import FieldLayer
from runtime.so3 import wigner_d
from runtime.spheres.rotation_transform import rotation_of, rotation_type
from runtime.spheres.signals import harmonics, signal_type

Angles = tuple[tuple[float, float, float], ...]  # (alpha, beta, gamma)


def near_identity(
    alphas: int = 8, betas: int = 3, gammas: int = 8, *, max_beta: float = math.pi / 8, max_gamma: float = 2 * math.pi
) -> Angles:
    """Rotations near the identity: colatitudes up to max_beta, all around; gamma is counted from -alpha.

    gammas: 1 for a filter on the sphere, which has none.
    """
    angles = []
    for b in range(1, betas + 1):
        for a in range(alphas):
            alpha = 2 * math.pi * a / alphas
            for c in range(gammas):
                gamma = -max_gamma + 2 * max_gamma * c / (gammas - 1) if gammas > 1 else 0.0
                angles.append((alpha, max_beta * b / betas, gamma - alpha))
    return tuple(angles)


def equatorial(alphas: int) -> Angles:
    """Rotations that take the pole around the equator."""
    return tuple((2 * math.pi * a / alphas, math.pi / 2, 0.0) for a in range(alphas))


class _GroupConv(FieldLayer):
    """Mixing of fragments and channels of each degree by psi; see the subclasses."""

    def __init__(self, in_type: FieldType, out_channels: int, limit: int, grid: Angles, channels: int) -> None:
        super().__init__(in_type, rotation_type(out_channels, limit))
        if not grid or limit > max(term.degree for term in self.in_type) + 1:
            raise ValueError(
                f"{type(self).__name__} takes a grid of some rotations and a limit of at most the input's, got "
                f"{len(grid)} rotations and {limit}."
            )
        self.limit, self.grid, self.signals = limit, grid, (channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(channels, out_channels, len(grid)).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.scale = self._scale(channels)

    def _scale(self, channels: int) -> float:
        raise NotImplementedError

    def _matrix(self, degree: int, like: Tensor) -> Tensor:
        """psi^l: (copy out, copy in), copies as fragments of all channels."""
        raise NotImplementedError

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        self.check_dtype(fields, self.kernel)
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        parts = []
        pairs = zip(self.in_type, self.out_type, split_terms(flat, self.in_type), strict=False)
        for term, out, part in pairs:
            # (copy out, copy in) @ (batch, copy in, component and voxel)
            matrix = self.scale * self._matrix(term.degree, self.kernel)
            mixed = matrix @ part.reshape(batch, term.multiplicity, term.dimension * flat.shape[2])
            if term.degree == 0:
                mixed = mixed + self.bias[:, None].to(mixed.dtype)
            parts.append(mixed.reshape(batch, out.channels, *space))  # (batch, channel out, *space)
        return torch.cat(parts, 1)


class SphereConv(_GroupConv):
    """Correlation of signals on the sphere with filters on it: signals on the rotation group.

    channels, in_limit: of the input `signal_type(channels, in_limit)`. out_channels, limit: of the output, 2 l + 1
    fragments of each degree. grid: of rotations, whose alpha and beta are the filter's points.

    State: kernel (channel in, channel out, point), bias (channel out), the latter added everywhere.
    Raises ValueError if the output's limit is above the input's.
    """

    def __init__(self, channels: int, out_channels: int, in_limit: int, limit: int, *, grid: Angles) -> None:
        super().__init__(signal_type(channels, in_limit), out_channels, limit, grid, channels)

    def _scale(self, channels: int) -> float:
        return math.sqrt(12 * math.pi / (len(self.grid) * channels))  # outputs of unit variance for such inputs

    def _matrix(self, degree: int, like: Tensor) -> Tensor:
        table = constant(_harmonics_at, degree, self.grid, dtype=like.dtype, device=like.device)  # (n, point)
        return torch.einsum("ng,iog->noi", table, self.kernel).flatten(0, 1)  # (n and channel out, channel in)


class RotationConv(_GroupConv):
    """Correlation of signals on the rotation group with filters on it.

    channels, in_limit: of the input `rotation_type(channels, in_limit)`. Else as `SphereConv`.
    """

    def __init__(self, channels: int, out_channels: int, in_limit: int, limit: int, *, grid: Angles) -> None:
        super().__init__(rotation_type(channels, in_limit), out_channels, limit, grid, channels)

    def _scale(self, channels: int) -> float:
        return math.sqrt(3 / (len(self.grid) * channels))

    def _matrix(self, degree: int, like: Tensor) -> Tensor:
        table = constant(_wigner_at, degree, self.grid, dtype=like.dtype, device=like.device)  # (n, k, rotation)
        # (n and channel out, k and channel in)
        return torch.einsum("nkg,iog->noki", table, self.kernel).flatten(2, 3).flatten(0, 1)


def _rotations(grid: Angles) -> Tensor:
    alpha, beta, gamma = torch.tensor(grid, dtype=torch.float64).unbind(1)
    return rotation_of(alpha, beta, gamma)


def _harmonics_at(degree: int, grid: Angles) -> Tensor:
    points = _rotations(grid)[:, :, 1]  # where the pole y goes
    return harmonics(degree + 1, points)[:, degree**2 :].mT.contiguous()  # (point, coefficient) -> (n, point)


def _wigner_at(degree: int, grid: Angles) -> Tensor:
    return wigner_d(degree, _rotations(grid)).permute(1, 2, 0).contiguous()  # (rotation, n, k) -> (n, k, rotation)
