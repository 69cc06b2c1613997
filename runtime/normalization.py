"""Normalisation of fields by their mean square length, which no rotation changes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.fields import FieldType, FieldTypeLike, Term, copies_to_channels, copy_count, split_terms
from runtime.layer import FieldLayer


class BatchNorm(FieldLayer):
    """Batch normalisation of fields, per field copy, with running statistics for evaluation.

        even scalars (0, 0e):  s -> weight (s - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) + bias
        all other fields:      f -> weight f / sqrt(mean(|f|^2) + eps)

    The means are over batch and voxels. Nothing is subtracted from or added to a field that a rotation or a
    reflection changes, odd scalars included. |f|^2 is the sum over the components of a field, or their mean with
    `per_component`: then each component, not the whole vector, gets unit mean square.

    momentum: weight of the newest batch in the running statistics. sync: take the means over the batches of all
    processes of torch.distributed, as nn.SyncBatchNorm does. Statistics are float32 or better, whatever the input.

    State: weight (copy), bias (even scalar copy), running_mean (even scalar copy), running_square (copy).
    Source: Weiler et al., "3D Steerable CNNs", 2018, arXiv:1807.02547, and the published code.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(
        self,
        in_type: FieldTypeLike,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        per_component: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__(in_type)
        self.eps, self.momentum, self.per_component, self.sync = eps, momentum, per_component, sync
        copies, scalars = copy_count(self.in_type), _even_scalar_count(self.in_type)
        self.weight = nn.Parameter(torch.ones(copies))
        self.bias = nn.Parameter(torch.zeros(scalars))
        self.register_buffer("running_mean", torch.zeros(scalars))
        self.register_buffer("running_square", torch.ones(copies))

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        if self.training:
            mean, square = self._statistics(fields)
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_square.lerp_(square.to(self.running_square.dtype), self.momentum)
        else:
            mean, square = self.running_mean, self.running_square
        return channel_affine(fields, *self.scale_and_shift(mean, square))

    def scale_and_shift(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """The layer as one scale and one shift per channel, given mean (even scalar copy) and square (copy)."""
        scale = copies_to_channels(self.weight * (square + self.eps).rsqrt(), self.in_type)
        return scale, _spread(self.bias, self.in_type) - _spread(mean, self.in_type) * scale

    def _statistics(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (even scalar copy) and mean square (copy) over batch and voxels; scalars are centred first."""
        voxels = fields.reshape(*fields.shape[:2], -1)
        sync = self.sync and dist.is_available() and dist.is_initialized()
        mean, power = _Moments.apply(voxels, self.in_type, sync)  # type: ignore[no-untyped-call]
        squares = []
        for term, channels in zip(self.in_type, split_terms(power[None], self.in_type), strict=True):
            components = channels.view(term.multiplicity, term.dimension)
            squares.append(components.mean(1) if self.per_component else components.sum(1))
        return mean, torch.cat(squares)


def channel_affine(fields: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * fields + shift, per channel, in the precision of `scale` inside and the dtype of `fields` outside.

    It is torch's batch norm for known statistics, mean 0 and variance 1: one fused pass forward and one backward.
    """
    return F.batch_norm(fields, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, training=False, eps=0)


def _spread(scalars: Tensor, field_type: FieldType) -> Tensor:
    """(channel,): the values of the even scalars (scalar copy) at their channels, zero at those of other fields."""
    pieces = []
    counts = [term.multiplicity if term.is_even_scalar else 0 for term in field_type]
    for term, piece in zip(field_type, torch.split(scalars, counts), strict=True):
        # the empty piece is joined too: a parameter without elements must have a gradient, or DDP waits for it
        pieces += [piece] if term.is_even_scalar else [piece, piece.new_zeros(term.channels)]
    return torch.cat(pieces)


class GroupNorm(FieldLayer):
    """Normalisation of each sample by itself, over groups of field copies and all voxels.

        even scalars (0, 0e):  s -> weight (s - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) + bias
        all other fields:      f -> weight f / sqrt(mean(|f|^2) + eps)

    The means are over the copies of one group of one term and over the voxels; `groups` divides the multiplicity of
    every term. `per_component`: as in BatchNorm. State: weight (copy), bias (even scalar copy).

    Raises ValueError if `groups` does not divide a multiplicity.
    Source: Wu and He, "Group Normalization", 2018, with the lengths of Weiler et al. 2018 for fields.
    """

    def __init__(
        self, in_type: FieldTypeLike, groups: int | None = 1, *, eps: float = 1e-5, per_component: bool = False
    ) -> None:
        super().__init__(in_type)
        self.eps, self.per_component = eps, per_component
        self.groups = tuple(term.multiplicity if groups is None else groups for term in self.in_type)
        for term, count in zip(self.in_type, self.groups, strict=True):
            if count < 1 or term.multiplicity % count:
                raise ValueError(
                    f"GroupNorm cannot share the {term.multiplicity} copies of {term} among {count} groups."
                )
        self.weight = nn.Parameter(torch.ones(copy_count(self.in_type)))
        self.bias = nn.Parameter(torch.zeros(_even_scalar_count(self.in_type)))

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        weight = copies_to_channels(self.weight, self.in_type)
        bias = _spread(self.bias, self.in_type)
        parts = zip(self.in_type, self.groups, split_terms(fields, self.in_type), strict=True)
        unit = torch.cat([self._normalize(term, groups, part) for term, groups, part in parts], 1)
        return channel_affine(unit, weight, bias)

    def _normalize(self, term: Term, groups: int, part: Tensor) -> Tensor:
        values: Tensor = part.reshape(part.shape[0], groups, -1)
        dtype = torch.promote_types(part.dtype, torch.float32)
        if term.is_even_scalar:
            values = values - values.mean(2, keepdim=True, dtype=dtype)
        vectors = values.shape[2] if self.per_component else values.shape[2] // term.dimension
        square = torch.linalg.vector_norm(values, dim=2, keepdim=True, dtype=dtype).square() / vectors
        return torch.reshape((values * (square + self.eps).rsqrt()).to(part.dtype), part.shape)


class InstanceNorm(GroupNorm):
    """GroupNorm with every field copy a group of its own."""

    def __init__(self, in_type: FieldTypeLike, *, eps: float = 1e-5, per_component: bool = False) -> None:
        super().__init__(in_type, None, eps=eps, per_component=per_component)


def _even_scalar_count(field_type: FieldType) -> int:
    return sum(term.multiplicity for term in field_type if term.is_even_scalar)


class _Moments(torch.autograd.Function):
    """Mean m of the even scalars (scalar copy) and mean square of x - m (channel,), with m = 0 for other fields.

    fields: (batch, channel, voxel). The means are over batch and voxels, with `sync` of all processes together, in
    float32 or better. Keeps the fields only; the gradient is one pass, (2 (x - m) dL/dsquare + dL/dm) / samples.
    """

    @staticmethod
    def forward(fields: Tensor, field_type: FieldType, sync: bool) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(fields.dtype, torch.float32)
        samples = _sample_count(fields, sync)
        terms = list(zip(field_type, split_terms(fields, field_type), strict=True))
        sums = [x.sum((0, 2), dtype=dtype) for term, x in terms if term.is_even_scalar]
        mean = _sum_over_processes(torch.cat([fields.new_zeros(0, dtype=dtype), *sums]), sync) / samples
        centres = split_terms(_spread(mean, field_type)[None], field_type)
        squares = []
        for (term, x), centre in zip(terms, centres, strict=True):
            centred = x - centre[0, :, None] if term.is_even_scalar else x
            squares.append(torch.linalg.vector_norm(centred, dim=2, dtype=dtype).square().sum(0))
        return mean, _sum_over_processes(torch.cat(squares), sync) / samples

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, FieldType, bool], output: tuple[Tensor, Tensor]) -> None:
        fields, ctx.field_type, ctx.sync = inputs
        ctx.save_for_backward(fields, output[0])

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_square: Tensor) -> tuple[Tensor, None, None]:
        fields, mean = ctx.saved_tensors
        samples = _sample_count(fields, ctx.sync)
        slope = 2 * _sum_over_processes(grad_square, ctx.sync) / samples
        offset = _spread(_sum_over_processes(grad_mean, ctx.sync) / samples, ctx.field_type)
        return channel_affine(fields, slope, offset - slope * _spread(mean, ctx.field_type)), None, None


def _sample_count(fields: Tensor, sync: bool) -> int | Tensor:
    """Batch times voxels, of all processes together with `sync`."""
    own = fields.shape[0] * fields.shape[2]
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
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return total
