"""Normalisation of fields by their mean square length, which no rotation changes.

In two passes: mean squares of all channels, then one affine map per channel. Both work on sets of samples: all samples
of the batch together (one set), or each sample by itself (a set each).
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .fields import FieldType, FieldTypeLike, copies_to_channels, copy_count, split_terms, voxels_last
from .layer import FieldLayer, apply_function, takes_operations_apart

Count = int | Tensor


class BatchNorm(FieldLayer, _BatchNorm):
    """Batch normalisation of fields, per field copy, with running statistics for evaluation.

        even scalars (0, 0e):  s -> weight (s - mean(s)) / sqrt(mean((s - mean(s))^2) + eps) + bias
        all other fields:      f -> weight f / sqrt(mean(|f|^2) + eps)

    The means are over batch and voxels. Nothing is subtracted from or added to a field that a rotation or a
    reflection changes, odd scalars included. |f|^2 is the sum over the components of a field, or their mean with
    `per_component`: then each component, not the whole vector, gets unit mean square.

    momentum: weight of the newest batch in the running statistics; None for their plain mean over the batches. As in
    torch the running variance of scalars is the unbiased one, N / (N - 1) times that of the batch. An empty batch
    leaves them as they are, and so does vmap, where statistics differ between samples; the gradients of torch.func
    do not. sync: take the means over the batches of all processes of torch.distributed, as nn.SyncBatchNorm does; set
    it for `nn.SyncBatchNorm.convert_sync_batchnorm`, which cannot make one of these and says so.
    `torch.optim.swa_utils.update_bn` works. Statistics are float32 or better, for any input.

    State: weight (copy), bias (even scalar copy), running_mean (even scalar copy), running_square (copy); for
    momentum None also num_batches_tracked.
    Source: Weiler et al., "3D Steerable CNNs", 2018, arXiv:1807.02547, and the published code.
    """

    running_mean: Tensor | None
    running_square: Tensor
    num_batches_tracked: Tensor | None
    momentum: float | None
    _version = 1
    _load_from_state_dict = nn.Module._load_from_state_dict  # torch's own adds num_batches_tracked to old states

    def __init__(
        self,
        in_type: FieldTypeLike,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        per_component: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__(in_type)
        self.eps, self.momentum, self.per_component, self.sync = eps, momentum, per_component, sync
        self.affine = self.track_running_stats = True
        copies, scalars = copy_count(self.in_type), _even_scalar_count(self.in_type)
        self.weight = nn.Parameter(torch.ones(copies))
        self.bias = nn.Parameter(torch.zeros(scalars))
        self.register_buffer("running_mean", torch.zeros(scalars))
        self.register_buffer("running_square", torch.ones(copies))
        self.register_buffer("num_batches_tracked", torch.tensor(0), persistent=momentum is None)

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """Asked for only by convert_sync_batchnorm, which would turn this into another layer."""
        raise NotImplementedError(
            "nn.SyncBatchNorm.convert_sync_batchnorm cannot convert runtime.BatchNorm, whose statistics are of lengths "
            "of fields. Make it with sync=True, or set layer.sync = True, and convert the other modules one by one."
        )

    def reset_running_stats(self) -> None:
        """Sets the running statistics to their initial values."""
        if self.running_mean is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_square.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Sets running statistics, weight and bias to their initial values."""
        self.reset_running_stats()
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        self.check_dtype(fields, self.weight, narrower=True)
        if not self.training and self.running_mean is not None:
            return channel_affine(fields, *self.scale_and_shift(self.running_mean, self.running_square))
        fields, means, power, count = moments(fields, self.in_type, sync=self.sync)
        mean, square = means[0], _squared_lengths(power, self.in_type, self.per_component)[0]
        if self.training:
            self._record(mean.detach(), square.detach(), count)
        return channel_affine(fields, *self.scale_and_shift(mean, square))

    def scale_and_shift(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """The layer as one scale and one shift per channel, given mean (scalar copy) and square (copy)."""
        return _scale_and_shift(self.weight, self.bias, mean, square + self.eps, self.in_type)

    @torch.no_grad()
    def _record(self, mean: Tensor, square: Tensor, count: Count) -> None:
        """Moves the running statistics towards those of a batch of `count` values per channel."""
        if self.running_mean is None or (not isinstance(count, Tensor) and count == 0):
            return
        weight: float | Tensor | None = self.momentum
        if weight is None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            weight = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        if isinstance(count, Tensor):
            weight = weight * (count > 0).to(self.running_mean.dtype)
        factors = [_unbiased(count) if term.is_even_scalar else 1.0 for term in self.in_type]
        parts = torch.split(square, [term.multiplicity for term in self.in_type])
        square = torch.cat([part * factor for part, factor in zip(parts, factors, strict=True)])
        for running, newest in ((self.running_mean, mean), (self.running_square, square)):
            _lerp(running, newest.to(running.dtype), weight)


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
        self.check_dtype(fields, self.weight, narrower=True)
        fields, mean, power, _ = moments(fields, self.in_type, per_sample=True)
        mean, square = self._over_groups(mean, _squared_lengths(power, self.in_type, self.per_component))
        return channel_affine(fields, *_scale_and_shift(self.weight, self.bias, mean, square + self.eps, self.in_type))

    def _over_groups(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (sample, scalar copy) and mean square (sample, copy) of each copy -> of its group, for every copy."""
        means, squares = [mean[:, :0]], []
        scalar_means = iter(torch.split(mean, [t.multiplicity for t in self.in_type if t.is_even_scalar], 1))
        own_squares = torch.split(square, [t.multiplicity for t in self.in_type], 1)
        for term, groups, own in zip(self.in_type, self.groups, own_squares, strict=True):
            members = own.reshape(own.shape[0], groups, term.multiplicity // groups)  # (sample, group, member)
            if term.is_even_scalar:  # about the mean of the group instead of the copy's own
                centres = next(scalar_means).reshape(members.shape)
                centre = centres.mean(2, keepdim=True)
                members = members + (centres - centre).square()
                means.append(centre.expand_as(members).flatten(1))
            squares.append(members.mean(2, keepdim=True).expand_as(members).flatten(1))  # (sample, copy)
        return torch.cat(means, 1), torch.cat(squares, 1)


class InstanceNorm(GroupNorm):
    """GroupNorm with one group per field copy."""

    def __init__(self, in_type: FieldTypeLike, *, eps: float = 1e-5, per_component: bool = False) -> None:
        super().__init__(in_type, None, eps=eps, per_component=per_component)


def moments(
    fields: Tensor, field_type: FieldType, *, per_sample: bool = False, sync: bool = False
) -> tuple[Tensor, Tensor, Tensor, Count]:
    """The fields, mean m of the even scalars (set, scalar copy), mean square of x - m (set, channel), values per mean.

    m = 0 for fields that are not even scalars. What is made of the fields next should be made of those returned: their
    gradient then takes that of the moments along, in one pass. fields: (batch, channel, *space). The means are over the
    voxels, and over the batch unless `per_sample`; with `sync` over the batches of all processes, should there be
    several. In float32 or better, for any fields. Means of nothing are 0.
    """
    sync = sync and has_processes()
    voxels = voxels_last(fields).unsqueeze(0 if per_sample else 1)  # (sample, set, channel, voxel)
    count: Count = voxels.shape[0] * voxels.shape[3]
    if sync:
        dtype = torch.promote_types(fields.dtype, torch.float32)
        count = sum_over_processes(torch.tensor(count, dtype=dtype, device=fields.device), sync)
    same, mean, square = apply_function(_Moments, voxels, field_type, count, sync)
    return same.reshape(fields.shape), mean, square, count


def channel_affine(fields: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * fields + shift, in the precision of `scale` inside and the dtype of `fields` outside.

    fields: (batch, channel, *space). scale, shift: (channel,) or, one per sample, (batch, channel). It is torch's batch
    norm for known statistics, mean 0 and variance 1: one fused pass forward and one backward.
    """
    if scale.ndim == 2 and scale.shape[0] == 0:  # torch's batch norm takes no empty channel axis
        return fields * scale.sum() + shift.sum()
    channels = fields if scale.ndim == 1 else fields.reshape(1, scale.shape[0] * scale.shape[1], *fields.shape[2:])
    scale, shift = scale.flatten(), shift.flatten()
    zero, one = torch.zeros_like(scale), torch.ones_like(scale)
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
    """The moments of fields (sample, set, channel, voxel) over samples and voxels, `count` values for each mean.

    Returns the fields too, y = x, and keeps nothing else; the gradient is one pass,
    dL/dx = dL/dy + (2 (x - m) dL/dsquare + dL/dm) / count.
    """

    @staticmethod
    def forward(fields: Tensor, field_type: FieldType, count: Count, sync: bool) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(fields.dtype, torch.float32)
        terms = list(zip(field_type, split_terms(fields, field_type, 2), strict=True))
        sums = [x.sum((0, 3), dtype=dtype) for term, x in terms if term.is_even_scalar]
        own_mean = torch.cat([fields.new_zeros(fields.shape[1], 0, dtype=dtype), *sums], 1)
        mean = sum_over_processes(own_mean, sync) / _at_least_one(count)
        squares = []
        for (term, x), centre in zip(terms, split_terms(spread(mean, field_type), field_type), strict=True):
            centred = x - centre[..., None] if term.is_even_scalar else x
            squares.append(_sums_of_squares(centred, dtype))
        square = sum_over_processes(torch.cat(squares, 1), sync) / _at_least_one(count)
        return fields.view_as(fields), mean, square

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        fields, ctx.field_type, ctx.count, ctx.sync = inputs
        ctx.save_for_backward(fields, output[1])

    @staticmethod
    def backward(ctx: Any, grad_same: Tensor, grad_mean: Tensor, grad_square: Tensor) -> tuple[Tensor | None, ...]:
        fields, mean = ctx.saved_tensors
        count = _at_least_one(ctx.count)
        slope = 2 * sum_over_processes(grad_square, ctx.sync) / count
        offset = spread(sum_over_processes(grad_mean, ctx.sync) / count, ctx.field_type)
        shift = offset - slope * spread(mean, ctx.field_type)
        gradient = torch.addcmul(grad_same, fields, slope[..., None].to(fields.dtype))
        first = 0
        for term, of_term in zip(ctx.field_type, split_terms(shift, ctx.field_type), strict=True):
            if term.is_even_scalar:
                gradient[:, :, first : first + term.channels] += of_term[..., None].to(fields.dtype)
            first += term.channels
        return gradient, None, None, None


def _sums_of_squares(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(sample, set, channel, voxel) -> (set, channel)."""
    if takes_operations_apart(x):  # a norm has no second derivative at 0
        return x.to(dtype).square().sum((0, 3))
    lengths: Tensor = torch.linalg.vector_norm(x, dim=3, dtype=dtype)  # keeps no square of every value
    return lengths.square().sum(0)


def _at_least_one(count: Count) -> Count:
    return count.clamp_min(1) if isinstance(count, Tensor) else max(count, 1)


def _unbiased(count: Count) -> Count | float:
    """N / (N - 1), by which the variance about the samples' own mean is too small."""
    return count / _at_least_one(count - 1)


def _lerp(running: Tensor, newest: Tensor, weight: float | Tensor) -> None:
    """running += weight (newest - running); under vmap of `newest` alone nothing, for one tensor cannot take many."""
    functorch = torch._C._functorch
    if torch.compiler.is_compiling() or functorch.is_functorch_wrapped_tensor(running):
        running.lerp_(newest, weight)
        return
    while functorch.is_gradtrackingtensor(newest):
        newest = functorch.get_unwrapped(newest)
    if not functorch.is_batchedtensor(newest):
        with torch._C._DisableFuncTorch():  # torch.func.grad refuses to change what it does not know
            running.lerp_(newest, weight)


def sum_over_processes(tensor: Tensor, sync: bool) -> Tensor:
    """The sum over the processes of torch.distributed, with its gradient; the tensor itself unless `sync`."""
    total: Tensor = _AllReduce.apply(tensor) if sync else tensor  # type: ignore[no-untyped-call]
    return total


def has_processes() -> bool:
    """Whether a process group of torch.distributed is at work."""
    return dist.is_available() and dist.is_initialized()


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


def _squared_lengths(power: Tensor, field_type: FieldType, per_component: bool) -> Tensor:
    """Mean squares of the channels, (set, channel) -> of the fields, (set, copy): sum or mean over the components."""
    squares = []
    for term, channels in zip(field_type, split_terms(power, field_type), strict=True):
        components = channels.reshape(channels.shape[0], term.multiplicity, term.dimension)  # (set, copy, component)
        squares.append(components.mean(2) if per_component else components.sum(2))
    return torch.cat(squares, 1)


def _scale_and_shift(
    weight: Tensor, bias: Tensor, mean: Tensor, square: Tensor, field_type: FieldType
) -> tuple[Tensor, Tensor]:
    """weight (x - mean) / sqrt(square) + bias as one scale and one shift per channel, (..., channel) each."""
    scale = copies_to_channels(weight * square.rsqrt(), field_type)
    return scale, spread(bias, field_type) - spread(mean, field_type) * scale


def _even_scalar_count(field_type: FieldType) -> int:
    return sum(term.multiplicity for term in field_type if term.is_even_scalar)
