"""A steerable convolution that never makes its kernel: passes of short filters along x, y and z.

    kernel[m, n](x, y, z) = sum over a + b + c <= levels of  mixing[abc, m, n] * h_a(x) * h_b(y) * h_c(z)

The h are functions of one variable, and the change from spherical filters to products of them is exact; float64 both,
in basis.safetensors. Processors and GPUs gain from different orders of the work: see `_on_cpu` and `_on_gpu`.
"""

import functools
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ._constants import At, tensors
from ._layer import _is_exporting, _is_transformed
from ._on_cpu import PartWork, by_kind, counts_by_kind, entries_by_kind
from ._on_gpu import SlabWork, entries_with_zeros
from ._passes import axes_of, empty
from ._steerable import Filters, SteerableConv3d, _norms


class Passes(NamedTuple):
    """The change from filters to products, the taps of the short filters, and the order of the channels."""

    products: Tensor  # (filter, product), of filters divided by their norms, products in the order of `indices`
    taps_x: Tensor  # (level, tap)
    taps_y: Tensor
    taps_z: Tensor
    entries: Tensor  # int64: where in (product, channel out, channel in) the numbers of the mixing's matrices are
    channels_in: Tensor  # int64: the channels, by kind
    channels_out: Tensor


class SeparableConv3d(SteerableConv3d):
    """The map of `SteerableConv3d`, with the same weights, by passes along x, y and z.

    Exports and traces hold the dense convolution, whose operators every run time has; so do torch.func's transforms and
    forward-mode derivatives.
    """

    passes_before: int  # the mixing, on a CPU; under a stride all three are: the channels of fewer voxels are mixed
    # device -> stride -> from how many voxels on, samples together; None: passes always
    smallest: dict[str, dict[int, int]] | None = None

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
        geometry = [*self.stride, *self.padding, *self.dilation]
        rest = self._counts(), geometry, self._before
        output: Tensor = separable_conv3d(input, mixing, *taps, channels_in, channels_out, *rest)
        bias = self._channel_bias()
        return output if bias is None else output.add_(bias.to(output.dtype).view(-1, 1, 1, 1))

    def _is_worthwhile(self, input: Tensor) -> bool:
        """Whether passes are the faster way. torch.compile makes one graph for either, not one for every size."""
        if self.smallest is None or input.ndim != 5:
            return True
        dtype = torch.get_autocast_dtype(input.device.type) if self._is_autocast() else input.dtype
        place = "cpu" if not _is_gpu(input) else "gpu, 16 bits" if dtype.itemsize == 2 else "gpu"
        smallest = self.smallest[place].get(max(self.stride))
        samples, _, x, y, z = input.shape
        return smallest is not None and samples * x * y * z >= smallest

    def _mixing(self) -> Tensor:
        """The numbers of all matrices that mix the channels, one after another, as `_work` takes them."""
        weight, passes = self.weight, self._passes()
        coefficients = self._coefficients(weight, self._constants("_make_constants", weight))
        mixing = passes.products.t() @ coefficients.t()  # (product, channel out and channel in)
        numbers = mixing.flatten()
        if _is_gpu(weight):
            numbers = functional.pad(numbers, (0, 1))  # the zero that `entries_with_zeros` names
        return numbers.index_select(0, passes.entries).to(weight.dtype)

    def _passes(self) -> Passes:
        passes: Passes = self._constants("_make_passes", self.weight, self._before, int(_is_gpu(self.weight)))
        return passes

    @classmethod
    def _counts(cls) -> list[int]:
        """How many channels are of each kind, of the input, then of the output."""
        return counts_by_kind(cls.in_type) + counts_by_kind(cls.out_type)

    @property
    def _before(self) -> int:
        return self.passes_before if self.stride == (1, 1, 1) else 3

    @classmethod
    def _make_passes(cls, at: At, before: int, on_gpu: int) -> Passes:
        products = cls._rows(at, _unit_products, cls.basis_sha256, cls.filter_tensor, cls.filters)
        taps = [at(tensors(cls.basis_sha256)[f"{cls.filter_tensor}_{axis}"]) for axis in "xyz"]
        into, out, levels = cls.in_type, cls.out_type, len(taps[0]) - 1
        entries = entries_with_zeros(into, out, levels) if on_gpu else entries_by_kind(into, out, levels, before)
        return Passes(products, taps[0], taps[1], taps[2], at(entries), at(by_kind(into)), at(by_kind(out)))


