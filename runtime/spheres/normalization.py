"""Normalisation of fragments by their running size. Batch normalisation per fragment is `runtime.BatchNorm`."""

import torch
from torch import Tensor

from runtime.fields import FieldTypeLike, copies_to_channels, copy_count, split_terms, voxels_last
from runtime.layer import FieldLayer


class FragmentNorm(FieldLayer):
    """Every fragment divided by the running mean of its size, in training too; nothing is subtracted.

        s <- s + (rms - s) / n        n: batches seen, rms: over batch, components and places
        f -> f / max(s, floor)

    The size is a constant to the gradient. It keeps powers of products in check and does not tie the samples of a batch
    together. An empty batch leaves s as it is.

    State: size (copy), batches.
    Source: Kondor, Lin and Trivedi, "Clebsch-Gordan Nets", 2018; its public code takes the standard deviation.
    """

    size: Tensor
    batches: Tensor

    def __init__(self, in_type: FieldTypeLike, *, floor: float = 1e-5) -> None:
        super().__init__(in_type)
        self.floor = floor
        self.register_buffer("size", torch.ones(copy_count(self.in_type)))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        if self.training and fields.shape[0] > 0:
            self._record(fields.detach())
        scale = copies_to_channels(self.size.clamp_min(self.floor).reciprocal(), self.in_type)
        # one factor for each channel of (batch, channel, *space)
        return fields * scale.to(fields.dtype).reshape(-1, *[1] * (fields.ndim - 2))

    @torch.no_grad()
    def _record(self, fields: Tensor) -> None:
        flat = voxels_last(fields).to(self.size.dtype)  # (batch, channel, voxel)
        sizes = []
        for term, part in zip(self.in_type, split_terms(flat, self.in_type), strict=True):
            copies = torch.unflatten(part, 1, (term.multiplicity, term.dimension))  # (batch, copy, component, voxel)
            sizes.append(copies.square().mean((0, 2, 3)).sqrt())
        self.batches.add_(1)
        newest = torch.cat(sizes)
        # the first batch replaces the ones that were there
        self.size.add_((newest - self.size) / self.batches)
