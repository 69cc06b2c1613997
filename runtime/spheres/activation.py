"""Pointwise functions of signals, on samples of the sphere or of the rotation group.

    f -> analysis(function(synthesis(f)))

Equivariant up to what the function puts above the grid's band limit, which is aliased: oversample, and the error falls
(`basisgen.spheres.activation_error` predicts it; ReLU on white signals: 0.3 on the smallest grid, 0.027 at twice the
band limit, 0.004 at four times). Source: Cohen et al. 2018, arXiv:1801.10130; Esteves et al. 2018, arXiv:1711.06721.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.constants import constant
from runtime.fields import FieldType, as_field_type, channel_count, split_terms, voxels_last
from runtime.layer import FieldLayer
from runtime.so3 import wigner_d

Function = Callable[[Tensor], Tensor]


class SphereActivation(FieldLayer):
    """A pointwise function of signals on the sphere, computed on samples.

    transform: a generated one, with `field_type`, `synthesis` and `analysis`; its band limit is the grid's. limit: band
    limit of the input, at most the grid's; a grid of twice that is twofold oversampling. out_limit: of the output, that
    of the input unless given. function: any pointwise one, or a module with weights (PReLU).

    On the fields of a volume it acts at every voxel: `8x0 + 8x1 + 8x2 + 8x3` are 8 functions on the sphere there. Turns
    of the cube map voxels to voxels, yet commute with it only as well as other rotations do. With `cube` they commute
    exactly: the mean over the three cyclic permutations of the axes, on a grid that quarter turns about its pole and
    half turns across it leave as it is (`driscoll_healy` or `equiangular` of an even band limit). It takes three times
    the time, and the error under other rotations falls too.

    Raises ValueError if a limit is beyond the grid's, if it is not a transform, or if its grid does not suit `cube`.
    """

    def __init__(
        self,
        transform: nn.Module,
        function: Function | nn.Module = F.relu,
        *,
        limit: int | None = None,
        out_limit: int | None = None,
        cube: bool = False,
    ) -> None:
        grid = _grid_type(transform)
        largest = max(term.degree for term in grid) + 1
        limit = largest if limit is None else limit
        out_limit = limit if out_limit is None else out_limit
        for value in (limit, out_limit):
            if not 1 <= value <= largest:
                raise ValueError(
                    f"{type(self).__name__} has a grid of band limit {largest}, which does not carry a limit of "
                    f"{value}. Compile a transform of a larger field, or take 1 to {largest}."
                )
        super().__init__(_below(limit, grid), _below(out_limit, grid))
        self.transform, self.function = transform, function
        self._missing = channel_count(grid) - self.in_channels
        self.cube = cube
        if cube:
            _check_turns(transform)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        if not self.cube:
            return self._once(fields)
        once = self._once(fields)
        for shift in (1, 2):
            turned = self._once(_permute_axes(fields, self.in_type, shift))
            once = once + _permute_axes(turned, self.out_type, 3 - shift)
        return once / 3

    def _once(self, fields: Tensor) -> Tensor:
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        voxels = flat.shape[2]
        # (batch, channel, voxel) -> (batch and voxel, channel)
        signals = flat.transpose(1, 2).reshape(batch * voxels, self.in_channels)
        transform: Any = self.transform
        samples = self.function(transform.synthesis(F.pad(signals, (0, self._missing))))
        kept: Tensor = transform.analysis(samples)[:, : self.out_channels]  # lower degrees come first
        # (batch and voxel, channel) -> (batch, channel, *space)
        return kept.reshape(batch, voxels, self.out_channels).transpose(1, 2).reshape(batch, self.out_channels, *space)


class RotationActivation(SphereActivation):
    """A pointwise function of signals on the rotation group: 2 l + 1 fragments of each degree l for every signal.

    As `SphereActivation`, with the transform of a grid of rotations.
    """


def _grid_type(transform: nn.Module) -> FieldType:
    if not all(hasattr(transform, name) for name in ("field_type", "synthesis", "analysis")):
        raise ValueError(
            f"{type(transform).__name__} is not a transform: it has no field_type, synthesis and analysis. "
            'Compile one, a layer of kind = "transform".'
        )
    given: Any = transform.field_type
    return as_field_type(given)


def _check_turns(transform: Any) -> None:
    """Raise ValueError unless quarter turns about the pole and half turns across it map the grid to itself."""
    heights = transform.directions()[:, 0, 1]
    if transform.points % 4 or not torch.allclose(heights, -heights.flip(0), rtol=0, atol=1e-9):
        raise ValueError(
            f"a grid of {transform.points} points on each of {len(heights)} rings is not the same after quarter "
            "and half turns: for cube=True compile one of grid driscoll_healy or equiangular, of even band limit."
        )


def _permute_axes(fields: Tensor, field_type: FieldType, shift: int) -> Tensor:
    """Signals turned by a cyclic permutation of the axes, (x, y, z) -> (z, x, y) for a shift of 1."""
    parts = []
    for term, part in zip(field_type, split_terms(fields, field_type), strict=True):
        matrix = constant(_permutation, term.degree, shift, dtype=fields.dtype, device=fields.device)
        # (batch, copy, component, voxel)
        copies = part.reshape(part.shape[0], term.multiplicity, term.dimension, math.prod(part.shape[2:]))
        parts.append((matrix @ copies).reshape(part.shape))  # (component, component) @ (batch, copy, component, voxel)
    return torch.cat(parts, 1)


def _permutation(degree: int, shift: int) -> Tensor:
    return wigner_d(degree, torch.eye(3, dtype=torch.float64).roll(shift, 0))


def _below(limit: int, field_type: FieldType) -> FieldType:
    return tuple(term for term in field_type if term.degree < limit)
