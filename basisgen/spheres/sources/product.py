"""Products of two fields, channel by channel: what every tensor product of this package shares.

    out[p, k, M] = sum over m and n of  C[l1 m, l2 n; l M] * first[t, k, m] * second[t', k, n],    one p per path, t, t'

C are real Clebsch-Gordan coefficients, float64 in basis.safetensors; each C[.., M] has length 1, so that independent
inputs of unit variance give outputs of unit variance. A term of multiplicity x degree is `multiplicity / channels`
fragments t, each of `channels` channels k. Where both inputs are one field, t and t' of one degree are an unordered
pair, and the antisymmetric square of one fragment, which vanishes, is left out.

On a CPU with a C++ compiler `_product.cpp` does the work; elsewhere, and as its equal in every case, stock torch: for
one fragment of the first field at a time all its products, which stay in cache, and one sparse matrix. On a GPU a class
may name another way, where `basisgen tune` measured it to be faster.
"""

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._compiled import MAX_ROWS, Kernel, is_available
from ._constants import _outside_modes, tensors
from ._layer import GeneratedLayer, _is_exporting, _is_transformed

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term
Paths = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]  # (out term, its pairs (first term, second term)), in order

CACHE = 1 << 18  # numbers in the products of one fragment and some lanes, on a CPU
WORKSPACE = 1 << 26  # the same elsewhere


class TensorProduct(GeneratedLayer):
    """The product of a field with itself, or of two: (batch, channel, *space) -> (batch, channel out, *space).

    Any number of axes may follow the channels. There are no weights. The state says which products these are, since
    weights behind other products of the same field types would load without an error, and be wrong.
    """

    basisgen_kind = "product"

    in_type: FieldType
    second_type: FieldType | None = None  # None: the second factor is the first
    out_type: FieldType
    products_type: FieldType | None = None  # of all products, where a projection of them is what comes out
    basis_sha256: str  # of basis.safetensors
    channels: int
    paths: Paths
    on_gpu: "type[Way] | None" = None  # None: stock torch

    def __init__(self) -> None:
        super().__init__()
        self.in_channels = _size(self.in_type)
        self.second_channels = _size(self.second_type or self.in_type)
        self.out_channels = _size(self.out_type)
        self._key = f"{type(self).__module__}:{type(self).__qualname__}"
        _CLASSES[self._key] = type(self)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """See GeneratedLayer."""
        super().__setstate__(state)
        _CLASSES[self._key] = type(self)

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        second = f" x {_text(cls.second_type)}" if cls.second_type else ""
        pairs = ", ".join(f"{a}*{b} -> {term}" for term, of_term in cls.paths for a, b in of_term)
        return f"{_text(cls.in_type)}{second} -> {_text(cls.out_type)}, channels {cls.channels}, of terms {pairs}"

    def forward(self, input: Tensor, second: Tensor | None = None) -> Tensor:
        """The products of `input` with itself, or with `second` where the class has a second type."""
        self._check(input, second)
        if second is not None and second.dtype != input.dtype:
            common = torch.promote_types(input.dtype, second.dtype)
            input, second = input.to(common), second.to(common)
        if _is_exporting() or _is_transformed() or input.device.type not in ("cpu", "cuda"):
            return _plain(input, second, self.table(), self.padded())
        plain = type(input) in (Tensor, nn.Parameter) and not torch.compiler.is_compiling()
        multiply: Any = _Product.apply if plain else _operator
        output: Tensor = multiply(input, second, self._key)
        return output

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        second = f" x {_text(self.second_type)}" if self.second_type else ""
        paths = sum(len(pairs) for _, pairs in self.paths)
        return f"{_text(self.in_type)}{second} -> {_text(self.out_type)}, channels={self.channels}, paths={paths}"

    def _check(self, input: Tensor, second: Tensor | None) -> None:
        if (second is None) != (self.second_type is None):
            wanted = "one field" if self.second_type is None else "two fields"
            raise ValueError(f"{type(self).__name__} multiplies {wanted}")
        for name, field, channels in (("", input, self.in_channels), ("second ", second, self.second_channels)):
            if field is None:
                continue
            if field.ndim < 2 or field.shape[1] != channels:
                raise ValueError(
                    f"{type(self).__name__} takes a {name}field (batch, {channels}, ...), got {tuple(field.shape)}"
                )
            if not field.is_floating_point():
                raise ValueError(f"{type(self).__name__} takes real numbers, got a {name}field of {field.dtype}")
        if second is not None and (second.shape[0] != input.shape[0] or second.shape[2:] != input.shape[2:]):
            raise ValueError(
                f"{type(self).__name__} takes fields of one batch and space, got {tuple(input.shape)} and "
                f"{tuple(second.shape)}"
            )

    @classmethod
    @functools.cache
    def table(cls) -> "Table":
        """The coefficients between rows, float64 on the CPU; made by the first call, never changed."""
        return _outside_modes(_expand, cls)

    @classmethod
    @functools.cache
    def padded(cls) -> "Padded":
        """The table for `_plain`."""
        return _outside_modes(_pad, cls.table())


