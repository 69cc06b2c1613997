"""The passes of a separable convolution on a GPU: in few, large matrix products.

    u[c, n]    = input[n] correlated with h_c along z
    v[b, n]    = u[c, n] correlated with h_b along y                             one c after another, b <= levels - c
    w[a, m]    = sum over c, b and n of  mixing[abc, m, n] * v[b, n]
    output[m]  = sum over a of  w[a, m] correlated with h_a along x

A GPU multiplies matrices in less time than it takes to read and write them, or to start many small products. So the
matrices are whole: those of the passes with the zeros off their bands, those of the mixing with the zeros between
channels whose signs under half turns do not agree (see `_on_cpu`).

The fields lie as (sample, x, channel, y, z). Then an index beside the channel makes one axis with it, which the mixing
sums over, and one beside x an axis that the last pass sums over; no field is copied to bring its axes into order.
"""

import functools
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from ._passes import Axis, accumulator, empty, indices, slices
from ._steerable import FieldType, _channels

WORKSPACE = 1 << 28  # the numbers that all fields of one slab may have
PRODUCTS = (1 << 16) - 1  # the most matrix products in one call


@functools.cache
def entries_with_zeros(in_type: FieldType, out_type: FieldType, levels: int) -> Tensor:
    """Where each number of `SlabWork.mixing` is in the flattened (product, channel out, channel in), then a zero."""
    channels_in, channels_out = _channels(in_type), _channels(out_type)
    position = {abc: i for i, abc in enumerate(indices(3, levels))}
    pairs = channels_out * channels_in
    pair = torch.arange(pairs).view(channels_out, channels_in, 1)  # (channel out, channel in, b)
    parts = []
    for c in range(levels + 1):
        n = levels + 1 - c
        number = torch.tensor([position.get((a, b, c), -1) for a in range(n) for b in range(n)]).view(n, 1, 1, n)
        entry = number * pairs + pair  # (a, channel out, channel in, b)
        parts.append(torch.where(number < 0, len(position) * pairs, entry).flatten())
    return torch.cat(parts)


class Slab(NamedTuple):
    """Some samples, and of these some planes in along x with the places out that take them."""

    samples: slice
    into: slice
    out: slice


