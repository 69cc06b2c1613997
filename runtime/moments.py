"""The two passes of every normalisation: mean squares of all channels, then one affine map per channel.

Both work on sets of samples: all samples of the batch together (one set), or each sample by itself (a set each).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from runtime.fields import FieldType, split_terms
from runtime.layer import apply_function


def moments(
    fields: Tensor, field_type: FieldType, *, per_sample: bool = False, sync: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The fields, mean m of the even scalars (set, scalar copy), mean square of x - m (set, channel); m = 0 for others.

    What is made of the fields next should be made of those returned: their gradient then takes that of the moments
    along, in one pass. fields: (batch, channel, *space). The means are over the voxels, and over the batch unless
    `per_sample`; with `sync` over the batches of all processes, should there be several. In float32 or better,
    whatever the fields are.
    """
    sync = sync and dist.is_available() and dist.is_initialized()
    voxels = fields.reshape(*fields.shape[:2], -1).unsqueeze(0 if per_sample else 1)
    same, mean, square = apply_function(_Moments, voxels, field_type, sync)
    return same.reshape(fields.shape), mean, square


def channel_affine(fields: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * fields + shift, in the precision of `scale` inside and the dtype of `fields` outside.

    fields: (batch, channel, *space). scale, shift: (channel,) or (set, channel), with one set or one per sample. It is
    torch's batch norm for known statistics, mean 0 and variance 1: one fused pass forward and one backward.
    """
    scale, shift = scale.flatten(), shift.flatten()
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
    channels = fields.reshape(-1, scale.numel(), *fields.shape[2:])
    eps = 1e-30  # as good as none, 1 + eps is 1; torch 2.10 refuses 0
    return F.batch_norm(channels, zero, one, scale, shift, training=False, eps=eps).reshape(fields.shape)


def spread(scalars: Tensor, field_type: FieldType) -> Tensor:
    """(..., channel): the values of the even scalars, (..., scalar copy), at their channels; zero at the others."""
    pieces = []
    counts = [term.multiplicity if term.is_even_scalar else 0 for term in field_type]
    for term, piece in zip(field_type, torch.split(scalars, counts, -1), strict=True):
        # the empty piece is joined too: a parameter without elements must have a gradient, or DDP waits for it
        zeros = piece.new_zeros(*piece.shape[:-1], 0 if term.is_even_scalar else term.channels)
        pieces += [piece, zeros]
    return torch.cat(pieces, -1)


class _Moments(torch.autograd.Function):
    """The moments of fields (sample, set, channel, voxel) over samples and voxels.

    Returns the fields too, y = x, and keeps nothing else; the gradient is one pass,
    dL/dx = dL/dy + (2 (x - m) dL/dsquare + dL/dm) / count.
    """

    @staticmethod
    def forward(fields: Tensor, field_type: FieldType, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(fields.dtype, torch.float32)
        count = _count(fields, sync)
        terms = list(zip(field_type, split_terms(fields, field_type, 2), strict=True))
        sums = [x.sum((0, 3), dtype=dtype) for term, x in terms if term.is_even_scalar]
        mean = (
            _sum_over_processes(torch.cat([fields.new_zeros(fields.shape[1], 0, dtype=dtype), *sums], 1), sync) / count
        )
        squares = []
        for (term, x), centre in zip(terms, split_terms(spread(mean, field_type), field_type), strict=True):
            centred = x - centre[..., None] if term.is_even_scalar else x
            squares.append(torch.linalg.vector_norm(centred, dim=3, dtype=dtype).square().sum(0))
        return fields.view_as(fields), mean, _sum_over_processes(torch.cat(squares, 1), sync) / count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, FieldType, bool], output: tuple[Tensor, Tensor, Tensor]) -> None:
        fields, ctx.field_type, ctx.sync = inputs
        ctx.save_for_backward(fields, output[1])

    @staticmethod
    def backward(ctx: Any, grad_same: Tensor, grad_mean: Tensor, grad_square: Tensor) -> tuple[Tensor, None, None]:
        fields, mean = ctx.saved_tensors
        count = _count(fields, ctx.sync)
        slope = 2 * _sum_over_processes(grad_square, ctx.sync) / count
        offset = spread(_sum_over_processes(grad_mean, ctx.sync) / count, ctx.field_type)
        shift = offset - slope * spread(mean, ctx.field_type)
        gradient = torch.addcmul(grad_same, fields, slope[..., None].to(fields.dtype))
        first = 0
        for term, of_term in zip(ctx.field_type, split_terms(shift, ctx.field_type), strict=True):
            if term.is_even_scalar:
                gradient[:, :, first : first + term.channels] += of_term[..., None].to(fields.dtype)
            first += term.channels
        return gradient, None, None


def _count(fields: Tensor, sync: bool) -> int | Tensor:
    """Samples times voxels, of all processes together with `sync`."""
    own = fields.shape[0] * fields.shape[3]
    return _sum_over_processes(torch.tensor(float(own), device=fields.device), sync) if sync else own


def _sum_over_processes(tensor: Tensor, sync: bool) -> Tensor:
    total: Tensor = _AllReduce.apply(tensor) if sync else tensor  # type: ignore[no-untyped-call]
    return total


class _AllReduce(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total: Tensor = _AllReduce.apply(grad)  # type: ignore[no-untyped-call]
        return total
