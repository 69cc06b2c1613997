"""Pointwise functions of signals, on samples of the sphere or of the rotation group.

    f -> analysis(function(synthesis(f)))

Equivariant up to what the function puts above the grid's band limit, which is aliased: oversample, and the error falls
(`basisgen.spheres.activation_error` predicts it; ReLU on white signals: 0.3 on the smallest grid, 0.027 at twice the
band limit, 0.004 at four times). Source: Cohen et al. 2018, arXiv:1801.10130; Esteves et al. 2018, arXiv:1711.06721.
"""

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..constants import constant
from ..fields import FieldType, as_field_type, channel_count, describe, voxels_last
from ..layer import FieldLayer, is_autocast
from ..so3 import wigner_d
from .signals import as_channels, as_packed

Function = Callable[[Tensor], Tensor]
_FEW = 1024  # samples of a grid up to which one matrix is faster than a transform's steps


class SphereActivation(FieldLayer):
    """A pointwise function of signals on the sphere, computed on samples.

    transform: a generated one, with `field_type`, `synthesis` and `analysis`; its band limit is the grid's. limit: band
    limit of the input, at most the grid's; a grid of twice that is twofold oversampling. out_limit: of the output, that
    of the input unless given. function: any pointwise one, or a module with weights (PReLU). signals: how many there
    are, as many as the transform has unless given; a transform of one signal serves any number.

    On the fields of a volume it acts at every voxel: `8x0 + 8x1 + 8x2 + 8x3` are 8 functions on the sphere there. Turns
    of the cube map voxels to voxels, yet commute with it only as well as other rotations do. With `cube` they commute
    exactly: the mean over the three cyclic permutations of the axes, on a grid that quarter turns about its pole and
    half turns across it leave as it is (`driscoll_healy` or `equiangular` of an even band limit). It takes up to three
    times the time, and the error under other rotations falls too. On grids of few samples, and with `cube`, a
    generated transform is applied as one matrix each way, faster than in its steps.

    Raises ValueError if a limit is beyond the grid's, if it is not a transform, if its grid does not suit `cube`, or
    for another number of signals than the transform's, unless that is 1.
    """

    def __init__(
        self,
        transform: nn.Module,
        function: Function | nn.Module = F.relu,
        *,
        limit: int | None = None,
        out_limit: int | None = None,
        cube: bool = False,
        signals: int | None = None,
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
        self._copies = _copies(transform, grid, signals)
        super().__init__(_times(self._copies, _below(limit, grid)), _times(self._copies, _below(out_limit, grid)))
        self.transform, self.function = transform, function
        self._missing = channel_count(grid) - channel_count(_below(limit, grid))
        self._limits = (limit, out_limit)
        self.cube = cube
        if cube:
            _check_turns(transform)
        self._dense = cube or _is_small(transform)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> (batch, channel out, *space)."""
        self.check(fields)
        return self._by_matrices(fields) if self._dense else self._by_transform(fields)

    def _by_matrices(self, fields: Tensor) -> Tensor:
        batch, space = fields.shape[0], fields.shape[2:]
        transform: Any = self.transform
        packed = as_packed(voxels_last(fields), self.in_type)  # (batch, signal, coefficient, voxel)
        signals, voxels = packed.shape[1], packed.shape[3]
        dtype, kind = torch.promote_types(fields.dtype, torch.float32), cast(Hashable, type(transform))
        into, back = (
            constant(make, kind, limit, self.cube, dtype=dtype, device=fields.device)
            for make, limit in zip((_to_samples, _of_samples), self._limits, strict=True)
        )
        with _full_precision(fields):
            samples = packed.permute(0, 3, 1, 2).to(dtype) @ into  # (.., coefficient) @ (coefficient, sample)
        # (batch, voxel, signal, sample) -> (batch and voxel, signal, ring, point): three grids one below the other
        shape = (batch * voxels, signals, into.shape[1] // transform.points, transform.points)
        values: Tensor = self.function(samples.to(fields.dtype).reshape(shape))
        flat = values.to(dtype).reshape(batch, voxels, signals, into.shape[1])
        with _full_precision(fields):
            kept = (flat @ back).to(values.dtype)  # (batch, voxel, signal, sample) @ (sample, coefficient)
        return as_channels(kept.permute(0, 2, 3, 1)).reshape(batch, self.out_channels, *space)

    def _by_transform(self, fields: Tensor) -> Tensor:
        batch, space = fields.shape[0], fields.shape[2:]
        flat = voxels_last(fields)
        voxels = flat.shape[2]
        # (batch, channel, voxel) -> (batch and voxel, channel)
        signals = flat.transpose(1, 2).reshape(batch * voxels, self.in_channels)
        if self._copies > 1:  # one by one: (batch and voxel and copy, coefficient)
            signals = as_packed(signals, self.in_type).flatten(0, 1)
        transform: Any = self.transform
        samples = transform.synthesis(F.pad(signals, (0, self._missing)))  # (.., signal, ring, point)
        together = (batch * voxels, self._copies * samples.shape[1], *samples.shape[2:])
        values = self.function(samples.reshape(together)).reshape(samples.shape)
        kept: Tensor = transform.analysis(values)[:, : self.out_channels // self._copies]  # lower degrees come first
        if self._copies > 1:  # (batch and voxel and copy, coefficient) -> (batch and voxel, channel)
            kept = as_channels(kept.reshape(batch * voxels, self._copies, kept.shape[1]))
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


def _copies(transform: nn.Module, grid: FieldType, signals: int | None) -> int:
    """How many signals share the transform of one; 1 where it has as many as there are."""
    if signals is None or all(term.multiplicity == signals for term in grid):
        return 1
    if type(signals) is not int or signals < 1 or any(term.multiplicity > 1 for term in grid):
        raise ValueError(
            f"signals = {signals!r}: {type(transform).__name__} is a transform of {describe(grid)}. Leave signals out, "
            "or compile a transform of one signal, such as 1x0..3, which serves any number."
        )
    return signals


def _times(copies: int, field_type: FieldType) -> FieldType:
    return as_field_type([(copies * term.multiplicity, term.degree, term.parity) for term in field_type])


def _check_turns(transform: Any) -> None:
    """Raise ValueError unless quarter turns about the pole and half turns across it map the grid to itself."""
    heights = transform.directions()[:, 0, 1]
    if transform.points % 4 or not torch.allclose(heights, -heights.flip(0), rtol=0, atol=1e-9):
        raise ValueError(
            f"a grid of {transform.points} points on each of {len(heights)} rings is not the same after quarter "
            "and half turns: for cube=True compile one of grid driscoll_healy or equiangular, of even band limit."
        )


def _is_small(transform: Any) -> bool:
    """Whether a transform is a generated one on the sphere, with few samples."""
    generated = hasattr(transform, "basis_sha256") and hasattr(transform, "directions")
    return generated and transform.rings * transform.points <= _FEW


def _to_samples(transform: Any, limit: int, cube: bool) -> Tensor:
    """float64 (coefficient, sample) of a class of transforms; with `cube` the samples of three turned signals."""
    layer = transform()
    signals, whole = layer.signals, layer.band_limit**2
    units = torch.eye(limit**2, whole, dtype=torch.float64)
    padded = F.pad(units, (0, 0, 0, -len(units) % signals))
    spread = padded.reshape(len(padded) // signals, signals, whole)  # (batch, signal, coefficient)
    table: Tensor = layer.synthesis(as_channels(spread)).flatten(2).flatten(0, 1)[: limit**2]
    return torch.cat([_permutation(limit, shift).mT @ table for shift in ((0, 1, 2) if cube else (0,))], 1)


def _of_samples(transform: Any, limit: int, cube: bool) -> Tensor:
    """float64 (sample, coefficient); with `cube` the mean of three signals turned back."""
    layer = transform()
    signals, rings, points = layer.signals, layer.rings, layer.points
    units = torch.eye(rings * points, dtype=torch.float64)
    padded = F.pad(units, (0, 0, 0, -len(units) % signals))
    # (batch and signal, sample) -> (batch, signal, ring, point)
    fields = layer.analysis(padded.reshape(len(padded) // signals, signals, rings, points))
    table = as_packed(fields, layer.field_type).flatten(0, 1)[: len(units), : limit**2]
    shifts = (0, 1, 2) if cube else (0,)
    return torch.cat([table @ _permutation(limit, -shift % 3).mT for shift in shifts]) / len(shifts)


def _permutation(limit: int, shift: int) -> Tensor:
    """(coefficient, coefficient): signals turned by a cyclic permutation of the axes, (x, y, z) -> (z, x, y) for 1."""
    turn = torch.eye(3, dtype=torch.float64).roll(shift, 0)
    blocks: Tensor = torch.block_diag(*[wigner_d(degree, turn) for degree in range(limit)])  # type: ignore[no-untyped-call]
    return blocks


def _full_precision(fields: Tensor) -> AbstractContextManager[object]:
    """Without autocast: a transform is exact, or it is not one."""
    return torch.autocast(fields.device.type, enabled=False) if is_autocast(fields) else nullcontext()


def _below(limit: int, field_type: FieldType) -> FieldType:
    return tuple(term for term in field_type if term.degree < limit)
