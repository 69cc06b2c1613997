"""Products of fields with a projection fused behind them: what every such product of this package shares.

    out[t', k, M] = sum over t of  U[t', t] / sqrt(T) * h[t, k, M]        h: the T products of one irrep, of `_product`

U, one matrix per irrep of the output, is learned and the same for all channels k: the "uniform" map of Cobb et al.
2021. The result is that of the product with a linear map `uniform` behind it, whose weights these are, up to rounding.
But the products h, which are many more numbers than go in or come out, are never stored: each is added to the output
where it is made, and made again in the backward pass. Memory is that of the input, the output and a few tiles that stay
in cache.
"""

import functools
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._compiled import MAX_ROWS, Kernel, is_available
from ._layer import _is_exporting, _is_transformed
from ._product import (
    _CLASSES,
    _LIBRARY,
    Field,
    FieldType,
    Table,
    TensorProduct,
    Way,
    _field,
    _plain,
    _ready,
    _save,
    _size,
    _starts,
    _text,
    _way,
)


class ProjectedProduct(TensorProduct):
    """The projected product of one field, or of two: (batch, channel, *space) -> (batch, channel out, *space).

    weight: U of every irrep of the output in order, each (t', t) flattened, of unit variance.
    """

    products_type: FieldType  # of all products

    def __init__(self, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self._shapes = self.projection().shapes
        weights = sum(prod(shape) for shape in self._shapes)
        self.weight = nn.Parameter(torch.empty(weights, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        return f"{super().words()}, projected from {_text(cls.products_type)}"

    def reset_parameters(self) -> None:
        """Weights of unit variance."""
        nn.init.normal_(self.weight)

    def forward(self, input: Tensor, second: Tensor | None = None) -> Tensor:
        """The projected products of `input` with itself, or with `second` where the class has a second type."""
        self._check(input, second)
        if input.dtype != self.weight.dtype and not torch.is_autocast_enabled(self.weight.device.type):
            raise ValueError(
                f"{type(self).__name__} has weights of {self.weight.dtype}, got a field of {input.dtype}. "
                "Convert one of them with .to(dtype)."
            )
        if second is not None and second.dtype != input.dtype:
            common = torch.promote_types(input.dtype, second.dtype)
            input, second = input.to(common), second.to(common)
        weight = _scaled(self.weight, self._shapes)
        if _is_exporting() or _is_transformed() or input.device.type not in ("cpu", "cuda"):
            return self.projection().plain(_plain(input, second, self.table(), self.padded()), weight)
        plain = type(input) in (Tensor, nn.Parameter) and not torch.compiler.is_compiling()
        multiply: Any = _Projected.apply if plain else _operator
        output: Tensor = multiply(input, second, weight, self._key)
        return output

    @classmethod
    @functools.cache
    def projection(cls) -> "Projection":
        """What the weights do."""
        products, out = _field(cls.products_type, cls.channels), _field(cls.out_type, cls.channels)
        irreps = [(degree, parity) for _, degree, parity in cls.products_type]
        chosen = [irreps.index((degree, parity)) for _, degree, parity in cls.out_type]
        shapes = [(out.terms[o][0], products.terms[p][0]) for o, p in enumerate(chosen)]
        return Projection(products, out, chosen, shapes)


class Projection(NamedTuple):
    """A matrix for each term of the output, from the fragments of one term of the products."""

    products: Field
    out: Field
    chosen: list[int]  # term of the output -> term of the products
    shapes: list[tuple[int, int]]  # term of the output -> fragments out and in

    def matrices(self, weight: Tensor) -> list[Tensor]:
        """(fragment out, fragment in) of each term of the output."""
        parts = weight.split_with_sizes([prod(shape) for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def plain(self, products: Tensor, weight: Tensor) -> Tensor:
        """The projection of (batch, channel of the products, *space)."""
        batch, space = products.shape[0], products.shape[2:]
        terms = products.split_with_sizes(self.products._sizes, 1)
        matrices = self.matrices(weight.to(products.dtype))
        parts = [
            # (fragment out, fragment in) @ (batch, fragment in, channel and component and site)
            (matrix @ terms[p].reshape(batch, matrix.shape[1], -1 if batch else 0)).reshape(batch, size, *space)
            for matrix, p, size in zip(matrices, self.chosen, self.out._sizes, strict=True)
        ]
        return torch.cat(parts, 1)

    def forward(self, rows: Tensor, matrices: list[Tensor]) -> Tensor:
        """(row of the products, lane) -> (row of the output, lane)."""
        terms = rows.split_with_sizes(self.products._rows)
        return torch.cat(
            [
                # (fragment out, fragment in) @ (fragment in, component and lane) -> (row out, lane)
                (matrix @ terms[p].view(matrix.shape[1], -1)).view(-1, rows.shape[1])
                for matrix, p in zip(matrices, self.chosen, strict=True)
            ]
        )

    def backward(self, rows: Tensor, matrices: list[Tensor]) -> Tensor:
        """The adjoint: (row of the output, lane) -> (row of the products, lane)."""
        found = rows.new_zeros(self.products.rows, rows.shape[1])
        starts = _starts(self.products)
        for matrix, p, term in zip(matrices, self.chosen, rows.split_with_sizes(self.out._rows), strict=True):
            # (fragment in, fragment out) @ (fragment out, component and lane)
            part = matrix.t() @ term.view(matrix.shape[0], -1)
            found[starts[p] : starts[p] + self.products._rows[p]] = part.view(-1, rows.shape[1])
        return found

    def of_weights(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """The gradient of the weights, from that of the output and the products, (row, lane) both."""
        terms = rows.split_with_sizes(self.products._rows)
        parts = zip(self.shapes, self.chosen, gradient.split_with_sizes(self.out._rows), strict=True)
        # (fragment out, component and lane) @ (component and lane, fragment in)
        return torch.cat([(g.view(out, -1) @ terms[p].view(into, -1).t()).flatten() for (out, into), p, g in parts])


def _scaled(weight: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Weights that keep the variance."""
    parts = weight.split_with_sizes([out * into for out, into in shapes])
    return torch.cat([part * into**-0.5 for part, (_, into) in zip(parts, shapes, strict=True)])


class ProjectedKernel(Kernel):
    """The compiled product with a projection."""

    def __init__(self, table: Table, projection: Projection, dtype: torch.dtype) -> None:
        fields = [(field.dims, field.channels) for field in (table.first, table.second, table.out)]
        super().__init__(fields, table.out_row, table.first_row, table.second_row, table.value.to(dtype))
        self._out_channels = sum(projection.out._sizes)
        places, weights = _places(projection), sum(prod(shape) for shape in projection.shapes)
        self._kept += places
        more = [*self._sizes_of(projection.out.dims), *(place.data_ptr() for place in places), weights]
        self._constants: Tensor = torch.cat([self._constants, torch.tensor(more)])

    def forward_projected(self, x: Tensor, y: Tensor | None, w: Tensor) -> Tensor:
        """The projected products, of contiguous fields."""
        out = x.new_empty(x.shape[0], self._out_channels, *x.shape[2:])
        self._call("forward_projected", x, x, x if y is None else y, w, out)
        return out

    def backward_projected(self, g: Tensor, x: Tensor, y: Tensor | None, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of both fields, of one field their sum and nothing, and of the weights."""
        gx, gw = torch.empty_like(x), torch.zeros_like(w)
        gy = gx if y is None else torch.empty_like(y)
        self._call("backward_projected", x, g, x, x if y is None else y, w, gx, gy, gw)
        return gx, x.new_empty(0) if y is None else gy, gw


def _places(projection: Projection) -> tuple[Tensor, ...]:
    """Of each fragment of the products: its first row of the output, how many fragments, its column, their distance."""
    rows, fragments = _starts(projection.out), [number for number, _ in projection.products.terms]
    first, count, column, stride = ([torch.zeros(number, dtype=torch.int32) for number in fragments] for _ in range(4))
    place = 0
    for o, (p, (out, into)) in enumerate(zip(projection.chosen, projection.shapes, strict=True)):
        first[p][:], count[p][:], stride[p][:] = rows[o], out, into
        column[p][:] = place + torch.arange(into)
        place += out * into
    return torch.cat(first), torch.cat(count), torch.cat(column), torch.cat(stride)


def _by_tiles(x: Tensor, y: Tensor | None, w: Tensor, way: Way, of: Projection) -> Tensor:
    """The projected products of contiguous fields."""
    table, matrices = way.table, of.matrices(w)
    out = x.new_empty(x.shape[0], sum(of.out._sizes), *x.shape[2:])
    for tile in way.tiles(x, of.out.channels, 2 * table.out.rows):
        a, b = table.first.read(x, tile), None if y is None else table.second.read(y, tile)
        of.out.write(out, tile, of.forward(way.in_order(a, b), matrices))
    return out


def _gradients_by_tiles(
    g: Tensor, x: Tensor, y: Tensor | None, w: Tensor, way: Way, of: Projection
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of both factors and of the weights; the products are made again."""
    gx, gy, gw = torch.empty_like(x), x.new_empty(0) if y is None else torch.empty_like(y), torch.zeros_like(w)
    table, matrices = way.table, of.matrices(w)
    for tile in way.tiles(x, of.out.channels, 2 * table.out.rows):
        gradient = of.out.read(g, tile)
        a, b = table.first.read(x, tile), None if y is None else table.second.read(y, tile)
        gw += of.of_weights(gradient, way.in_order(a, b))
        ga, gb = way.gradients(of.backward(gradient, matrices), a, b)
        table.first.write(gx, tile, ga)
        if gb is not None:
            table.second.write(gy, tile, gb)
    return gx, gy, gw


def _projected(input: Tensor, second: Tensor | None, weight: Tensor, key: str) -> Tensor:
    """(batch, channel, *space) of one field or two, scaled weights -> the projected products of class `key`."""
    x, y = _ready(input), None if second is None else _ready(second)
    w = weight.to(x.dtype).contiguous()
    if (kernel := _kernel(key, x)) is not None:
        return kernel.forward_projected(x, y, w).to(input.dtype)
    cls = _CLASSES[key]
    assert issubclass(cls, ProjectedProduct)
    return _by_tiles(x, y, w, _way(key, x.dtype, str(x.device)), cls.projection()).to(input.dtype)


def _gradients(
    gradient: Tensor, input: Tensor, second: Tensor | None, weight: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `input`, `second` and `weight`; of one field the sum of both, and nothing."""
    g, x, y = _ready(gradient), _ready(input), None if second is None else _ready(second)
    w = weight.to(x.dtype).contiguous()
    if (kernel := _kernel(key, x)) is not None:
        gx, gy, gw = kernel.backward_projected(g, x, y, w)
    else:
        cls = _CLASSES[key]
        assert issubclass(cls, ProjectedProduct)
        gx, gy, gw = _gradients_by_tiles(g, x, y, w, _way(key, x.dtype, str(x.device)), cls.projection())
    return gx.to(input.dtype), gy.to(input.dtype), gw.to(weight.dtype)


class _Projected(torch.autograd.Function):
    """The projected product as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, second: Tensor | None, weight: Tensor, key: str) -> Tensor:
        _save(ctx, (input, second, weight, key), None)
        return _projected(input, second, weight, key)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        twice = torch.is_grad_enabled()  # a derivative of this one is wanted
        return _differentiate(ctx, gradient, _Gradients.apply if twice else _gradients)


class _Gradients(torch.autograd.Function):
    """Its gradients, which have gradients themselves."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, input: Tensor, second: Tensor | None, weight: Tensor, key: str) -> Any:
        _save(ctx, (gradient, input, second, weight, key), None)
        return _gradients(gradient, input, second, weight, key)

    @staticmethod
    def backward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> Any:
        return _differentiate_twice(ctx, a, b, c, _Projected.apply, _Gradients.apply)


def _differentiate(ctx: Any, gradient: Tensor, gradients: Any) -> tuple[Tensor | None, ...]:
    input, second, weight = ctx.saved_tensors
    of_input, of_second, of_weight = gradients(gradient, input, second, weight, ctx.key)
    return of_input, None if second is None else of_second, of_weight, None


def _differentiate_twice(
    ctx: Any, a: Tensor, b: Tensor, c: Tensor, product: Any, gradients: Any
) -> tuple[Tensor | None, ...]:
    """The gradients are linear in that of the output, the fields and the weights; a, b, c are like these.

    With P(x, y, w) the projected product, s = g . (P(a, y, w) + P(x, b, w) + P(x, y, c)) is differentiated; where both
    fields are one, b is a.
    """
    g, x, y, w = ctx.saved_tensors
    if y is None:
        b, other = a, x
    else:
        other = y
    of_gradient = product(a, other, w, ctx.key) + product(x, b, w, ctx.key) + product(x, y, c, ctx.key)
    first, second, third = (gradients(g, *of, ctx.key) for of in ((a, other, w), (x, b, w), (x, y, c)))
    of_weight = first[2] + second[2]
    if y is None:
        return of_gradient, first[1] + second[0] + third[0], None, of_weight, None
    return of_gradient, second[0] + third[0], first[1] + third[1], of_weight, None


_operator = torch.library.custom_op(f"{_LIBRARY}::projected_product", mutates_args=())(_projected)
_operator_gradients = torch.library.custom_op(f"{_LIBRARY}::projected_product_backward", mutates_args=())(_gradients)


@_operator.register_fake
def _(input: Tensor, second: Tensor | None, weight: Tensor, key: str) -> Tensor:
    return input.new_empty(input.shape[0], _size(_CLASSES[key].out_type), *input.shape[2:])


@_operator_gradients.register_fake
def _(
    gradient: Tensor, input: Tensor, second: Tensor | None, weight: Tensor, key: str
) -> tuple[Tensor, Tensor, Tensor]:
    second_shape = 0 if second is None else second.shape
    return input.new_empty(input.shape), input.new_empty(second_shape), weight.new_empty(weight.shape)


_operator.register_autograd(
    lambda ctx, gradient: _differentiate(ctx, gradient, _operator_gradients), setup_context=_save
)
_operator_gradients.register_autograd(
    lambda ctx, a, b, c: _differentiate_twice(ctx, a, b, c, _operator, _operator_gradients), setup_context=_save
)


def _kernel(key: str, like: Tensor) -> ProjectedKernel | None:
    """The compiled product for such inputs; None where there is no compiler, or no use for it."""
    if like.device.type != "cpu" or not is_available():
        return None
    return _compiled_kernel(key, like.dtype)


@functools.cache
def _compiled_kernel(key: str, dtype: torch.dtype) -> ProjectedKernel | None:
    cls = _CLASSES[key]
    assert issubclass(cls, ProjectedProduct)
    table = cls.table()
    if max(table.first.rows, table.second.rows) > MAX_ROWS:
        return None
    return ProjectedKernel(table, cls.projection(), dtype)