class Tile(NamedTuple):
    """Some of the lanes of a field."""

    batch: slice
    channel: slice
    site: slice

    @property
    def lanes(self) -> int:
        """How many."""
        return prod(part.stop - part.start for part in self)


class Field(NamedTuple):
    """A field as rows: the components of its fragments in order, each row holding every channel, sample and site."""

    terms: tuple[tuple[int, int], ...]  # (fragments, components) of each term
    channels: int

    @property
    def rows(self) -> int:
        """How many."""
        return sum(fragments * dim for fragments, dim in self.terms)

    @property
    def dims(self) -> list[int]:
        """The components of each fragment."""
        return [dim for fragments, dim in self.terms for _ in range(fragments)]

    def to_rows(self, field: Tensor) -> Tensor:
        """(batch, channel, *space) -> (row, batch and channel and site)."""
        # (fragment, component, batch, channel, site) -> (row, ..)
        return torch.cat([term.flatten(2).flatten(0, 1) for term in self._terms(field)])

    def of_rows(self, rows: Tensor, like: Tensor) -> Tensor:
        """The inverse; the batch and the space are those of `like`."""
        batch, space = like.shape[0], like.shape[2:]
        parts = []
        for term, (fragments, dim) in zip(rows.split_with_sizes(self._rows), self.terms, strict=True):
            # (fragment, component, batch, channel, site) -> (batch, fragment, channel, component, site)
            shape = (fragments, dim, batch, self.channels, prod(space))
            parts.append(term.reshape(shape).permute(2, 0, 3, 1, 4).flatten(1, 3))
        # (batch, channel, site) -> (batch, channel, *space)
        return torch.cat(parts, 1).reshape(batch, sum(self._sizes), *space)

    def read(self, field: Tensor, tile: "Tile") -> Tensor:
        """The rows of some lanes of a contiguous field, (row, lane)."""
        if tile.channel == slice(0, self.channels):
            # (batch, row and channel, site) -> (row, batch and channel and site)
            part = field[tile.batch].flatten(2)[..., tile.site] if field.ndim > 2 else field[tile.batch].unsqueeze(2)
            gathered = part.index_select(1, _order_of_rows(self, str(field.device)))
            shape = (len(part), self.rows, self.channels, part.shape[2])
            return gathered.view(shape).transpose(0, 1).reshape(self.rows, tile.lanes)
        rows = field.new_empty(self.rows, tile.lanes)
        for target, term in zip(rows.split_with_sizes(self._rows), self._terms(field), strict=True):
            part = term[(..., *tile)]
            target.view(part.shape).copy_(part)  # (row, lane) <- (fragment, component, batch, channel, site)
        return rows

    def write(
        self, field: Tensor, tile: "Tile", rows: Tensor, order: Tensor | None = None, taken: Tensor | None = None
    ) -> None:
        """The inverse, into a contiguous field; row i of it is `rows[order[i]]`, and `taken` that for channels."""
        if tile.channel == slice(0, self.channels):
            channels = _order_of_channels(self, str(field.device)) if taken is None else taken
            target = field[tile.batch].flatten(2)[..., tile.site] if field.ndim > 2 else field[tile.batch].unsqueeze(2)
            shape = (self.rows, len(target), self.channels, target.shape[2])
            # (row, batch, channel, site) -> (batch, row and channel, site)
            by_batch = rows.view(shape).transpose(0, 1).reshape(len(target), -1, target.shape[2])
            if target.is_contiguous():
                torch.index_select(by_batch, 1, channels, out=target)
            else:
                target.copy_(by_batch.index_select(1, channels))
            return
        orders = order.split_with_sizes(self._rows) if order is not None else [None] * len(self.terms)
        for term, sources, part in zip(self._terms(field), orders, rows.split_with_sizes(self._rows), strict=True):
            target = term[(..., *tile)]
            # (row, lane) -> (fragment, component, batch, channel, site)
            target.copy_((part if sources is None else rows.index_select(0, sources)).view(target.shape))

    def _terms(self, field: Tensor) -> Iterator[Tensor]:
        """Views of the terms, (fragment, component, batch, channel, site)."""
        for term, (fragments, dim) in zip(field.split_with_sizes(self._sizes, 1), self.terms, strict=True):
            shape = (field.shape[0], fragments, self.channels, dim, prod(field.shape[2:]))
            yield term.reshape(shape).permute(1, 3, 0, 2, 4)  # from (batch, fragment, channel, component, site)

    @property
    def _rows(self) -> list[int]:
        return [fragments * dim for fragments, dim in self.terms]

    @property
    def _sizes(self) -> list[int]:
        return [fragments * self.channels * dim for fragments, dim in self.terms]