class SlabWork:
    """What there is to do for an input of a size: the matrices of the passes and of the mixing, and the slabs."""

    def __init__(
        self, input: Tensor, mixing: Tensor, axes: Sequence[Axis], tables: Sequence[Tensor], channels_out: int
    ) -> None:
        self.axes = axes
        self.functions = len(tables[0])  # h_0, h_1, ..
        self.samples, self.channels_in = input.shape[:2]
        self.along_x, self.along_y, self.along_z = (
            axis.matrices(table, input.dtype) for axis, table in zip(axes, tables, strict=True)
        )
        self.channels_out = channels_out
        sizes = [self.functions - c for c in range(self.functions)]  # of a, and of b
        parts = mixing.split_with_sizes([n * channels_out * self.channels_in * n for n in sizes])
        # for each c, (a and channel out, channel in and b)
        self.mixing = [part.view(-1, self.channels_in * n) for part, n in zip(parts, sizes, strict=True)]

    def forward(self, input: Tensor) -> Tensor:
        """(sample, channel in, x, y, z) -> (sample, channel out, x', y', z')."""
        x, y, z = self.axes
        slabs = self.slabs()
        make = input.new_empty if len(slabs) == 1 else input.new_zeros  # slabs overlap
        output = make(self.samples, x.places, self.channels_out, y.places * z.places)
        for slab in slabs:
            w = self._mixed(self._along_z(input, slab))
            # (sample, x and a, channel out and y' and z')
            w = w.view(slab.samples.stop - slab.samples.start, -1, self.channels_out * y.places * z.places)
            target = output[slab.samples, slab.out].view(len(w), -1, w.shape[2])
            target.baddbmm_(_repeated(self._band(slab), len(w)), w, beta=int(len(slabs) > 1))
        output = output.view(self.samples, x.places, self.channels_out, y.places, z.places).transpose(1, 2)
        return empty(input, self.channels_out, output.shape[2:]).copy_(output)

    def backward(
        self, gradient: Tensor, input: Tensor, of_input: bool, of_mixing: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of input and mixing that are asked for, from that of the output."""
        x, y, z = self.axes
        # (sample, x', channel out and y' and z')
        gradient = gradient.transpose(1, 2).reshape(self.samples, x.places, self.channels_out * y.places * z.places)
        mixing = self.mixing if of_mixing else []
        sums = [torch.zeros_like(matrix, dtype=accumulator(matrix.dtype)) for matrix in mixing]
        into = input.new_empty(self.samples, x.places_in, self.channels_in, y.places_in, z.places_in)
        for slab in self.slabs():
            samples = slab.samples.stop - slab.samples.start
            dw = torch.bmm(_repeated(self._band(slab).t(), samples), gradient[slab.samples, slab.out])
            # (sample and x, a and channel out, y' and z')
            dw = dw.view(-1, self.functions * self.channels_out, y.places * z.places)
            if of_mixing:
                u = self._along_z(input, slab)
                for c, total in enumerate(sums):
                    v = self._along_y(u, c)
                    total += torch.bmm(dw[:, : len(total)], v.transpose(1, 2)).sum(0, dtype=total.dtype)
            if of_input:
                into[slab.samples, slab.into] = self._back_to_input(dw).view(samples, -1, *into.shape[2:])
        of_all = torch.cat([total.flatten() for total in sums]).to(input.dtype) if of_mixing else None
        of_volume = empty(input, self.channels_in, input.shape[2:]).copy_(into.transpose(1, 2)) if of_input else None
        return of_volume, of_all

    def _along_z(self, input: Tensor, slab: Slab) -> Tensor:
        """u, (sample and x and channel, y, c, z')."""
        z = self.axes[2]
        part = input[slab.samples, :, slab.into].transpose(1, 2).reshape(-1, z.places_in)  # (.., z)
        u = part @ self.along_z.flatten(0, 1).t()
        return u.view(-1, self.axes[1].places_in, self.functions, z.places)

    def _along_y(self, u: Tensor, c: int) -> Tensor:
        """v of one c, (sample and x, channel and b, y' and z')."""
        v = torch.bmm(_repeated(self._column(c), len(u)), u[:, :, c])  # (sample and x and channel, b and y', z')
        return v.view(-1, self.channels_in * (self.functions - c), self.axes[1].places * self.axes[2].places)

    def _mixed(self, u: Tensor) -> Tensor:
        """w, (sample and x, a and channel out, y' and z')."""
        w = torch.empty(0)
        for c, matrix in enumerate(self.mixing):
            v = self._along_y(u, c)
            if c == 0:  # which has every a
                w = torch.bmm(_repeated(matrix, len(v)), v)
            else:
                w[:, : len(matrix)].baddbmm_(_repeated(matrix, len(v)), v)
        return w

    def _back_to_input(self, dw: Tensor) -> Tensor:
        """The gradient of the input, (sample and x and channel and y, z)."""
        y, z = self.axes[1:]
        du = dw.new_empty(len(dw) * self.channels_in, y.places_in, self.functions, z.places)
        for c, matrix in enumerate(self.mixing):
            dv = torch.bmm(_repeated(matrix.t(), len(dw)), dw[:, : len(matrix)])  # (sample and x, channel and b, ..)
            dv = dv.view(len(du), -1, z.places)  # (sample and x and channel, b and y', z')
            torch.bmm(_repeated(self._column(c).t(), len(du)), dv, out=du[:, :, c])
        return du.view(-1, self.functions * z.places) @ self.along_z.flatten(0, 1)

    def _column(self, c: int) -> Tensor:
        """The passes along y that go with c, (b and y', y)."""
        return self.along_y[: self.functions - c].flatten(0, 1)

    def _band(self, slab: Slab) -> Tensor:
        """The passes along x of a slab, (x', x and a)."""
        return self.along_x[:, slab.out, slab.into].permute(1, 2, 0).flatten(1)

    def slabs(self) -> list[Slab]:
        """Some x-planes of one sample, or whole samples where they are small."""
        x, y, z = self.axes
        plane = max(y.places_in, y.places) * max(z.places_in, z.places)
        fields = 2 * self.functions * (2 * self.channels_in + self.channels_out) * plane  # u, v, w and their gradients
        of_mixing = self.functions**2 * self.channels_in * self.channels_out
        planes = max(1, min(WORKSPACE // (fields + of_mixing), PRODUCTS // self.channels_in))
        samples = max(1, planes // x.places_in)
        return [
            Slab(slice(first, min(first + samples, self.samples)), into, out)
            for first, (into, out) in product(range(0, self.samples, samples), slices(x.places_in, planes, x.takers))
        ]


def _repeated(matrix: Tensor, times: int) -> Tensor:
    """The same matrix for each of a batch, (batch, row, column)."""
    return matrix.expand(times, *matrix.shape)
