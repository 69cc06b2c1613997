"""A steerable convolution that never makes its kernel: passes of short filters along x, y and z.

    kernel[m, n](x, y, z) = sum over a + b + c <= levels of  mixing[abc, m, n] * h_a(x) * h_b(y) * h_c(z)

The h are oscillator functions, and the change from spherical to Cartesian products is exact; float64 both, in
basis.safetensors. The channels are mixed after some of the passes. If these are those along x, then alpha = (a) and
beta = (b, c):

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
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import groupby, pairwise, product
from math import prod
from typing import Any, NamedTuple, Sequence  # noqa: UP035, of operators torch 2.6 reads no other Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ._constants import At, tensors
from ._steerable import FieldType, Filters, SteerableConv3d, _norms

BLOCK = 64  # the most outputs a pass along y or z makes at a time: its matrix is zero off a band
CACHE = 1 << 23  # numbers in u and v of one part of the work, on a CPU
WORKSPACE = 1 << 25  # the same elsewhere

KINDS = 4  # of signs under the half turns about the axes

Index = tuple[int, ...]
Fields = dict[tuple[Index, int], Tensor]  # (index, kind of channel) -> (channel of that kind, sample, x, y, z)


class Passes(NamedTuple):
    """The change from filters to products, and the taps of the short filters."""

    products: Tensor  # (filter, product), of filters divided by their norms, products in the order of `_grouped`
    taps_x: Tensor  # (level, tap)
    taps_y: Tensor
    taps_z: Tensor
    entries: Tensor  # int64: where in (product, channel out, channel in) the numbers of all matrices are, row by row
    channels_in: Tensor  # int64: the channels, by kind
    channels_out: Tensor


class SeparableConv3d(SteerableConv3d):
    """The map of `SteerableConv3d`, with the same weights, by passes along x, y and z.

    Exports and traces hold the dense convolution, whose operators every run time has; so do torch.func's transforms and
    forward-mode derivatives.
    """

    passes_before: int  # the mixing; under a stride all three are, so that the channels of fewer voxels are mixed
    smallest: dict[int, int] | None = None  # stride -> from how many voxels, samples together; None: passes always

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of (batch, channel in, x, y, z)."""
        if _is_exporting() or _is_transformed() or not self._is_worthwhile(input):
            return super().forward(input)
        mixing = self._in_full_precision(self._mixing)
        self._check(input, mixing.dtype)
        if self._is_autocast():
            dtype = torch.get_autocast_dtype(input.device.type) if mixing.dtype != torch.float64 else mixing.dtype
            input, mixing = input.to(dtype), mixing.to(dtype)
        _, *taps, _, channels_in, channels_out = self._passes()
        taps = [table.to(mixing.dtype) for table in taps]
        geometry = [*self.stride, *self.padding, *self.dilation]
        rest = self._counts(), geometry, self._before
        output: Tensor = separable_conv3d(input, mixing, *taps, channels_in, channels_out, *rest)
        bias = self._channel_bias()
        return output if bias is None else output.add_(bias.to(output.dtype).view(-1, 1, 1, 1))

    def _is_worthwhile(self, input: Tensor) -> bool:
        """Whether passes are the faster way. torch.compile makes one graph for either, not one for every size."""
        if self.smallest is None or input.ndim != 5:
            return True
        smallest = self.smallest.get(max(self.stride))
        samples, _, x, y, z = input.shape
        return smallest is not None and samples * x * y * z >= smallest

    def _mixing(self) -> Tensor:
        """The numbers of all matrices that mix the channels, one after another, as `_entries` has them."""
        weight, passes = self.weight, self._passes()
        coefficients = self._coefficients(weight, self._constants("_make_constants", weight))
        mixing = passes.products.t() @ coefficients.t()  # (product, channel out and channel in)
        return mixing.flatten().index_select(0, passes.entries).to(weight.dtype)

    def _passes(self) -> Passes:
        passes: Passes = self._constants("_make_passes", self.weight, self._before)
        return passes

    @classmethod
    def _counts(cls) -> list[int]:
        """How many channels are of each kind, of the input, then of the output."""
        return _counts(cls.in_type) + _counts(cls.out_type)

    @property
    def _before(self) -> int:
        return self.passes_before if self.stride == (1, 1, 1) else 3

    @classmethod
    def _make_passes(cls, at: At, before: int) -> Passes:
        products = cls._rows(at, _unit_products, cls.basis_sha256, cls.filter_tensor, cls.filters)
        taps = [at(tensors(cls.basis_sha256)[f"{cls.filter_tensor}_{axis}"]) for axis in "xyz"]
        entries = at(_entries(cls.in_type, cls.out_type, len(taps[0]) - 1, before))
        return Passes(products, *taps, entries, at(_by_kind(cls.in_type)), at(_by_kind(cls.out_type)))


