"""The passes of a separable convolution on a CPU: in parts that stay in its caches, without the zeros.

The channels are mixed after some of the passes. If these are those along x, then alpha = (a) and beta = (b, c):

    u[alpha, n] = input[n] correlated with h_a
    v[beta, m]  = sum over alpha and n of  mixing[alpha beta, m, n] * u[alpha, n]        |alpha| + |beta| <= levels
    output[m]   = sum over beta of  v[beta, m] correlated with h_b and h_c

Three quarters of the mixing are zero. Under the half turns about x, y and z a component of a field keeps or changes its
sign, and so does a product of short filters. That makes four kinds, with numbers 0 to 3 such that the kind of a product
of functions is the exclusive or (^) of theirs. The kernel is equivariant under half turns, so mixing[abc, m, n] = 0
unless kind(abc) = kind(m) ^ kind(n): from u with kind(alpha) ^ kind(n) = q comes v with kind(beta) ^ kind(m) = q alone.
The mixing is four matrix products, one for each q.

That is products * channels in * channels out / 4 multiply-adds per voxel in place of taps * channels in * channels out.
The work is done in parts, which keeps u and v small, and the backward pass makes u again.
"""

import functools
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._passes import Axis, Index, accumulator, empty, indices, slices
from ._steerable import FieldType

BLOCK = 64  # the most outputs a pass along y or z makes at a time: its matrix is zero off a band
CACHE = 1 << 23  # numbers in u and v of one part of the work

KINDS = 4  # of signs under the half turns about the axes

Fields = dict[tuple[Index, int], Tensor]  # (index, kind of channel) -> (channel of that kind, sample, x, y, z)


@functools.cache
def entries_by_kind(in_type: FieldType, out_type: FieldType, levels: int, before: int) -> Tensor:
    """For each number of `PartWork.matrices`, where it is in the flattened (product, channel out, channel in)."""
    position = {abc: i for i, abc in enumerate(indices(3, levels))}
    channels_in, channels_out = _channels_by_kind(in_type), _channels_by_kind(out_type)
    into, out = sum(map(len, channels_in)), sum(map(len, channels_out))
    found: list[Tensor] = []
    for betas, alphas in _grouped(levels, before):
        for q in range(KINDS):
            columns = [(alpha, n) for alpha in alphas for n in channels_in[q ^ _kind(alpha, 0)]]
            rows = [(beta, m) for beta in betas for m in channels_out[q ^ _kind(beta, before)]]
            found += [
                torch.tensor([(position[alpha + beta] * out + m) * into + n for alpha, n in columns], dtype=torch.int64)
                for beta, m in rows
            ]
    return torch.cat(found)


def _kind(index: Index, first_axis: int) -> int:
    """That of a product of functions along some axes: function number a is even where a is, odd where a is odd."""
    x, y, z = (*(0,) * first_axis, *index, *(0,) * (3 - first_axis - len(index)))
    return (x ^ y) & 1 | ((y ^ z) & 1) << 1


def _kind_of_component(degree: int, order: int) -> int:
    """That of a real harmonic: Re or Im (order < 0) of (z + ix)^|order|, times a polynomial in y."""
    odd = int(order < 0)
    return _kind((odd, degree - abs(order), abs(order) - odd), 0)


@functools.cache
def _channels_by_kind(field_type: FieldType) -> tuple[tuple[int, ...], ...]:
    kinds = [
        _kind_of_component(degree, order)
        for multiplicity, degree, _ in field_type
        for _ in range(multiplicity)
        for order in range(-degree, degree + 1)
    ]
    return tuple(tuple(i for i, kind in enumerate(kinds) if kind == of) for of in range(KINDS))


@functools.cache
def by_kind(field_type: FieldType) -> Tensor:
    """The channels, those of kind 0 first, int64."""
    return torch.tensor([i for channels in _channels_by_kind(field_type) for i in channels], dtype=torch.int64)


def counts_by_kind(field_type: FieldType) -> list[int]:
    """How many channels are of each kind; without a cache, which torch.compile warns of."""
    numbers = [0] * KINDS
    for multiplicity, degree, _ in field_type:
        for order in range(-degree, degree + 1):
            numbers[_kind_of_component(degree, order)] += multiplicity
    return numbers