@functools.cache
def _order_of_rows(field: Field, device: str) -> Tensor:
    """The channel of a field at each (row, channel of a fragment)."""
    return _order_of_channels(field, device).argsort()


@functools.cache
def _order_of_channels(field: Field, device: str) -> Tensor:
    """The (row, channel of a fragment) of each channel of a field, counted through."""
    parts, first = [], 0
    for fragments, dim in field.terms:
        # (fragment, channel, component)
        row = first + torch.arange(fragments).view(-1, 1, 1) * dim + torch.arange(dim)
        parts.append((row * field.channels + torch.arange(field.channels).view(1, -1, 1)).flatten())
        first += fragments * dim
    return torch.cat(parts).to(device)


class Table(NamedTuple):
    """out row = sum of value * first row * second row, entries sorted by out row; float64 and int64, on the CPU."""

    first: Field
    second: Field
    out: Field
    out_row: Tensor  # (entry)
    first_row: Tensor
    second_row: Tensor
    value: Tensor
    square: bool


class Padded(NamedTuple):
    """The same table with equally many entries for every out row, those that are too many being zero."""

    first_row: Tensor  # (out row and slot)
    second_row: Tensor
    value: Tensor  # (out row, slot)


def _pad(table: Table) -> Padded:
    counts = torch.bincount(table.out_row, minlength=table.out.rows)
    slots = int(counts.max())
    slot = torch.arange(len(table.out_row)) - (counts.cumsum(0) - counts)[table.out_row]
    place = table.out_row * slots + slot
    empty = torch.zeros(table.out.rows * slots, dtype=torch.int64)
    first, second = (empty.index_copy(0, place, rows) for rows in (table.first_row, table.second_row))
    value = empty.double().index_copy(0, place, table.value)
    return Padded(first, second, value.view(-1, slots))  # (out row and slot) -> (out row, slot)


