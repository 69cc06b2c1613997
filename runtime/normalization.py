"""Normalisation of fields by their mean square length, which no rotation changes."""

import torch
from torch import Tensor, nn

from runtime.fields import FieldType, FieldTypeLike, copies_to_channels, copy_count, split_terms
from runtime.layer import FieldLayer
from runtime.moments import channel_affine, moments, spread


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
            fields, mean, power = moments(fields, self.in_type, sync=self.sync)
            mean, square = mean[0], _squared_lengths(power, self.in_type, self.per_component)[0]
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                self.running_square.lerp_(square.to(self.running_square.dtype), self.momentum)
        else:
            mean, square = self.running_mean, self.running_square
        return channel_affine(fields, *self.scale_and_shift(mean, square))

    def scale_and_shift(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """The layer as one scale and one shift per channel, given mean (scalar copy) and square (copy)."""
        return _scale_and_shift(self.weight, self.bias, mean, square + self.eps, self.in_type)


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
        fields, mean, power = moments(fields, self.in_type, per_sample=True)
        mean, square = self._over_groups(mean, _squared_lengths(power, self.in_type, self.per_component))
        return channel_affine(fields, *_scale_and_shift(self.weight, self.bias, mean, square + self.eps, self.in_type))

    def _over_groups(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (sample, scalar copy) and mean square (sample, copy) of each copy -> of its group, for every copy."""
        means, squares = [mean[:, :0]], []
        scalar_means = iter(torch.split(mean, [t.multiplicity for t in self.in_type if t.is_even_scalar], 1))
        own_squares = torch.split(square, [t.multiplicity for t in self.in_type], 1)
        for term, groups, own in zip(self.in_type, self.groups, own_squares, strict=True):
            members = own.reshape(-1, groups, term.multiplicity // groups)
            if term.is_even_scalar:  # about the mean of the group instead of the copy's own
                centres = next(scalar_means).reshape(members.shape)
                centre = centres.mean(2, keepdim=True)
                members = members + (centres - centre).square()
                means.append(centre.expand_as(members).flatten(1))
            squares.append(members.mean(2, keepdim=True).expand_as(members).flatten(1))
        return torch.cat(means, 1), torch.cat(squares, 1)


class InstanceNorm(GroupNorm):
    """GroupNorm with every field copy a group of its own."""

    def __init__(self, in_type: FieldTypeLike, *, eps: float = 1e-5, per_component: bool = False) -> None:
        super().__init__(in_type, None, eps=eps, per_component=per_component)


def _squared_lengths(power: Tensor, field_type: FieldType, per_component: bool) -> Tensor:
    """Mean squares of the channels, (set, channel) -> of the fields, (set, copy): sum or mean over the components."""
    squares = []
    for term, channels in zip(field_type, split_terms(power, field_type), strict=True):
        components = channels.reshape(-1, term.multiplicity, term.dimension)
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