class _Pass(NamedTuple):
    """The correlations with every filter along one axis, as matrices; all but zeros lies in the blocks."""

    matrix: Tensor  # (level, place out, place in)
    blocks: list[tuple[slice, slice]]  # the places out, in order, and the places in they come from

    def apply(self, level: int, field: Tensor, axis: int, target: Tensor, accumulate: bool) -> None:
        """Writes into `target`, or adds to it, one correlation of `field`; axes (channel, sample, x, y, z)."""
        _, places, places_in = self.matrix.shape
        outer, inner = prod(field.shape[:axis]), prod(field.shape[axis + 1 :])
        source, target = field.reshape(outer, places_in, inner), target.view(outer, places, inner)
        for out, into in self.blocks:
            matrix = self.matrix[level, out, into]
            if inner == 1:
                target[:, out, 0].addmm_(source[:, into, 0], matrix.t(), beta=int(accumulate))
                continue
            matrices = matrix.expand(outer, *matrix.shape)
            if len(self.blocks) == 1:
                target.baddbmm_(matrices, source[:, into], beta=int(accumulate))
            else:  # into a part of the target, baddbmm_ is a slow loop
                part = torch.bmm(matrices, source[:, into])
                target[:, out].add_(part) if accumulate else target[:, out].copy_(part)


class _Part(NamedTuple):
    """Some samples, and along x some places out and the places in they take, or the other way round."""

    samples: slice
    out: slice
    into: slice
    forth: list[_Pass]
    back: list[_Pass]

    def of_input(self, volume: Tensor) -> Tensor:
        """(channel, sample, x, y, z)."""
        return volume[self.samples, :, self.into].transpose(0, 1)

    def of_output(self, volume: Tensor) -> Tensor:
        """(channel, sample, x', y', z')."""
        return volume[self.samples, :, self.out].transpose(0, 1)


class _Side(NamedTuple):
    """The channels of the input or of the output, and the axes of the indices that go with them."""

    counts: tuple[int, ...]  # of channels of each kind
    first_axis: int

    def number(self, those: tuple[Index, ...], q: int) -> int:
        """How many pairs of an index and a channel there are with kind(index) ^ kind(channel) = q."""
        return sum(_keys(self, those, q)[1])

    def fields(self, rows: Tensor, q: int, those: tuple[Index, ...]) -> Fields:
        """The fields in rows (index and channel, sample, x, y, z) of one q; none where no channel is of the kind."""
        keys, counts = _keys(self, those, q)
        return {key: part for key, part in zip(keys, rows.split_with_sizes(counts), strict=True) if len(part)}


@functools.cache
def _keys(side: _Side, those: tuple[Index, ...], q: int) -> tuple[list[tuple[Index, int]], list[int]]:
    """The pairs of an index and a kind of channel for one q, and how many channels each has."""
    keys = [(index, q ^ _kind(index, side.first_axis)) for index in those]
    return keys, [side.counts[kind] for _, kind in keys]