@functools.cache
def _unit_products(basis_sha256: str, name: str, filters: tuple[Filters, ...]) -> Tensor:
    """Every filter of a tensor, divided by its norm, as a sum of products: (filter, product)."""
    return tensors(basis_sha256)[f"{name}_products"] / _norms(basis_sha256, name, filters).unsqueeze(1)


@functools.cache
def _entries(in_type: FieldType, out_type: FieldType, levels: int, before: int) -> Tensor:
    """For each number of `_Work.matrices`, where it is in the flattened (product, channel out, channel in)."""
    position = {abc: i for i, abc in enumerate(_indices(3, levels))}
    channels_in, channels_out = _channels_by_kind(in_type), _channels_by_kind(out_type)
    into, out = sum(map(len, channels_in)), sum(map(len, channels_out))
    entries: list[Tensor] = []
    for betas, alphas in _grouped(levels, before):
        for q in range(KINDS):
            columns = [(alpha, n) for alpha in alphas for n in channels_in[q ^ _kind(alpha, 0)]]
            rows = [(beta, m) for beta in betas for m in channels_out[q ^ _kind(beta, before)]]
            entries += [
                torch.tensor([(position[alpha + beta] * out + m) * into + n for alpha, n in columns], dtype=torch.int64)
                for beta, m in rows
            ]
    return torch.cat(entries)


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
def _by_kind(field_type: FieldType) -> Tensor:
    """The channels, those of kind 0 first, int64."""
    return torch.tensor([i for channels in _channels_by_kind(field_type) for i in channels], dtype=torch.int64)


def _counts(field_type: FieldType) -> list[int]:
    """How many channels are of each kind; without a cache, which torch.compile warns of."""
    counts = [0] * KINDS
    for multiplicity, degree, _ in field_type:
        for order in range(-degree, degree + 1):
            counts[_kind_of_component(degree, order)] += multiplicity
    return counts


def _is_exporting() -> bool:
    """Whether a graph is being made for another run time; torch 2.6 cannot tell this from torch.compile."""
    jit: Any = torch.jit
    compiler: Any = torch.compiler
    if jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    return bool(compiler.is_exporting() if hasattr(compiler, "is_exporting") else compiler.is_compiling())


def _is_transformed() -> bool:
    """Whether torch.func, or a forward-mode derivative, is at work: the operators here have backward passes alone.

    No public function tells. If these private functions are missing, the answer is yes: the dense convolution is right
    in every case.
    """
    transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
    forward_level: int = getattr(torch.autograd.forward_ad, "_current_level", 0)
    return bool(transforms_active() or forward_level >= 0)


def _library() -> str:
    """A name for the operators of this module, made of letters only; another one after a reload."""
    name = f"basisgen_{sha256(__name__.encode()).hexdigest()[:16]}"
    while hasattr(getattr(torch.ops, name), "separable_conv3d"):
        name += "_"
    return name


_LIBRARY = _library()  # opaque to torch.compile, which keeps the parts, and the memory


@torch.library.custom_op(f"{_LIBRARY}::separable_conv3d", mutates_args=())
def separable_conv3d(
    input: Tensor,
    mixing: Tensor,
    taps_x: Tensor,
    taps_y: Tensor,
    taps_z: Tensor,
    channels_in: Tensor,
    channels_out: Tensor,
    counts: Sequence[int],
    geometry: Sequence[int],
    before: int,
) -> Tensor:
    """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z').

    `mixing` holds the numbers of `_Work.matrices`; taps are (level, tap). The channels are listed by kind; `counts` are
    those of each kind, of the input, then of the output. `geometry` is stride, padding, dilation, three numbers each.
    """
    work = _Work(input, (taps_x, taps_y, taps_z), counts, geometry, before)
    volume, output = input.contiguous(), _empty(input, len(channels_out), work.output_size)
    if not before:
        output.zero_()  # parts overlap
    groups = list(zip(work.groups, work.matrices(mixing), strict=True))
    for part in work.parts():
        u = _spread(part.of_input(volume).index_select(0, channels_in), work.into, part.forth[:before], 2, work)
        v_of: Fields = {}
        for (betas, _), matrices in groups:
            for q, (matrix, rows) in enumerate(zip(matrices, u, strict=True)):
                v = _multiply(matrix, rows[: matrix.shape[1]].flatten(1)).view(-1, *rows.shape[1:])
                v_of |= work.out.fields(v, q, betas)
        sums = _gather(v_of, part.forth[before:], 2 + before)
        if before:
            part.of_output(output).index_copy_(0, channels_out, sums)
        else:
            part.of_output(output).index_add_(0, channels_out, sums)
    return output


