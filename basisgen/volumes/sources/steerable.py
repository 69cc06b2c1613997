"""What every convolution of this package shares: a kernel assembled from its weights, and `conv3d`.

    kernel[m, n](x) = sum over paths and profiles of  weight * scale * C[m, n; J, M] * filter[J, M](x) / |filter[J]|

C are real Clebsch-Gordan coefficients and the filters sampled phi(|x|) Y_JM(x/|x|), both float64 in basis.safetensors.
For white noise and weights of unit variance the scale gives unit variance out, averaged over the components of a field.

The weights lie path by path in one vector; `blocks()` says where.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._constants import At, tensors
from ._layer import GeneratedLayer

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term
Runs = tuple[tuple[int, int], ...]  # (first filter, one past the last) of a tensor


class Filters(NamedTuple):
    """The filters of one degree: for each radial profile the 2J+1 filters M = -J..J."""

    J: int
    profiles: int

    @property
    def number(self) -> int:
        """How many filters these are."""
        return self.profiles * (2 * self.J + 1)


class TermPath(NamedTuple):
    """The kernels of degree J from one term of the input to one term of the output, terms counted from 0."""

    out: int
    into: int
    J: int


class Block(NamedTuple):
    """The weights of one path: weight[first:stop].view(profiles, multiplicity_out, multiplicity_in)."""

    out: int
    into: int
    J: int
    profiles: int
    multiplicity_out: int
    multiplicity_in: int
    first: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """(profile, copy out, copy in)."""
        return self.profiles, self.multiplicity_out, self.multiplicity_in

    @property
    def stop(self) -> int:
        """One past the last weight."""
        return self.first + self.profiles * self.multiplicity_out * self.multiplicity_in

    @property
    def weights(self) -> slice:
        """Where in the weight vector."""
        return slice(self.first, self.stop)


class Couplings(NamedTuple):
    """coefficients[entry] = weight[which] * coefficient, one line for each non-zero number of each block."""

    entry: Tensor  # int64 (n): where in the flattened (channel out, channel in, filter)
    which: Tensor  # int64 (n): which weight
    coefficient: Tensor  # float64 (n): scale * C


class Constants(NamedTuple):
    """What makes a kernel of weights: kernel = coefficients @ filters."""

    filters: Tensor  # (filter, tap), divided by its norm
    entry: Tensor
    which: Tensor
    coefficient: Tensor
    bias_channel: Tensor  # int64: the output channels that are invariant scalars


class SteerableConv3d(GeneratedLayer):
    """A convolution equivariant to rotations, (batch, channel in, x, y, z) -> (batch, channel out, x', y', z').

    `padding` is a number of voxels, one per axis, or "same": dilation * (kernel_size - 1) // 2 on both sides, which
    keeps the size under an odd kernel; an even kernel's output is one voxel smaller, between the input's voxels.
    Only the invariant scalar channels have a bias.
    """

    basisgen_kind = "conv"

    in_type: FieldType
    out_type: FieldType
    kernel_size: tuple[int, int, int]
    voxel_spacing: tuple[float, float, float]
    dilation: tuple[int, int, int] = (1, 1, 1)
    sampling: str  # grid and radial family, in words
    filter_tensor: str
    filters: tuple[Filters, ...]
    paths: tuple[TermPath, ...]

    def __init__(
        self,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = "same",
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.stride = _triple("stride", stride, 1)
        self.padding = self._voxels_of(padding) if isinstance(padding, str) else _triple("padding", padding, 0)
        self.in_channels = _channels(self.in_type)
        self.out_channels = _channels(self.out_type)
        self.weight = nn.Parameter(torch.empty(self.blocks()[-1].stop, device=device, dtype=dtype))
        scalars = len(_invariant_channels(self.out_type))
        self.bias = nn.Parameter(self.weight.new_empty(scalars)) if bias and scalars else None
        self.reset_parameters()

    @classmethod
    def blocks(cls) -> tuple[Block, ...]:
        """The layout of `weight`: one block per path, one after another."""
        return _blocks(cls._layout())

    @classmethod
    def words(cls) -> str:
        """See GeneratedLayer."""
        return f"{cls.sampling}; {_text(cls.in_type)} -> {_text(cls.out_type)}"

    def reset_parameters(self) -> None:
        """Draws weights of unit variance, bias zero: white noise of unit variance gives unit variance."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of (batch, channel in, x, y, z)."""
        kernel = self.kernel()
        self._check(input, kernel.dtype)
        return functional.conv3d(input, kernel, self._channel_bias(), self.stride, self.padding, self.dilation)

    def kernel(self) -> Tensor:
        """The dense kernel, (channel out, channel in, x, y, z); assembled in float32 or better, autocast or not."""
        return self._in_full_precision(self._assemble)

    def _assemble(self) -> Tensor:
        weight = self.weight
        of: Constants = self._constants("_make_constants", weight)
        kernel = self._coefficients(weight, of) @ of.filters  # (channel out and channel in, tap)
        # (channel out, channel in, x, y, z)
        return kernel.view(self.out_channels, self.in_channels, *self.kernel_size).to(weight.dtype)

    def _coefficients(self, weight: Tensor, of: Constants) -> Tensor:
        """What each filter is multiplied by, (channel out and channel in, filter)."""
        values = weight.to(of.coefficient.dtype).index_select(0, of.which) * of.coefficient
        coefficients = values.new_zeros(self.out_channels * self.in_channels * len(of.filters))
        # (channel out and channel in, filter)
        return coefficients.index_copy(0, of.entry, values).view(-1, len(of.filters))

    def to_conv3d(self) -> nn.Conv3d:
        """A plain nn.Conv3d with the present kernel: the same map, for inference."""
        with torch.device(self.weight.device):
            conv = nn.Conv3d(
                self.in_channels,
                self.out_channels,
                self.kernel_size,
                self.stride,
                self.padding,
                self.dilation,
                bias=self.bias is not None,
                dtype=self.weight.dtype,
            )
        with torch.no_grad():
            conv.weight.copy_(self.kernel())
            if (bias := self._channel_bias()) is not None and conv.bias is not None:
                conv.bias.copy_(bias)
        return conv

    def extra_repr(self) -> str:
        """The line `print(module)` shows."""
        return (
            f"{_text(self.in_type)} -> {_text(self.out_type)}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
        )

    def _check(self, input: Tensor, dtype: torch.dtype) -> None:
        if input.ndim != 5 or input.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__} takes (batch, {self.in_channels}, x, y, z), got {tuple(input.shape)}"
            )
        if input.dtype != dtype and not self._is_autocast():
            raise ValueError(
                f"{type(self).__name__} has weights of {dtype}, got a volume of {input.dtype}. "
                "Convert one of them with .to(dtype)."
            )

    def _is_autocast(self) -> bool:
        device = self.weight.device.type
        return device != "meta" and torch.is_autocast_enabled(device)

    def _in_full_precision(self, make: Callable[[], Tensor]) -> Tensor:
        if self._is_autocast():
            with torch.autocast(self.weight.device.type, enabled=False):
                return make()
        return make()

    def _channel_bias(self) -> Tensor | None:
        bias = self.bias
        if bias is None:
            return None
        of: Constants = self._constants("_make_constants", bias)
        return bias.new_zeros(self.out_channels).index_copy(0, of.bias_channel, bias)

    def _voxels_of(self, padding: str) -> tuple[int, int, int]:
        if padding != "same":
            raise ValueError(f"padding is a number of voxels, three of them, or 'same', not {padding!r}")
        x, y, z = (d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return x, y, z

    @classmethod
    def _make_constants(cls, at: At) -> Constants:
        filters = cls._rows(at, _unit_filters, cls.basis_sha256, cls.filter_tensor, cls.filters)
        entry, which, coefficient = map(at, _couplings(cls._layout()))
        return Constants(filters, entry, which, coefficient, at(_bias_channel(cls.out_type)))

    @classmethod
    def _rows(cls, at: At, table: Callable[..., Tensor], *of: Hashable) -> Tensor:
        """Of a table with a row for each filter of the tensor, the layer's; a view where they lie together."""
        (first, stop), *more = runs = _runs(cls.filters, cls._layout().degrees)
        return at(_gathered(runs, table, *of)) if more else at(table(*of))[first:stop]

    @classmethod
    def _layout(cls) -> "Layout":
        return Layout(cls.basis_sha256, cls.in_type, cls.out_type, cls.filters, cls.paths)


class Layout(NamedTuple):
    """What a layer says of its weights and filters; layers that say the same share their constants."""

    basis_sha256: str
    in_type: FieldType
    out_type: FieldType
    filters: tuple[Filters, ...]
    paths: tuple[TermPath, ...]

    @property
    def used(self) -> tuple[Filters, ...]:
        """The filters of the paths' degrees."""
        return tuple(of for of in self.filters if of.J in self.degrees)

    @property
    def degrees(self) -> frozenset[int]:
        """The J of all paths."""
        return frozenset(path.J for path in self.paths)


# Exact constants, float64 or int64 on the CPU, made once: equal arguments, the same tensor.


@functools.cache
def _blocks(layout: Layout) -> tuple[Block, ...]:
    blocks, first, profiles = [], 0, dict(layout.filters)
    for out, into, J in layout.paths:
        block = Block(out, into, J, profiles[J], layout.out_type[out][0], layout.in_type[into][0], first)
        blocks.append(block)
        first = block.stop
    return tuple(blocks)


@functools.cache
def _couplings(layout: Layout) -> Couplings:
    """The couplings of all blocks, one block after another."""
    *starts, filters = accumulate((of.number for of in layout.used), initial=0)
    first = {of.J: start for of, start in zip(layout.used, starts, strict=True)}
    scales = _scales(layout)
    parts = [_couplings_of(block, layout, scales[block.out], first[block.J], filters) for block in _blocks(layout)]
    return Couplings(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _couplings_of(block: Block, layout: Layout, scale: float, first_filter: int, filters: int) -> Couplings:
    """For each non-zero C, profile and pair of copies: kernel[out, into] += weight[which] * scale * C * filter[f]."""
    (_, j, _), (_, l, _), J = layout.out_type[block.out], layout.in_type[block.into], block.J
    m, n, M, C = _clebsch_gordan(layout.basis_sha256, j, l, J)  # (coefficient) each
    # axes from here on: (profile, copy out, copy in, coefficient)
    profile = torch.arange(block.profiles).view(-1, 1, 1, 1)
    copy_out = torch.arange(block.multiplicity_out).view(-1, 1, 1)
    copy_in = torch.arange(block.multiplicity_in).view(-1, 1)
    out = _channels(layout.out_type[: block.out]) + copy_out * (2 * j + 1) + m
    into = _channels(layout.in_type[: block.into]) + copy_in * (2 * l + 1) + n
    f = first_filter + profile * (2 * J + 1) + M
    entry = (out * _channels(layout.in_type) + into) * filters + f
    which = block.first + (profile * block.multiplicity_out + copy_out) * block.multiplicity_in + copy_in
    return Couplings(*(numbers.expand_as(entry).flatten() for numbers in (entry, which, scale * C)))


def _scales(layout: Layout) -> list[float]:
    """sqrt((2j+1) / fan-in) for each term of the output: the blocks that give a field share its variance."""
    fan_in = [0] * len(layout.out_type)
    for block in _blocks(layout):
        fan_in[block.out] += block.profiles * block.multiplicity_in
    return [((2 * j + 1) / max(n, 1)) ** 0.5 for (_, j, _), n in zip(layout.out_type, fan_in, strict=True)]


def _clebsch_gordan(basis_sha256: str, j: int, l: int, J: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The non-zero C[m, n; J, M], indices counted from 0: m, n, M and C, (coefficient) each."""
    first = J**2 - (j - l) ** 2  # the tensor holds J = |j-l|..j+l side by side, 2J+1 columns each
    table = tensors(basis_sha256)[f"clebsch_gordan_{j}_{l}"][..., first : first + 2 * J + 1]  # (m, n, M)
    m, n, M = table.nonzero(as_tuple=True)
    return m, n, M, table[m, n, M]


@functools.cache
def _unit_filters(basis_sha256: str, name: str, filters: tuple[Filters, ...]) -> Tensor:
    """Every filter of a tensor divided by its norm, (filter, tap)."""
    table = tensors(basis_sha256)[name].flatten(1)  # (filter, x, y, z) -> (filter, tap)
    return table / _norms(basis_sha256, name, filters).unsqueeze(1)


@functools.cache
def _norms(basis_sha256: str, name: str, filters: tuple[Filters, ...]) -> Tensor:
    """The norm of each filter of a tensor, (filter): one for all 2J+1 orders of a profile."""
    groups = torch.split(tensors(basis_sha256)[name], [of.number for of in filters])
    norms = [
        group.reshape(of.profiles, -1).norm(dim=1).repeat_interleave(2 * of.J + 1)  # (profile) -> (profile and M)
        for of, group in zip(filters, groups, strict=True)
    ]
    return torch.cat(norms)


@functools.cache
def _gathered(runs: Runs, table: Callable[..., Tensor], *of: Hashable) -> Tensor:
    return torch.cat([table(*of)[first:stop] for first, stop in runs])


@functools.cache
def _bias_channel(out_type: FieldType) -> Tensor:
    return torch.tensor(_invariant_channels(out_type), dtype=torch.int64)


def _runs(filters: tuple[Filters, ...], degrees: frozenset[int]) -> Runs:
    """The filters of some degrees; neighbours in one run."""
    runs: list[tuple[int, int]] = []
    first = 0
    for are_used, group in groupby(filters, lambda of: of.J in degrees):
        stop = first + sum(of.number for of in group)
        runs += [(first, stop)] if are_used else []
        first = stop
    return tuple(runs)


def _channels(field_type: FieldType) -> int:
    return sum(multiplicity * (2 * degree + 1) for multiplicity, degree, _ in field_type)


def _invariant_channels(field_type: FieldType) -> list[int]:
    channels: list[int] = []
    first = 0
    for multiplicity, degree, parity in field_type:
        if degree == 0 and parity != -1:
            channels += range(first, first + multiplicity)
        first += multiplicity * (2 * degree + 1)
    return channels


def _text(field_type: FieldType) -> str:
    letters = {1: "e", -1: "o", None: ""}
    return " + ".join(f"{multiplicity}x{degree}{letters[parity]}" for multiplicity, degree, parity in field_type)


def _triple(name: str, value: int | Sequence[int], least: int) -> tuple[int, int, int]:
    numbers = value if isinstance(value, Sequence) else (value,) * 3
    if len(numbers) != 3 or not all(isinstance(number, int) and number >= least for number in numbers):
        raise ValueError(f"{name} is a whole number of at least {least}, or three of them, not {value!r}")
    x, y, z = numbers
    return x, y, z
