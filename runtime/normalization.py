"""Normalisation of fields by their mean square length, which no rotation changes."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.fields import FieldTypeLike, copy_count, split_copies, split_terms
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
        copies = copy_count(self.in_type)
        scalars = sum(term.multiplicity for term in self.in_type if term.is_even_scalar)
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
        scales, shifts, used = [], [], 0
        copies = self.weight * (square + self.eps).rsqrt()
        for term, scale in zip(self.in_type, split_copies(copies, self.in_type), strict=True):
            scales.append(scale.repeat_interleave(term.dimension))
            if term.is_even_scalar:
                own = slice(used, used + term.multiplicity)
                shifts.append(self.bias[own] - mean[own] * scale)
                used += term.multiplicity
            else:
                shifts.append(torch.zeros_like(scales[-1]))
        return torch.cat(scales), torch.cat(shifts)

    def _statistics(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (even scalar copy) and mean square (copy) over batch and voxels; scalars are centred first."""
        means, squares = [self.bias[:0]], []
        voxels = fields.reshape(*fields.shape[:2], -1)
        for term, field in zip(self.in_type, split_terms(voxels, self.in_type), strict=True):
            if term.is_even_scalar:
                mean = self._over_processes(field.mean((0, 2), dtype=_at_least_float32(field)), field)
                means.append(mean)
                field = field - mean[:, None]
            power = torch.linalg.vector_norm(field, dim=2, dtype=_at_least_float32(field)).square().sum(0)
            power = self._over_processes(power / (field.shape[0] * field.shape[2]), field)
            components = power.view(term.multiplicity, term.dimension)
            squares.append(components.mean(1) if self.per_component else components.sum(1))
        return torch.cat(means), torch.cat(squares)

    def _over_processes(self, mean: Tensor, field: Tensor) -> Tensor:
        """The mean over the samples of all processes, each weighted by how many it holds."""
        if not (self.sync and dist.is_available() and dist.is_initialized()):
            return mean
        samples = mean.new_tensor([field.shape[0] * field.shape[2]])
        total: Tensor = _AllReduce.apply(torch.cat([mean * samples, samples]))  # type: ignore[no-untyped-call]
        return total[:-1] / total[-1]


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


def channel_affine(fields: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * fields + shift, per channel, in the precision of `scale` inside and the dtype of `fields` outside.

    It is torch's batch norm for known statistics, mean 0 and variance 1: one fused pass forward and one backward.
    """
    return F.batch_norm(fields, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, training=False, eps=0)


def _at_least_float32(fields: Tensor) -> torch.dtype:
    return torch.promote_types(fields.dtype, torch.float32)