@separable_conv3d.register_fake
def _(
    input: Tensor,
    mixing: Tensor,
    taps_x: Tensor,
    taps_y: Tensor,
    taps_z: Tensor,
    channels_in: Tensor,
    channels_out: Tensor,
    counts: Sequence[int],
    geometry: Sequence[int],
    before: int,
) -> Tensor:
    return _empty(input, len(channels_out), _output_size(input, (taps_x, taps_y, taps_z), geometry))


@torch.library.custom_op(f"{_LIBRARY}::separable_conv3d_backward", mutates_args=())
def separable_conv3d_backward(
    gradient: Tensor,
    input: Tensor,
    mixing: Tensor,
    taps_x: Tensor,
    taps_y: Tensor,
    taps_z: Tensor,
    channels_in: Tensor,
    channels_out: Tensor,
    counts: Sequence[int],
    geometry: Sequence[int],
    before: int,
    of_input: bool,
    of_mixing: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of `input` and `mixing`, from that of the output; empty where not asked for."""
    work = _Work(input, (taps_x, taps_y, taps_z), counts, geometry, before)
    volume, gradient = input.contiguous(), gradient.contiguous()
    grad_input, grad_mixing = input.new_empty(0), mixing.new_empty(0)
    matrices = work.matrices(mixing)
    if of_input:
        grad_input = _empty(input, input.shape[1], input.shape[2:]).zero_()
        transposed = list(zip(_grouped_back(work.levels, before), work.matrices_back(matrices), strict=True))
    if of_mixing:
        sums = [[torch.zeros_like(of_kind, dtype=_accumulator(mixing.dtype)) for of_kind in of] for of in matrices]
    for part in work.parts():
        dv = _spread(
            part.of_output(gradient).index_select(0, channels_out), work.out, part.back[before:], 2 + before, work
        )
        if of_mixing:
            u = _spread(part.of_input(volume).index_select(0, channels_in), work.into, part.forth[:before], 2, work)
            for q, (rows, columns) in enumerate(zip(dv, u, strict=True)):
                of_groups = rows.flatten(1).split([len(of[q]) for of in matrices])
                for of, field in zip(sums, of_groups, strict=True):
                    of[q] += _multiply(field, columns[: of[q].shape[1]].flatten(1).t())
        if of_input:
            du_of: Fields = {}
            for (alphas, _), of in transposed:
                for q, (matrix, rows) in enumerate(zip(of, dv, strict=True)):
                    du = _multiply(matrix, rows[: matrix.shape[1]].flatten(1)).view(-1, *rows.shape[1:])
                    du_of |= work.into.fields(du, q, alphas)
            part.of_input(grad_input).index_add_(0, channels_in, _gather(du_of, part.back[:before], 2))
    if of_mixing:
        grad_mixing = torch.cat([of_kind.flatten() for of in sums for of_kind in of]).to(mixing.dtype)
    return grad_input, grad_mixing


@separable_conv3d_backward.register_fake
def _(
    gradient: Tensor,
    input: Tensor,
    mixing: Tensor,
    taps_x: Tensor,
    taps_y: Tensor,
    taps_z: Tensor,
    channels_in: Tensor,
    channels_out: Tensor,
    counts: Sequence[int],
    geometry: Sequence[int],
    before: int,
    of_input: bool,
    of_mixing: bool,
) -> tuple[Tensor, Tensor]:
    grad_input = _empty(input, input.shape[1], input.shape[2:]) if of_input else input.new_empty(0)
    return grad_input, torch.empty_like(mixing) if of_mixing else mixing.new_empty(0)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.counts, ctx.geometry, ctx.before = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:2]
    gradients = separable_conv3d_backward(gradient, *ctx.saved_tensors, ctx.counts, ctx.geometry, ctx.before, *wanted)
    return *(tensor if want else None for tensor, want in zip(gradients, wanted, strict=True)), *[None] * 8


def _save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.counts, ctx.geometry, ctx.before, ctx.of_input, ctx.of_mixing = inputs
    ctx.save_for_backward(*tensors)


def _differentiate_backward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
    """The convolution is linear in input and in mixing; `a` is like the input, `b` like the mixing."""
    gradient, input, mixing, *constants = ctx.saved_tensors
    rest = (*constants, ctx.counts, ctx.geometry, ctx.before)
    of_gradient = of_input = of_mixing = None
    if ctx.of_input:
        of_gradient = separable_conv3d(a, mixing, *rest)
        of_mixing = separable_conv3d_backward(gradient, a, mixing, *rest, False, True)[1]
    if ctx.of_mixing:
        of_b = separable_conv3d(input, b, *rest)
        of_gradient = of_b if of_gradient is None else of_gradient + of_b
        of_input = separable_conv3d_backward(gradient, input, b, *rest, True, False)[0]
    return of_gradient, of_input, of_mixing, *[None] * 10


separable_conv3d.register_autograd(_differentiate, setup_context=_save)
separable_conv3d_backward.register_autograd(_differentiate_backward, setup_context=_save_backward)


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


class _Axis(NamedTuple):
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

    def matrices(self, table: Tensor) -> Tensor:
        """(level, place out, place in) of taps (level, tap)."""
        out, into = (torch.arange(n, device=table.device) for n in (self.places, self.places_in))
        offset = into - out.unsqueeze(1) * self.stride + self.padding
        tap = offset.div(self.dilation, rounding_mode="floor")
        is_tap = (offset % self.dilation == 0) & (tap >= 0) & (tap < self.taps)
        return functional.pad(table, (0, 1))[:, torch.where(is_tap, tap, self.taps)]


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

    def number(self, indices: tuple[Index, ...], q: int) -> int:
        """How many pairs of an index and a channel there are with kind(index) ^ kind(channel) = q."""
        return sum(_keys(self, indices, q)[1])

    def fields(self, rows: Tensor, q: int, indices: tuple[Index, ...]) -> Fields:
        """The fields in rows (index and channel, sample, x, y, z) of one q; none where no channel is of the kind."""
        keys, counts = _keys(self, indices, q)
        return {key: part for key, part in zip(keys, rows.split(counts), strict=True) if len(part)}


@functools.cache
def _keys(side: _Side, indices: tuple[Index, ...], q: int) -> tuple[list[tuple[Index, int]], list[int]]:
    """The pairs of an index and a kind of channel for one q, and how many channels each has."""
    keys = [(index, q ^ _kind(index, side.first_axis)) for index in indices]
    return keys, [side.counts[kind] for _, kind in keys]


class _Work:
    """What there is to do for one input: the passes, the groups of products, and the parts."""

    def __init__(
        self,
        input: Tensor,
        taps: tuple[Tensor, Tensor, Tensor],
        counts: Sequence[int],
        geometry: Sequence[int],
        before: int,
    ) -> None:
        self.levels = len(taps[0]) - 1
        self.before = before
        self.groups = _grouped(self.levels, before)
        self.into, self.out = _Side(tuple(counts[:KINDS]), 0), _Side(tuple(counts[KINDS:]), before)
        self.samples = len(input)
        self.output_size = _output_size(input, taps, geometry)
        steps = zip(self.output_size, input.shape[2:], taps, *_triples(geometry), strict=True)
        self.axes = [_Axis(out, into, table.shape[1], s, p, d) for out, into, table, s, p, d in steps]
        self.passes = [axis.matrices(table) for axis, table in zip(self.axes, taps, strict=True)]
        self.on_cpu = input.device.type == "cpu"

    def matrices(self, mixing: Tensor) -> list[list[Tensor]]:
        """For each group of products and each q, (beta and channel out, alpha and channel in)."""
        shapes = [
            (self.out.number(betas, q), self.into.number(alphas, q))
            for betas, alphas in self.groups
            for q in range(KINDS)
        ]
        parts = iter(mixing.split([rows * columns for rows, columns in shapes]))
        matrices = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return [matrices[i : i + KINDS] for i in range(0, len(matrices), KINDS)]

    def matrices_back(self, matrices: list[list[Tensor]]) -> list[list[Tensor]]:
        """The transposed ones, for each group of `_grouped_back`, (alpha and channel in, beta and channel out)."""
        back, first = [], [0] * KINDS
        for alphas, _ in _grouped_back(self.levels, self.before):
            last = [start + self.into.number(alphas, q) for q, start in enumerate(first)]
            held = [of for of, (_, with_betas) in zip(matrices, self.groups, strict=True) if alphas[-1] in with_betas]
            back.append([torch.cat([of[q][:, first[q] : last[q]] for of in held]).t() for q in range(KINDS)])
            first = last
        return back

    def parts(self) -> Iterator[_Part]:
        """Slabs of x-planes of a sample, or whole samples where they are small."""
        x, *others = self.axes
        forth = [_Pass(m, _blocks(a.places, BLOCK, a.taken)) for m, a in zip(self.passes[1:], others, strict=True)]
        back = [
            _Pass(m.transpose(1, 2), _blocks(a.places_in, BLOCK, a.takers))
            for m, a in zip(self.passes[1:], others, strict=True)
        ]
        mixed = [axis.places if i < self.before else axis.places_in for i, axis in enumerate(self.axes)]
        planes, samples = self._sizes(mixed[0], mixed[1] * mixed[2])
        slabs = _blocks(x.places, planes, x.taken) if self.before else _blocks(x.places_in, planes, x.takers)
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
        numbers = len(_indices(3 - self.before, self.levels)) * out + len(_indices(self.before, self.levels)) * into
        voxels = (CACHE if self.on_cpu else WORKSPACE) // numbers
        return max(1, min(planes, voxels // plane)), max(1, voxels // (plane * planes))


def _spread(field: Tensor, side: _Side, passes: list[_Pass], axis: int, work: _Work) -> list[Tensor]:
    """Every correlation of a field along some axes: for each q, (index and channel, sample, x, y, z)."""
    fields: Fields = {((), kind): part for kind, part in enumerate(field.split(side.counts))}
    stage = [fields[(), q] for q in range(KINDS)]
    for number, step in enumerate(passes):
        size = list(stage[0].shape[1:])
        size[axis + number - 1] = step.matrix.shape[1]
        indices = _indices(number + 1, work.levels)
        stage = [field.new_empty(side.number(indices, q), *size) for q in range(KINDS)]
        before, fields = fields, {}
        for q, rows in enumerate(stage):
            fields |= side.fields(rows, q, indices)
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
    return bool(torch.backends.mkl.is_available() and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


@functools.cache
def _indices(axes: int, levels: int) -> tuple[Index, ...]:
    """Every index of some axes with a sum of at most `levels`, by the sum: those of a smaller one are a head of it."""
    indices = [index for index in product(range(levels + 1), repeat=axes) if sum(index) <= levels]
    return tuple(sorted(indices, key=lambda index: (sum(index), index)))


@functools.cache
def _grouped(levels: int, before: int) -> tuple[tuple[tuple[Index, ...], tuple[Index, ...]], ...]:
    """The products in groups: the betas of one sum, and all the alphas they go with."""
    after = _indices(3 - before, levels)
    groups = []
    for level in sorted({sum(beta) for beta in after}):
        betas = tuple(beta for beta in after if sum(beta) == level)
        groups.append((betas, _indices(before, levels - level)))
    return tuple(groups)


@functools.cache
def _grouped_back(levels: int, before: int) -> tuple[tuple[tuple[Index, ...], tuple[Index, ...]], ...]:
    """The same products grouped the other way: the alphas, in order, and all the betas they go with."""
    alphas = _indices(before, levels)
    with_betas = groupby(alphas, lambda alpha: _indices(3 - before, levels - sum(alpha)))
    return tuple((tuple(group), betas) for betas, group in with_betas)


def _blocks(places: int, largest: int, partner: Callable[[slice], slice]) -> list[tuple[slice, slice]]:
    """The places in slices of about one size, each with the slice it meets."""
    count = -(-places // largest)
    edges = [places * i // count for i in range(count + 1)]
    slices = [slice(first, last) for first, last in pairwise(edges)]
    return [(part, partner(part)) for part in slices]


def _clipped(first: int, last: int, places: int) -> slice:
    first = min(max(first, 0), places)
    return slice(first, max(first, min(last + 1, places)))


def _output_size(input: Tensor, taps: tuple[Tensor, ...], geometry: Sequence[int]) -> list[int]:
    axes = zip(input.shape[2:], taps, *_triples(geometry), strict=True)
    size = [(n + 2 * p - d * (table.shape[1] - 1) - 1) // s + 1 for n, table, s, p, d in axes]
    if min(size) < 1 or min(input.shape[2:]) < 1:
        kernel, (_, padding, dilation) = [table.shape[1] for table in taps], _triples(geometry)
        raise ValueError(
            f"a volume of {tuple(input.shape[2:])} voxels, padded by {tuple(padding)}, is smaller than the kernel of "
            f"{tuple(kernel)} taps with dilation {tuple(dilation)}. Pad more, or take larger volumes."
        )
    return size


def _empty(like: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    """A volume in the memory format of another."""
    keep = like.is_contiguous(memory_format=torch.channels_last_3d) and not like.is_contiguous()
    memory_format = torch.channels_last_3d if keep else torch.contiguous_format
    shape = (len(like), channels, *size)
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _triples(numbers: Sequence[int]) -> list[Sequence[int]]:
    return [numbers[:3], numbers[3:6], numbers[6:]]