@functools.cache
def _unit_products(basis_sha256: str, name: str, filters: tuple[Filters, ...]) -> Tensor:
    """Every filter of a tensor, divided by its norm, as a sum of products: (filter, product)."""
    return tensors(basis_sha256)[f"{name}_products"] / _norms(basis_sha256, name, filters).unsqueeze(1)


def _library() -> str:
    """A name for the operators of this module, made of letters only; another one after a reload."""
    name = f"basisgen_{sha256(__name__.encode()).hexdigest()[:16]}"
    while hasattr(getattr(torch.ops, name), "separable_conv3d"):
        name += "_"
    return name


def _is_gpu(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu"


# Operators are opaque to torch.compile, which keeps the parts, and the memory.
_LIBRARY = _library()
_OPERANDS = (
    "Tensor input, Tensor mixing, Tensor taps_x, Tensor taps_y, Tensor taps_z, Tensor channels_in, "
    "Tensor channels_out, SymInt[] counts, SymInt[] geometry, SymInt before"
)


class Constants(NamedTuple):
    """What both operators take beside the input and the mixing."""

    taps_x: Tensor  # (level, tap)
    taps_y: Tensor
    taps_z: Tensor
    channels_in: Tensor  # the channels, by kind
    channels_out: Tensor
    counts: Sequence[int]  # how many channels are of each kind, of the input, then of the output
    geometry: Sequence[int]  # stride, padding, dilation, three numbers each
    before: int  # as `passes_before`

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """The short filters of x, y and z."""
        return self.taps_x, self.taps_y, self.taps_z

    def work(self, input: Tensor, mixing: Tensor) -> PartWork | SlabWork:
        """The work on an input, in the order that its device gains from."""
        axes = axes_of(input.shape, self.tables, self.geometry)
        if _is_gpu(input):
            return SlabWork(input, mixing, axes, self.tables, len(self.channels_out))
        channels = self.channels_in, self.channels_out
        return PartWork(input, mixing, axes, self.tables, channels, self.counts, self.before)


@torch.library.custom_op(f"{_LIBRARY}::separable_conv3d", mutates_args=(), schema=f"({_OPERANDS}) -> Tensor")
def separable_conv3d(input: Tensor, mixing: Tensor, *constants: Any) -> Tensor:
    """(batch, channel in, x, y, z) -> (batch, channel out, x', y', z').

    `mixing` holds the numbers of the matrices that mix the channels; the rest are `Constants`.
    """
    return Constants(*constants).work(input, mixing).forward(input)


@separable_conv3d.register_fake
def _(input: Tensor, mixing: Tensor, *constants: Any) -> Tensor:
    of = Constants(*constants)
    axes = axes_of(input.shape, of.tables, of.geometry)
    return empty(input, len(of.channels_out), [axis.places for axis in axes])


@torch.library.custom_op(
    f"{_LIBRARY}::separable_conv3d_backward",
    mutates_args=(),
    schema=f"(Tensor gradient, {_OPERANDS}, bool of_input, bool of_mixing) -> (Tensor, Tensor)",
)
def separable_conv3d_backward(gradient: Tensor, input: Tensor, mixing: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """The gradients of `input` and `mixing`, from that of the output; empty where not asked for."""
    *constants, of_input, of_mixing = rest
    work = Constants(*constants).work(input, mixing)
    grad_input, grad_mixing = work.backward(gradient, input, of_input, of_mixing)
    return (
        input.new_empty(0) if grad_input is None else grad_input,
        mixing.new_empty(0) if grad_mixing is None else grad_mixing,
    )


@separable_conv3d_backward.register_fake
def _(gradient: Tensor, input: Tensor, mixing: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    *_, of_input, of_mixing = rest
    grad_input = empty(input, input.shape[1], input.shape[2:]) if of_input else input.new_empty(0)
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
