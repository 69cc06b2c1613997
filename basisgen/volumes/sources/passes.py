"""What the passes of separable convolutions share: how the places of an axis meet, and the indices of products."""

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Index = tuple[int, ...]


class Axis(NamedTuple):
    """How the places of one axis meet: place out i takes tap t of place in i * stride - padding + t * dilation."""

    places: int  # out
    places_in: int
    taps: int
    stride: int
    padding: int
    dilation: int

    def taken(self, out: slice) -> slice:
        """The places in that some places out take."""
        first = out.start * self.stride - self.padding
        last = (out.stop - 1) * self.stride - self.padding + (self.taps - 1) * self.dilation
        return _clipped(first, last, self.places_in)

    def takers(self, into: slice) -> slice:
        """The places out that take some places in."""
        first = into.start + self.padding - (self.taps - 1) * self.dilation
        return _clipped(-(-first // self.stride), (into.stop - 1 + self.padding) // self.stride, self.places)

    def matrices(self, table: Tensor, dtype: torch.dtype) -> Tensor:
        """(level, place out, place in) of taps (level, tap), the correlations along the axis; do not change them."""
        # what a CUDA graph makes while it is captured has no value until it is replayed
        if table.is_cuda and torch.cuda.is_current_stream_capturing():
            return _matrices(self, table, dtype)
        return _held_matrices(self, table, dtype)


def _matrices(axis: Axis, table: Tensor, dtype: torch.dtype) -> Tensor:
    out, into = (torch.arange(n, device=table.device) for n in (axis.places, axis.places_in))
    offset = into - out.unsqueeze(1) * axis.stride + axis.padding
    tap = offset.div(axis.dilation, rounding_mode="floor")
    is_tap = (offset % axis.dilation == 0) & (tap >= 0) & (tap < axis.taps)
    return functional.pad(table, (0, 1))[:, torch.where(is_tap, tap, axis.taps)].to(dtype)


_held_matrices = functools.lru_cache(maxsize=64)(_matrices)  # by the table itself, which is a constant of the package


def axes_of(size: Sequence[int], taps: Sequence[Tensor], geometry: Sequence[int]) -> list[Axis]:
    """x, y and z, for (.., x, y, z) of this size. Raises ValueError where the volume is smaller than the kernel."""
    steps = list(zip(size[-3:], taps, geometry[:3], geometry[3:6], geometry[6:], strict=True))
    axes = [
        Axis((n + 2 * p - d * (table.shape[1] - 1) - 1) // s + 1, n, table.shape[1], s, p, d)
        for n, table, s, p, d in steps
    ]
    if min(axis.places for axis in axes) < 1 or min(axis.places_in for axis in axes) < 1:
        kernel, padding, dilation = zip(*((a.taps, a.padding, a.dilation) for a in axes), strict=True)
        raise ValueError(
            f"a volume of {tuple(size[-3:])} voxels, padded by {padding}, is smaller than the kernel of {kernel} taps "
            f"with dilation {dilation}. Pad more, or take larger volumes."
        )
    return axes


@functools.cache
def indices(axes: int, levels: int) -> tuple[Index, ...]:
    """Every index of some axes with a sum of at most `levels`, by the sum: those of a smaller one are a head of it."""
    found = [index for index in product(range(levels + 1), repeat=axes) if sum(index) <= levels]
    return tuple(sorted(found, key=lambda index: (sum(index), index)))


def slices(places: int, largest: int, partner: Callable[[slice], slice]) -> list[tuple[slice, slice]]:
    """The places in slices of about one size, each with the slice it meets."""
    count = -(-places // largest)
    edges = [places * i // count for i in range(count + 1)]
    parts = [slice(first, last) for first, last in pairwise(edges)]
    return [(part, partner(part)) for part in parts]


def empty(like: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    """A volume in the memory format of another."""
    keep = like.is_contiguous(memory_format=torch.channels_last_3d) and not like.is_contiguous()
    memory_format = torch.channels_last_3d if keep else torch.contiguous_format
    shape = (len(like), channels, *size)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums of numbers of a dtype are kept in."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _clipped(first: int, last: int, places: int) -> slice:
    first = min(max(first, 0), places)
    return slice(first, max(first, min(last + 1, places)))
