"""Normalisation of fragments by their running size. Batch normalisation per fragment is `runtime.BatchNorm`."""

import torch
from torch import Tensor

from ..fields import FieldTypeLike, copies_to_channels, copy_count, split_terms, voxels_last
from ..layer import FieldLayer
from ..normalization import has_processes, sum_over_processes


class FragmentNorm(FieldLayer):
    """Every fragment divided by the running mean of its size, in training too; nothing is subtracted.

        s <- s + (rms - s) / n        n: batches seen, rms: over batch, components and places
        f -> f / max(s, floor)

    The size is a constant to the gradient. It keeps powers of products in check and does not tie the samples of a batch
    together. An empty batch leaves s as it is. sync: take rms over the batches of all processes of torch.distributed.

    State: size (copy), batches.
    Source: Kondor, Lin and Trivedi, "Clebsch-Gordan Nets", 2018; its public code takes the standard deviation.
    """

    size: Tensor
    batches: Tensor

    def __init__(self, in_type: FieldTypeLike, *, floor: float = 1e-5, sync: bool = False) -> None:
        super().__init__(in_type)
        self.floor, self.sync = floor, sync
        self.register_buffer("size", torch.ones(copy_count(self.in_type)))
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, *space) -> the same shape."""
        self.check(fields)
        sync = self.sync and has_processes()
        if self.training and (sync or fields.shape[0] > 0):
            self._record(fields.detach(), sync)
        scale = copies_to_channels(self.size.clamp_min(self.floor).reciprocal(), self.in_type)
        return fields * scale.to(fields.dtype).reshape(-1, *[1] * (fields.ndim - 2))

    @torch.no_grad()
    def _record(self, fields: Tensor, sync: bool) -> None:
        dtype = torch.promote_types(self.size.dtype, torch.float32)
        flat = voxels_last(fields).to(dtype)  # (batch, channel, voxel)
        sums = [flat.new_full((1,), flat.shape[0] * flat.shape[2])]  # values of each component, then sums of squares
        for term, part in zip(self.in_type, split_terms(flat, self.in_type), strict=True):
            copies = torch.unflatten(part, 1, (term.multiplicity, term.dimension))
            sums.append(copies.square().sum((0, 2, 3)) / term.dimension)  # (batch, copy, component, voxel) -> (copy,)
        count, *squares = torch.split(sum_over_processes(torch.cat(sums), sync), [1, copy_count(self.in_type)])
        newest = (squares[0] / count.clamp_min(1)).sqrt().to(self.size.dtype)
        self.batches.add_((count[0] > 0).to(self.batches.dtype))
        # the first batch replaces the ones that were there, one of nothing changes nothing
        change = torch.where(count > 0, newest - self.size, 0)
        self.size.add_(change / self.batches.clamp_min(1))
