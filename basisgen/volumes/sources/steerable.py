"""What every convolution of this package shares: a kernel assembled from its weights, and `conv3d`.

    kernel[m, n](x) = sum over paths and profiles of  weight * scale * C[m, n; J, M] * filter[J, M](x) / |filter[J]|

C are real Clebsch-Gordan coefficients and the filters sampled phi(|x|) Y_JM(x/|x|), both float64 in basis.safetensors.
The scale gives unit variance per output component for white-noise input of unit variance and weights of unit variance.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

FieldType = tuple[tuple[int, int, int | None], ...]  # (multiplicity, degree, parity) of each term


class Constants(NamedTuple):
    """Weights to kernel: coefficients[entry] = weight[path] * coefficient, kernel = coefficients @ filters."""

    filters: Tensor  # float64 (filter, tap), divided by its norm
    norms: Tensor  # float64 (filter): the norm of each, over its 2J+1 orders together
    entry: Tensor  # int64 (n): where in the flattened (channel out, channel in, filter)
    path: Tensor  # int64 (n): which weight
    coefficient: Tensor  # float64 (n): scale * C
    bias_channel: Tensor  # int64: the output channels that are invariant scalars
    weights: int


class SteerableConv3d(nn.Module):
    """A convolution equivariant to rotations, (batch, channel in, x, y, z) -> (batch, channel out, x', y', z').

    `padding` is a number of voxels, one per axis, or "same": dilation * (kernel_size - 1) // 2 on both sides, which
    keeps the size under an odd kernel; an even kernel's output is one voxel smaller, between the input's voxels.
    The bias belongs to the invariant scalar channels alone. The state is the learned weights, nothing else.
    """

    in_type: FieldType
    out_type: FieldType
    kernel_size: tuple[int, int, int]
    dilation: tuple[int, int, int] = (1, 1, 1)
    filter_tensor: str
    rows: tuple[tuple[int, int, int], ...]
    paths: tuple[tuple[int, int, int], ...]

    _filters: Tensor
    _coefficient: Tensor
    _entry: Tensor
    _path: Tensor
    _bias_channel: Tensor

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
        constants = self._constants()
        self.weight = nn.Parameter(torch.empty(constants.weights, device=device, dtype=dtype))
        has_bias = bias and len(constants.bias_channel) > 0
        self.bias = nn.Parameter(self.weight.new_empty(len(constants.bias_channel))) if has_bias else None
        self._take_constants()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of unit variance, bias zero: unit-variance white noise in, unit variance out."""
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
        kernel = self._coefficients() @ self._filters
        return kernel.view(self.out_channels, self.in_channels, *self.kernel_size).to(self.weight.dtype)

    def _coefficients(self) -> Tensor:
        """What each filter is multiplied by, (channel out and channel in, filter)."""
        values = self.weight.to(self._coefficient.dtype).index_select(0, self._path) * self._coefficient
        coefficients = values.new_zeros(self.out_channels * self.in_channels * len(self._filters))
        return coefficients.index_copy(0, self._entry, values).view(-1, len(self._filters))

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
        if self.bias is None:
            return None
        return self.bias.new_zeros(self.out_channels).index_copy(0, self._bias_channel, self.bias)

    def _voxels_of(self, padding: str) -> tuple[int, int, int]:
        if padding != "same":
            raise ValueError(f"padding is a number of voxels, three of them, or 'same', not {padding!r}")
        x, y, z = (d * (k - 1) // 2 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return x, y, z

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SteerableConv3d":
        """Moves or casts the weights and takes the constants afresh from float64: half and back loses nothing."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._take_constants()
        return self

    def _take_constants(self) -> None:
        """The constants on the weights' device: float64 for float64 weights, else float32; not part of the state."""
        constants = self._constants()
        self._constant("_filters", constants.filters)
        self._constant("_coefficient", constants.coefficient)
        self._constant("_entry", constants.entry)
        self._constant("_path", constants.path)
        self._constant("_bias_channel", constants.bias_channel)

    def _constant(self, name: str, value: Tensor) -> None:
        dtype = torch.float64 if self.weight.dtype == torch.float64 else torch.float32
        value = value.to(self.weight.device, dtype if value.is_floating_point() else value.dtype, copy=True)
        self.register_buffer(name, value, persistent=False)

    @classmethod
    @functools.cache
    def _constants(cls) -> Constants:
        """The constants of the class in float64 on the CPU, made once from basis.safetensors; never changed."""
        with torch.device("cpu"):
            return _expand(cls, _tables())


@functools.cache
def _tables() -> dict[str, Tensor]:
    return load_file(Path(__file__).with_name("basis.safetensors"))


def _expand(cls: type[SteerableConv3d], tables: dict[str, Tensor]) -> Constants:
    """Copies the coefficients of each path to all field copies it connects."""
    filters = torch.cat([tables[cls.filter_tensor][start:stop].flatten(1) for _, start, stop in cls.rows])
    in_channels, n_filters = _channels(cls.in_type), len(filters)
    n_profiles = {J: (stop - start) // (2 * J + 1) for J, start, stop in cls.rows}
    first_filter = {J: sum(stop - start for _, start, stop in cls.rows[:i]) for i, (J, _, _) in enumerate(cls.rows)}
    by_degree = torch.split(filters, [stop - start for _, start, stop in cls.rows])
    norms = torch.cat(
        [
            group.view(n_profiles[J], -1).norm(dim=1).repeat_interleave(2 * J + 1)
            for (J, _, _), group in zip(cls.rows, by_degree, strict=True)
        ]
    )
    fan_in = [0] * len(cls.out_type)
    for o, i, J in cls.paths:
        fan_in[o] += cls.in_type[i][0] * n_profiles[J]

    entries, weights, coefficients, n_weights = [], [], [], 0
    for o, i, J in cls.paths:
        (copies_out, j, _), (copies_in, l, _) = cls.out_type[o], cls.in_type[i]
        columns = slice(J * J - (j - l) ** 2, (J + 1) ** 2 - (j - l) ** 2)  # of all J = |j-l|..j+l, side by side
        clebsch_gordan = tables[f"clebsch_gordan_{j}_{l}"][..., columns]
        m, n, M = clebsch_gordan.nonzero(as_tuple=True)
        scale = ((2 * j + 1) / fan_in[o]) ** 0.5
        # axes: (profile, copy out, copy in, non-zero coefficient)
        profile = torch.arange(n_profiles[J]).view(-1, 1, 1, 1)
        copy_out = torch.arange(copies_out).view(-1, 1, 1)
        copy_in = torch.arange(copies_in).view(-1, 1)
        row = _channels(cls.out_type[:o]) + copy_out * (2 * j + 1) + m
        column = _channels(cls.in_type[:i]) + copy_in * (2 * l + 1) + n
        filter_row = first_filter[J] + profile * (2 * J + 1) + M
        entry = (row * in_channels + column) * n_filters + filter_row
        weight = n_weights + (profile * copies_out + copy_out) * copies_in + copy_in
        coefficient = scale * clebsch_gordan[m, n, M]
        entries.append(entry.flatten())
        weights.append(weight.expand_as(entry).flatten())
        coefficients.append(coefficient.expand_as(entry).flatten())
        n_weights += n_profiles[J] * copies_out * copies_in

    return Constants(
        filters=filters / norms.unsqueeze(1),
        norms=norms,
        entry=torch.cat(entries),
        path=torch.cat(weights),
        coefficient=torch.cat(coefficients),
        bias_channel=torch.tensor(_invariant_channels(cls.out_type), dtype=torch.int64),
        weights=n_weights,
    )


def _channels(field_type: FieldType) -> int:
    return sum(copies * (2 * degree + 1) for copies, degree, _ in field_type)


def _invariant_channels(field_type: FieldType) -> list[int]:
    channels: list[int] = []
    first = 0
    for copies, degree, parity in field_type:
        if degree == 0 and parity != -1:
            channels += range(first, first + copies)
        first += copies * (2 * degree + 1)
    return channels


def _text(field_type: FieldType) -> str:
    letters = {1: "e", -1: "o", None: ""}
    return " + ".join(f"{copies}x{degree}{letters[parity]}" for copies, degree, parity in field_type)


def _triple(name: str, value: int | Sequence[int], least: int) -> tuple[int, int, int]:
    numbers = value if isinstance(value, Sequence) else (value,) * 3
    if len(numbers) != 3 or not all(isinstance(number, int) and number >= least for number in numbers):
        raise ValueError(f"{name} is a whole number of at least {least}, or three of them, not {value!r}")
    x, y, z = numbers
    return x, y, z