def _expand(cls: type[TensorProduct]) -> Table:
    """Copies the coefficients of each path to all fragments it connects."""
    square = cls.second_type is None
    first, second, out = (
        _field(field, cls.channels)
        for field in (cls.in_type, cls.second_type or cls.in_type, cls.products_type or cls.out_type)
    )
    first_row, second_row, out_row = (_starts(field) for field in (first, second, out))
    couplings = _couplings(cls.basis_sha256)
    parts = []
    for o, pairs in cls.paths:
        position = out_row[o]
        for i, j in pairs:
            (fragments_i, dim_i), (fragments_j, dim_j), (_, dim_o) = first.terms[i], second.terms[j], out.terms[o]
            m, n, M, value = couplings[dim_i // 2, dim_j // 2, dim_o // 2]
            t, u = (
                index.flatten()
                for index in torch.meshgrid(torch.arange(fragments_i), torch.arange(fragments_j), indexing="ij")
            )
            even = (dim_i + dim_j + dim_o - 3) // 2 % 2 == 0
            if square and i == j:
                kept = (t <= u) if even else (t < u)
                t, u = t[kept], u[kept]
            # axes: (fragment pair, coefficient)
            rows = torch.stack(
                [
                    position + torch.arange(len(t)).unsqueeze(1) * dim_o + M,
                    first_row[i] + t.unsqueeze(1) * dim_i + m,
                    second_row[j] + u.unsqueeze(1) * dim_j + n,
                ]
            )
            values = value.expand(len(t), -1)
            position += len(t) * dim_o
            if square and i == j and even:  # of one fragment x_m x_n and x_n x_m are the same
                once = (t != u).unsqueeze(1) | (m <= n)
                values = torch.where((t == u).unsqueeze(1) & (m < n), 2 * values, values)[once]
                rows = rows[:, once]
            parts.append((rows.reshape(3, -1), values.reshape(-1)))  # (out, first, second; pair and coefficient)
        assert position == out_row[o] + prod(out.terms[o]), "the out type does not count the paths"
    rows, values = torch.cat([rows for rows, _ in parts], 1), torch.cat([values for _, values in parts])
    order = rows[0].argsort(stable=True)
    sorted_rows = rows[:, order]
    return Table(first, second, out, sorted_rows[0], sorted_rows[1], sorted_rows[2], values[order], square)


def _field(field_type: FieldType, channels: int) -> Field:
    return Field(tuple((multiplicity // channels, 2 * degree + 1) for multiplicity, degree, _ in field_type), channels)


def _starts(field: Field) -> list[int]:
    sizes = [fragments * dim for fragments, dim in field.terms]
    return [sum(sizes[:i]) for i in range(len(sizes))]


@functools.cache
def _couplings(basis_sha256: str) -> dict[tuple[int, int, int], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(l1, l2, l) -> orders m + l1, n + l2, M + l and value of each coefficient."""
    tables = tensors(basis_sha256)
    paths = tables["coupling_degrees"].tolist()
    counts = tables["coupling_counts"].tolist()
    orders, values = (
        tables["coupling_orders"].long().split_with_sizes(counts),
        tables["coupling_values"].split_with_sizes(counts),
    )
    return {
        (l1, l2, l): (o[:, 0], o[:, 1], o[:, 2], v) for (l1, l2, l), o, v in zip(paths, orders, values, strict=True)
    }


def _plain(input: Tensor, second: Tensor | None, table: Table, padded: Padded) -> Tensor:
    """The product in operators that every run time and every transform has; takes the memory of all its terms."""
    dtype = input.dtype if input.dtype == torch.float64 else torch.float32
    x = table.first.to_rows(input.to(dtype))
    y = x if second is None else table.second.to_rows(second.to(dtype))
    first, second_rows = (rows.to(input.device) for rows in (padded.first_row, padded.second_row))
    # (out row, slot, lane)
    shape = (*padded.value.shape, x.shape[1])
    factors = x.index_select(0, first).reshape(shape) * y.index_select(0, second_rows).reshape(shape)
    rows = (padded.value.to(input.device, dtype).unsqueeze(2) * factors).sum(1)
    return table.out.of_rows(rows, input).to(input.dtype)


class Block(NamedTuple):
    """One fragment of the first field with the rows of the second that it meets: all products, and their sums."""

    first: slice
    second: slice | Tensor  # rows
    out: Tensor  # rows
    matrix: Tensor  # sparse (out row, first row and second row)
    transposed: Tensor  # sparse (first row and second row, row of the whole field)


class Way:
    """How the products of a tile are made: from the rows of its fields, (row, lane), on one device in one precision."""

    widest: int  # numbers per lane that it holds for a while
    order: Tensor | None = None  # row i of the output is row order[i] of the products; None: they are in order
    taken: Tensor | None = None  # the same for (row, channel), in the order of the output's channels

    def __init__(self, table: Table, dtype: torch.dtype, device: str) -> None:
        self.table = table

    @classmethod
    def runs_on(cls, device: str) -> bool:
        """Whether it can be had there."""
        return True

    def products(self, a: Tensor, b: Tensor | None) -> Tensor:
        """The products of two fields, or of one with itself, their rows in this way's order."""
        raise NotImplementedError

    def gradients(self, gradient: Tensor, a: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of both fields, from that of the products, its rows in order; of one field their sum, and nothing."""
        raise NotImplementedError

    def in_order(self, a: Tensor, b: Tensor | None) -> Tensor:
        """The products, their rows in order."""
        products = self.products(a, b)
        return products if self.order is None else products.index_select(0, self.order)

    def tiles(self, field: Tensor, channels: int, rows: int = 0) -> Iterator[Tile]:
        """Parts of the lanes whose products, and so many rows beside them, stay in cache."""
        step = max(32, (CACHE if field.device.type == "cpu" else WORKSPACE) // (self.widest + rows))
        sizes = (field.shape[0], channels, prod(field.shape[2:]))
        steps: list[int] = []
        for size in reversed(sizes):
            steps.insert(0, max(1, min(size, step)))
            step //= steps[0]
        parts = [_parts(size, step) for size, step in zip(sizes, steps, strict=True)]
        return (Tile(*slices) for slices in itertools.product(*parts))


def _parts(size: int, step: int) -> list[slice]:
    return [slice(start, min(size, start + step)) for start in range(0, size, step)]


class Stock(Way):
    """The table as blocks."""

    def __init__(self, table: Table, dtype: torch.dtype, device: str) -> None:
        super().__init__(table, dtype, device)
        self._blocks = _blocks(table, dtype, device)
        self.order = torch.cat([block.out for block in self._blocks]).argsort()
        row_and_channel, channels = _order_of_channels(table.out, device), table.out.channels
        self.taken = self.order[row_and_channel // channels] * channels + row_and_channel % channels
        self.widest = max(block.matrix.shape[1] for block in self._blocks)

    def products(self, a: Tensor, b: Tensor | None) -> Tensor:
        """See Way."""
        second = a if b is None else b
        sums = a.new_empty(self.table.out.rows, a.shape[1])
        sizes = [len(block.matrix) for block in self._blocks]
        for block, target in zip(self._blocks, torch.split(sums, sizes), strict=True):
            # (first row, 1, lane) * (1, second row, lane)
            products = a[block.first].unsqueeze(1) * second[block.second]
            _multiply(block.matrix, products.flatten(0, 1), target)  # (out row, product) @ (product, lane)
        return sums

    def gradients(self, gradient: Tensor, a: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See Way."""
        other = a if b is None else b
        ga, gb = torch.zeros_like(a), torch.zeros_like(other)
        workspace = a.new_empty(self.widest, a.shape[1])
        for block in self._blocks:
            first, second = a[block.first], other[block.second]
            products = _multiply(block.transposed, gradient, workspace[: len(block.transposed)])
            products = products.view(len(first), len(second), -1)  # (first row, second row, lane)
            of_second = (products * first.unsqueeze(1)).sum(0)
            ga[block.first] += products.mul_(second).sum(1)
            if isinstance(block.second, slice):
                gb[block.second] += of_second
            else:
                gb.index_add_(0, block.second, of_second)
        return (ga + gb, None) if b is None else (ga, gb)


def _blocks(table: Table, dtype: torch.dtype, device: str) -> list[Block]:
    blocks, start = [], 0
    for dim in table.first.dims:
        kept = (table.first_row >= start) & (table.first_row < start + dim)
        second, column = torch.unique(table.second_row[kept], return_inverse=True)
        out, row = torch.unique(table.out_row[kept], return_inverse=True)
        product, value = (table.first_row[kept] - start) * len(second) + column, table.value[kept]
        products = dim * len(second)
        matrix = _sparse(row, product, value, (len(out), products))
        transposed = _sparse(product, table.out_row[kept], value, (products, table.out.rows))
        if len(out):
            run = slice(int(second[0]), int(second[-1]) + 1)
            constants = (out, matrix.to(dtype), transposed.to(dtype))
            blocks.append(
                Block(
                    slice(start, start + dim),
                    run if run.stop - run.start == len(second) else second.to(device),
                    *(constant.to(device) for constant in constants),
                )
            )
        start += dim
    return blocks


def _sparse(row: Tensor, column: Tensor, value: Tensor, size: tuple[int, int]) -> Tensor:
    order = (row * size[1] + column).argsort()
    counts = torch.bincount(row, minlength=size[0]).cumsum(0)
    start = torch.cat([counts.new_zeros(1), counts])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls them beta
        return torch.sparse_csr_tensor(start.int(), column[order].int(), value[order], size, check_invariants=False)


@functools.cache
def _way(key: str, dtype: torch.dtype, device: str) -> Way:
    cls = _CLASSES[key]
    way = cls.on_gpu if cls.on_gpu is not None and cls.on_gpu.runs_on(device) else Stock
    return way(cls.table(), dtype, device)


def _by_tiles(x: Tensor, y: Tensor | None, way: Way) -> Tensor:
    """The products of contiguous fields."""
    table = way.table
    out = x.new_empty(x.shape[0], sum(table.out._sizes), *x.shape[2:])
    for tile in way.tiles(x, table.out.channels):
        a, b = table.first.read(x, tile), None if y is None else table.second.read(y, tile)
        table.out.write(out, tile, way.products(a, b), way.order, way.taken)
    return out


def _gradients_by_tiles(g: Tensor, x: Tensor, y: Tensor | None, way: Way) -> tuple[Tensor, Tensor]:
    """The gradients of both factors; the products are made again."""
    table = way.table
    gx, gy = torch.empty_like(x), x.new_empty(0) if y is None else torch.empty_like(y)
    for tile in way.tiles(x, table.out.channels):
        gradient = table.out.read(g, tile)
        a, b = table.first.read(x, tile), None if y is None else table.second.read(y, tile)
        ga, gb = way.gradients(gradient, a, b)
        table.first.write(gx, tile, ga)
        if gb is not None:
            table.second.write(gy, tile, gb)
    return gx, gy


def _multiply(matrix: Tensor, field: Tensor, target: Tensor) -> Tensor:
    """`matrix @ field` in the place of `target`; `torch.mm` would write it twice."""
    return torch.addmm(target, matrix, field, beta=0, out=target)


_CLASSES: dict[str, type[TensorProduct]] = {}


def _products(input: Tensor, second: Tensor | None, key: str) -> Tensor:
    """(batch, channel, *space) of one field or two -> the products of class `key`."""
    x, y = _ready(input), None if second is None else _ready(second)
    if (kernel := _kernel(key, x)) is not None:
        return kernel.forward(x, y).to(input.dtype)
    return _by_tiles(x, y, _way(key, x.dtype, str(x.device))).to(input.dtype)


def _gradients(gradient: Tensor, input: Tensor, second: Tensor | None, key: str) -> tuple[Tensor, Tensor]:
    """The gradients of `input` and `second`, from that of the products; of one field their sum, and nothing."""
    g, x, y = _ready(gradient), _ready(input), None if second is None else _ready(second)
    if (kernel := _kernel(key, x)) is not None:
        gx, gy = kernel.backward(g, x, y)
    else:
        gx, gy = _gradients_by_tiles(g, x, y, _way(key, x.dtype, str(x.device)))
    return gx.to(input.dtype), gy.to(input.dtype)


def _ready(field: Tensor) -> Tensor:
    """The tensor, contiguous and in float32 or better."""
    wide = field.dtype in (torch.float32, torch.float64)
    return (field if wide else field.float()).contiguous()


class _Product(torch.autograd.Function):
    """The product as autograd sees it: a few microseconds, where an operator of a library takes a hundred."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, second: Tensor | None, key: str) -> Tensor:
        _save(ctx, (input, second, key), None)
        return _products(input, second, key)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        twice = torch.is_grad_enabled()  # a derivative of this one is wanted
        return _differentiate(ctx, gradient, _Gradients.apply if twice else _gradients)


class _Gradients(torch.autograd.Function):
    """Its gradients, which have gradients themselves."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, input: Tensor, second: Tensor | None, key: str) -> tuple[Tensor, Tensor]:
        _save(ctx, (gradient, input, second, key), None)
        return _gradients(gradient, input, second, key)

    @staticmethod
    def backward(ctx: Any, a: Tensor, b: Tensor) -> Any:
        return _differentiate_twice(ctx, a, b, _Product.apply, _Gradients.apply)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.key = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, gradient: Tensor, gradients: Any) -> tuple[Tensor | None, ...]:
    input, second = ctx.saved_tensors
    of_input, of_second = gradients(gradient, input, second, ctx.key)
    return of_input, None if second is None else of_second, None


def _differentiate_twice(ctx: Any, a: Tensor, b: Tensor, product: Any, gradients: Any) -> tuple[Tensor | None, ...]:
    """The gradients are bilinear in that of the output and in the fields; `a` is like the input, `b` the second."""
    gradient, input, second = ctx.saved_tensors
    if second is None:
        return _polar(a, input, ctx.key, product), gradients(gradient, a, None, ctx.key)[0], None, None
    of_gradient = product(a, second, ctx.key) + product(input, b, ctx.key)
    return of_gradient, *gradients(gradient, a, b, ctx.key), None


def _polar(a: Tensor, b: Tensor, key: str, product: Callable[[Tensor, Tensor, str], Tensor]) -> Tensor:
    """B(a, b) + B(b, a) of the square B(x, x)."""
    return product(a, b, key) + product(b, a, key)


def _library() -> str:
    """A name for the operators of this module, made of letters only; another one after a reload."""
    name = f"basisgen_{sha256(__name__.encode()).hexdigest()[:16]}"
    while hasattr(getattr(torch.ops, name), "tensor_product"):
        name += "_"
    return name


# the same for torch.compile, to which it is opaque
_LIBRARY = _library()
_operator = torch.library.custom_op(f"{_LIBRARY}::tensor_product", mutates_args=())(_products)
_operator_gradients = torch.library.custom_op(f"{_LIBRARY}::tensor_product_backward", mutates_args=())(_gradients)


@_operator.register_fake
def _(input: Tensor, second: Tensor | None, key: str) -> Tensor:
    return input.new_empty(input.shape[0], _size(_CLASSES[key].out_type), *input.shape[2:])


@_operator_gradients.register_fake
def _(gradient: Tensor, input: Tensor, second: Tensor | None, key: str) -> tuple[Tensor, Tensor]:
    return input.new_empty(input.shape), input.new_empty(0 if second is None else second.shape)


_operator.register_autograd(
    lambda ctx, gradient: _differentiate(ctx, gradient, _operator_gradients), setup_context=_save
)
_operator_gradients.register_autograd(
    lambda ctx, a, b: _differentiate_twice(ctx, a, b, _operator, _operator_gradients), setup_context=_save
)


def _kernel(key: str, like: Tensor) -> Kernel | None:
    """The compiled product for such inputs; None where there is no compiler, or no use for it."""
    if like.device.type != "cpu" or not is_available():
        return None
    return _compiled_kernel(key, like.dtype)


@functools.cache
def _compiled_kernel(key: str, dtype: torch.dtype) -> Kernel | None:
    table = _CLASSES[key].table()
    if max(table.first.rows, table.second.rows) > MAX_ROWS:
        return None
    fields = [(field.dims, field.channels) for field in (table.first, table.second, table.out)]
    return Kernel(fields, table.out_row, table.first_row, table.second_row, table.value.to(dtype))


def _size(field_type: FieldType) -> int:
    return sum(multiplicity * (2 * degree + 1) for multiplicity, degree, _ in field_type)


def _text(field_type: FieldType) -> str:
    letters = {1: "e", -1: "o", None: ""}
    return " + ".join(f"{multiplicity}x{degree}{letters[parity]}" for multiplicity, degree, parity in field_type)