class PartWork:
    """What there is to do for one input: the passes, the groups of products, and the parts."""

    def __init__(
        self,
        input: Tensor,
        mixing: Tensor,
        axes: Sequence[Axis],
        tables: Sequence[Tensor],
        channels: tuple[Tensor, Tensor],
        counts: Sequence[int],
        before: int,
    ) -> None:
        self.axes, self.before, self.samples = axes, before, len(input)
        self.levels = len(tables[0]) - 1
        self.groups = _grouped(self.levels, before)
        self.channels_in, self.channels_out = channels
        self.into, self.out = _Side(tuple(counts[:KINDS]), 0), _Side(tuple(counts[KINDS:]), before)
        self.passes = [axis.matrices(table, input.dtype) for axis, table in zip(axes, tables, strict=True)]
        self.mixing = self.matrices(mixing)

    def forward(self, input: Tensor) -> Tensor:
        """(sample, channel in, x, y, z) -> (sample, channel out, x', y', z')."""
        volume, before = input.contiguous(), self.before
        output = empty(input, len(self.channels_out), [axis.places for axis in self.axes])
        if not before:
            output.zero_()  # parts overlap
        for part in self.parts():
            u = self._u(volume, part)
            v_of: Fields = {}
            for (betas, _), matrices in zip(self.groups, self.mixing, strict=True):
                for q, (matrix, rows) in enumerate(zip(matrices, u, strict=True)):
                    v = _multiply(matrix, rows[: matrix.shape[1]].flatten(1)).view(-1, *rows.shape[1:])
                    v_of |= self.out.fields(v, q, betas)
            sums = _gather(v_of, part.forth[before:], 2 + before)
            if before:
                part.of_output(output).index_copy_(0, self.channels_out, sums)
            else:
                part.of_output(output).index_add_(0, self.channels_out, sums)
        return output

    def backward(
        self, gradient: Tensor, input: Tensor, of_input: bool, of_mixing: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of input and mixing that are asked for, from that of the output."""
        volume, gradient, before = input.contiguous(), gradient.contiguous(), self.before
        grad_input = empty(input, input.shape[1], input.shape[2:]).zero_() if of_input else None
        mixing = self.mixing if of_mixing else []
        sums = [[torch.zeros_like(of_q, dtype=accumulator(of_q.dtype)) for of_q in of] for of in mixing]
        transposed = self.matrices_back() if of_input else []
        for part in self.parts():
            field = part.of_output(gradient).index_select(0, self.channels_out)
            dv = _spread(field, self.out, part.back[before:], 2 + before, self.levels)
            if of_mixing:
                for q, (rows, columns) in enumerate(zip(dv, self._u(volume, part), strict=True)):
                    of_groups = rows.flatten(1).split_with_sizes([len(of[q]) for of in self.mixing])
                    for of, field in zip(sums, of_groups, strict=True):
                        of[q] += _multiply(field, columns[: of[q].shape[1]].flatten(1).t())
            if grad_input is not None:
                du_of: Fields = {}
                for alphas, of in transposed:
                    for q, (matrix, rows) in enumerate(zip(of, dv, strict=True)):
                        du = _multiply(matrix, rows[: matrix.shape[1]].flatten(1)).view(-1, *rows.shape[1:])
                        du_of |= self.into.fields(du, q, alphas)
                part.of_input(grad_input).index_add_(0, self.channels_in, _gather(du_of, part.back[:before], 2))
        of_all = torch.cat([of_q.flatten() for of in sums for of_q in of]).to(input.dtype) if of_mixing else None
        return grad_input, of_all

    def _u(self, volume: Tensor, part: _Part) -> list[Tensor]:
        """For each q, (alpha and channel in, sample, x, y, z)."""
        field = part.of_input(volume).index_select(0, self.channels_in)
        return _spread(field, self.into, part.forth[: self.before], 2, self.levels)

    def matrices(self, mixing: Tensor) -> list[list[Tensor]]:
        """For each group of products and each q, (beta and channel out, alpha and channel in)."""
        shapes = [
            (self.out.number(betas, q), self.into.number(alphas, q))
            for betas, alphas in self.groups
            for q in range(KINDS)
        ]
        parts = iter(mixing.split_with_sizes([rows * columns for rows, columns in shapes]))
        matrices = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return [matrices[i : i + KINDS] for i in range(0, len(matrices), KINDS)]

    def matrices_back(self) -> list[tuple[tuple[Index, ...], list[Tensor]]]:
        """The transposed ones by alphas: for each q, (alpha and channel in, beta and channel out)."""
        back, first = [], [0] * KINDS
        for alphas, _ in _grouped_back(self.levels, self.before):
            last = [start + self.into.number(alphas, q) for q, start in enumerate(first)]
            held = [
                of for of, (_, with_betas) in zip(self.mixing, self.groups, strict=True) if alphas[-1] in with_betas
            ]
            back.append((alphas, [torch.cat([of[q][:, first[q] : last[q]] for of in held]).t() for q in range(KINDS)]))
            first = last
        return back

    def parts(self) -> Iterator[_Part]:
        """Slabs of x-planes of a sample, or whole samples where they are small."""
        x, *others = self.axes
        forth = [_Pass(m, slices(a.places, BLOCK, a.taken)) for m, a in zip(self.passes[1:], others, strict=True)]
        back = [
            _Pass(m.transpose(1, 2), slices(a.places_in, BLOCK, a.takers))
            for m, a in zip(self.passes[1:], others, strict=True)
        ]
        mixed = [axis.places if i < self.before else axis.places_in for i, axis in enumerate(self.axes)]
        planes, samples = self._sizes(mixed[0], mixed[1] * mixed[2])
        slabs = slices(x.places, planes, x.taken) if self.before else slices(x.places_in, planes, x.takers)
        for first in range(0, self.samples, samples):
            for slab in slabs:
                out, into = slab if self.before else slab[::-1]
                matrix = self.passes[0][:, out, into]  # (level, x out, x in)
                all_out, all_in = slice(0, matrix.shape[1]), slice(0, matrix.shape[2])
                along_x = _Pass(matrix, [(all_out, all_in)]), _Pass(matrix.transpose(1, 2), [(all_in, all_out)])
                part = slice(first, min(first + samples, self.samples))
                yield _Part(part, out, into, [along_x[0], *forth], [along_x[1], *back])

    def _sizes(self, planes: int, plane: int) -> tuple[int, int]:
        """How many planes of how many voxels, and how many samples, are mixed at a time."""
        out, into = sum(self.out.counts), sum(self.into.counts)
        numbers = len(indices(3 - self.before, self.levels)) * out + len(indices(self.before, self.levels)) * into
        voxels = CACHE // numbers
        return max(1, min(planes, voxels // plane)), max(1, voxels // (plane * planes))


def _spread(field: Tensor, side: _Side, passes: list[_Pass], axis: int, levels: int) -> list[Tensor]:
    """Every correlation of a field along some axes: for each q, (index and channel, sample, x, y, z)."""
    fields: Fields = {((), kind): part for kind, part in enumerate(field.split_with_sizes(side.counts))}
    stage = [fields[(), q] for q in range(KINDS)]
    for number, step in enumerate(passes):
        size = list(stage[0].shape[1:])
        size[axis + number - 1] = step.matrix.shape[1]
        those = indices(number + 1, levels)
        stage = [field.new_empty(side.number(those, q), *size) for q in range(KINDS)]
        before, fields = fields, {}
        for q, rows in enumerate(stage):
            fields |= side.fields(rows, q, those)
        for (index, kind), target in fields.items():
            step.apply(index[-1], before[index[:-1], kind], axis + number, target, False)
    return stage


def _gather(fields: Fields, passes: list[_Pass], axis: int) -> Tensor:
    """The sum over the indices of each field's correlations: (channel, by kind, sample, x, y, z)."""
    for number in reversed(range(len(passes))):
        sums: Fields = {}
        for (index, kind), field in fields.items():
            key = index[:-1], kind
            is_first = key not in sums
            if is_first:
                size = list(field.shape)
                size[axis + number] = passes[number].matrix.shape[1]
                sums[key] = field.new_empty(size)
            passes[number].apply(index[-1], field, axis + number, sums[key], not is_first)
        fields = sums
    return torch.cat([fields[key] for key in sorted(fields)])


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """a @ b; on a CPU that is not Intel's by oneDNN: there BLAS can be half as fast, where conv3d is not.

    The operator is the one torch.compile calls for linear layers; like those, it heeds set_float32_matmul_precision.
    """
    if b.device.type == "cpu" and b.dtype == torch.float32 and a.numel() and not _is_blas_fast():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
        return result
    return a @ b


@functools.cache
def _is_blas_fast() -> bool:
    """Whether BLAS is MKL on Intel's processors, the ones with AMX: for short matrices 1.3 to 2 times oneDNN."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return True
    mkl: Any = torch.backends.mkl
    return bool(mkl.is_available() and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


@functools.cache
def _grouped(levels: int, before: int) -> tuple[tuple[tuple[Index, ...], tuple[Index, ...]], ...]:
    """The products in groups: the betas of one sum, and all the alphas they go with."""
    after = indices(3 - before, levels)
    groups = []
    for level in sorted({sum(beta) for beta in after}):
        betas = tuple(beta for beta in after if sum(beta) == level)
        groups.append((betas, indices(before, levels - level)))
    return tuple(groups)


@functools.cache
def _grouped_back(levels: int, before: int) -> tuple[tuple[tuple[Index, ...], tuple[Index, ...]], ...]:
    """The same products grouped the other way: the alphas, in order, and all the betas they go with."""
    alphas = indices(before, levels)
    with_betas = groupby(alphas, lambda alpha: indices(3 - before, levels - sum(alpha)))
    return tuple((tuple(group), betas) for betas, group in with_betas)
