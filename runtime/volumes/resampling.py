"""Layers that change the sampling of a volume, the same way for every channel.

The dtype out is the dtype in, also where autocast on CPUs computes pooling in float32.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..constants import constant
from ..fields import FieldTypeLike, Term, split_terms
from ..layer import FieldLayer, lengths_per_axis, per_axis

PaddingMode = Literal["zeros", "replicate", "reflect", "circular"]
PerAxis = int | Iterable[int]  # the same along x, y and z, or one for each


class LowPass(FieldLayer):
    """Gaussian blur before striding, so that no frequency above the new grid's is folded back.

        tap_t = exp(-t^2 / (2 sigma^2)) / sum,    sigma = sqrt(scale^2 - 1) / 2        along each axis

    (batch, channel, x, y, z) -> the same with every spatial size n -> (n + 2 padding - kernel_size) // stride + 1.

    Every setting is one number, or three for x, y, z. stride: of the output grid. scale: ratio of the resolutions,
    stride unless given (blur without striding: stride 1, scale 2). kernel_size: about 1 + 5 sigma, odd, unless given;
    padding: (kernel_size - 1) // 2 unless given. padding_mode: what lies outside the volume, as in nn.Conv3d.

    Voxels are cubes unless `voxel_spacing` (of the input, any unit) says otherwise: then the blur makes the resolution
    equal in all directions, that of the output's coarsest axis, scale_i = max_j(stride_j spacing_j) / spacing_i. With
    voxels of 2 x 2 x 4 mm, stride (2, 2, 1) gives cubes, and blurs along x and y alone.

    The turns of the cube commute with the layer exactly if all axes have the same settings and the strided grid is
    centred on the volume, that is if (n + 2 padding - kernel_size) % stride = 0. At stride 2 an odd size needs an odd
    kernel, an even size an even one: volumes of 64^3 take kernel_size=6, which samples between the voxels and gives
    32^3.

    Raises ValueError for a stride or scale below 1, and for a volume smaller than the kernel or its padding.
    Source: Weiler et al., "3D Steerable CNNs", 2018, and the published code (its low-pass filter).
    """

    def __init__(
        self,
        in_type: FieldTypeLike,
        stride: PerAxis = 1,
        *,
        scale: float | Iterable[float] | None = None,
        kernel_size: PerAxis | None = None,
        padding: PerAxis | None = None,
        padding_mode: PaddingMode = "zeros",
        voxel_spacing: float | Iterable[float] | None = None,
    ) -> None:
        super().__init__(in_type)
        if padding_mode not in _SOURCES:
            raise ValueError(f"LowPass has no padding_mode {padding_mode!r}. Choose one of {', '.join(_SOURCES)}.")
        if scale is not None and voxel_spacing is not None:
            raise ValueError("LowPass takes a scale or a voxel_spacing, from which it finds the scales, not both.")
        self.stride, self.padding_mode = per_axis("LowPass: stride", stride), padding_mode
        if voxel_spacing is not None:
            spacing = lengths_per_axis("LowPass: voxel_spacing", voxel_spacing)
            coarsest = max(step * length for step, length in zip(self.stride, spacing, strict=True))
            scale = tuple(coarsest / length for length in spacing)
        self.scale = lengths_per_axis("LowPass: scale", self.stride if scale is None else scale, 1.0)
        self.sigma = tuple(0.5 * math.sqrt(ratio**2 - 1) for ratio in self.scale)
        usual = tuple(2 * int((1 + 5 * sigma) // 2) + 1 for sigma in self.sigma)
        self.kernel_size = per_axis("LowPass: kernel_size", usual if kernel_size is None else kernel_size)
        middle = tuple((size - 1) // 2 for size in self.kernel_size)
        self.padding = per_axis("LowPass: padding", middle if padding is None else padding, 0)

    def forward(self, fields: Tensor) -> Tensor:
        """Blur along z, y and x in turn, each with its stride."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        sizes = zip(fields.shape[2:], self.padding, strict=True)
        if self.padding_mode == "reflect" and any(size <= padding for size, padding in sizes):
            raise ValueError(
                f"LowPass: the input {tuple(fields.shape)} cannot be reflected by {_short(self.padding)} voxels. "
                "Use a larger volume or another padding_mode."
            )
        return _along_axes(fields, lambda axis, size: self._matrix(axis, size, fields))

    def _matrix(self, axis: int, size: int, like: Tensor) -> Tensor:
        """Blur and stride along one axis: (strided size, size)."""
        kernel_size, stride, padding = self.kernel_size[axis], self.stride[axis], self.padding[axis]
        dtype = torch.promote_types(like.dtype, torch.float32)
        taps = constant(gaussian_taps, kernel_size, self.sigma[axis], dtype=dtype, device=like.device)
        voxels, tap = torch.arange(size, device=like.device), torch.arange(kernel_size, device=like.device)
        # written with one division: of `.. // stride + 1` torch 2.13's compiler cannot compare multiples
        steps = torch.arange((size + 2 * padding - kernel_size + stride) // stride, device=like.device)
        sources = stride * steps[:, None] + tap - padding  # (strided size, tap)
        hits = _SOURCES[self.padding_mode](sources, size)[..., None] == voxels  # (strided size, tap, size)
        return (hits * taps[:, None]).sum(1)

    def extra_repr(self) -> str:
        """The field type and the filter, for printing a network."""
        settings = (f"{name}={_short(getattr(self, name))}" for name in ("stride", "scale", "kernel_size"))
        return f"{super().extra_repr()}, {', '.join(settings)}"


def gaussian_taps(kernel_size: int, sigma: float) -> Tensor:
    """float64 (tap,): a Gaussian about the middle of the kernel, of sum 1; the one or two middle taps for sigma 0."""
    offsets = torch.arange(kernel_size, dtype=torch.float64) - (kernel_size - 1) / 2
    weights = torch.exp(-((offsets / sigma) ** 2) / 2) if sigma else (offsets.abs() < 0.6).double()
    return weights / weights.sum()


class GlobalMean(FieldLayer):
    """Mean of each field over all voxels."""

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel)."""
        self.check_volume(fields)
        return fields.mean((2, 3, 4))


class AveragePool(FieldLayer):
    """Mean over windows of voxels, the same for every channel; voxels outside the volume count as zero.

    (batch, channel, x, y, z) -> spatial sizes (n + 2 padding - kernel_size) // stride + 1; kernel size, stride and
    padding are one number, or three for x, y, z. The ResNet of the 3D Steerable CNN downsamples so: kernel size and
    padding of its convolutions, stride 2. Where the windows do not lie symmetrically in the volume, as there for even
    n, its centre moves, and quarter turns change what comes out; `LowPass` with an even kernel keeps it.
    """

    def __init__(
        self, in_type: FieldTypeLike, kernel_size: PerAxis, stride: PerAxis | None = None, *, padding: PerAxis = 0
    ) -> None:
        super().__init__(in_type)
        self.kernel_size = per_axis("AveragePool: kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else per_axis("AveragePool: stride", stride)
        self.padding = per_axis("AveragePool: padding", padding, 0)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        window = self.kernel_size, self.stride, self.padding
        pooled = F.avg_pool3d(_poolable(fields), *window).to(fields.dtype)
        return with_sizes(pooled, _strided(fields, *window))


class NormMaxPool(FieldLayer):
    """In every window of voxels the longest vector of each field; for even scalars the largest value.

    (batch, channel, x, y, z) -> spatial sizes (n + 2 padding - kernel_size) // stride + 1; kernel size, stride and
    padding are one number, or three for x, y, z. Where two vectors of a window have exactly equal length, the first in
    memory wins, which no rotation respects.
    """

    def __init__(
        self, in_type: FieldTypeLike, kernel_size: PerAxis, stride: PerAxis | None = None, *, padding: PerAxis = 0
    ) -> None:
        super().__init__(in_type)
        self.kernel_size = per_axis("NormMaxPool: kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else per_axis("NormMaxPool: stride", stride)
        self.padding = per_axis("NormMaxPool: padding", padding, 0)

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        parts = zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        pooled = torch.cat([self._pool(term, part) for term, part in parts], 1)
        return with_sizes(pooled, _strided(fields, self.kernel_size, self.stride, self.padding))

    def _pool(self, term: Term, part: Tensor) -> Tensor:
        window = self.kernel_size, self.stride, self.padding
        if term.is_even_scalar:
            return F.max_pool3d(_poolable(part), *window).to(part.dtype)
        # (batch, copy, component, x, y, z)
        copies = part.reshape(part.shape[0], term.multiplicity, term.dimension, *part.shape[2:])
        lengths = copies.detach().to(torch.promote_types(part.dtype, torch.float32)).square().sum(2)
        _, where = F.max_pool3d(lengths, *window, return_indices=True)  # (batch, copy, x', y', z')
        index = where.flatten(2).unsqueeze(2).expand(-1, -1, term.dimension, -1)
        # (batch, channel, x', y', z')
        return copies.flatten(3).gather(3, index).reshape(*part.shape[:2], *where.shape[2:])


def with_sizes(fields: Tensor, sizes: Iterable[int]) -> Tensor:
    """The same fields; while torch compiles, with their sizes x, y, z written as the given ones, which are equal.

    Where a convolution takes `(n - 1) // 2 + 1` or `2 m - 1` voxels, n and m unknown, torch 2.13's compiler fails: also
    that of two nn.Conv3d, the first with a stride of 2. With `(n + 1) // 2` and n it does not.
    """
    if torch.compiler.is_compiling():
        for axis, size in enumerate(sizes, 2):
            fields = fields.index_select(axis, torch.arange(size, device=fields.device))
    return fields


def _strided(fields: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> list[int]:
    """(n + 2 padding - kernel_size) // stride + 1 with one division."""
    axes = zip(fields.shape[2:], kernel_size, stride, padding, strict=True)
    return [(n + 2 * outside - window + step) // step for n, window, step, outside in axes]


def _poolable(fields: Tensor) -> Tensor:
    """The fields in a dtype that torch can pool: on CPUs not half precision."""
    return fields.float() if fields.device.type == "cpu" and fields.dtype.itemsize == 2 else fields


class Upsample(FieldLayer):
    """Trilinear interpolation to a finer grid with the same centre, the same for every channel.

    factor: ratio of the voxel spacings, one number or three for x, y, z. Two grids share their centre, and the turns of
    the cube commute exactly: a size n becomes factor * n (default; for even volumes), or factor * (n - 1) + 1 with
    `keep_corners`, where the old voxels stay voxels (for odd volumes; the way back of LowPass with its odd kernel).
    """

    def __init__(self, in_type: FieldTypeLike, factor: PerAxis = 2, *, keep_corners: bool = False) -> None:
        super().__init__(in_type)
        self.factor, self.keep_corners = per_axis("Upsample: factor", factor), keep_corners

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        fine = _along_axes(fields, lambda axis, size: self._matrix(self.factor[axis], size, fields))
        if not (self.keep_corners and torch.compiler.is_compiling()):
            return fine
        x, y, z = (factor * (size - 1) + 1 for factor, size in zip(self.factor, fields.shape[2:], strict=True))
        return fine[:, :, :x, :y, :z]

    def _matrix(self, factor: int, size: int, like: Tensor) -> Tensor:
        """Linear interpolation along one axis: (fine size, size)."""
        dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
        voxels = torch.arange(size, dtype=dtype, device=device)
        if self.keep_corners:
            # compiled with more rows than wanted, cut off at the end: torch 2.13 cannot compare multiples of a sum
            rows = factor * size if torch.compiler.is_compiling() else factor * (size - 1) + 1
            places = torch.arange(rows, dtype=dtype, device=device) / factor
        else:
            places = (torch.arange(factor * size, dtype=dtype, device=device) + 0.5) / factor - 0.5
        return (1 - (places.clamp(0, size - 1)[:, None] - voxels).abs()).clamp_min(0)


def _along_axes(fields: Tensor, matrix: Callable[[int, int], Tensor]) -> Tensor:
    """A separable linear map: along each axis of the volume its matrix (size out, size in), given axis and size in.

    On volumes, products with these banded matrices outrun depthwise convolution and interpolation by far.
    """
    x, y, z = (matrix(axis, size).to(fields.dtype) for axis, size in enumerate(fields.shape[2:]))
    fields = y @ (fields @ z.mT)  # (batch, channel, x, y', z')
    mixed = x @ fields.flatten(3)  # (batch, channel, x', y' z')
    return mixed.reshape(*fields.shape[:2], x.shape[0], *fields.shape[3:])


def _check_window(layer: nn.Module, fields: Tensor, kernel_size: Sequence[int], padding: Sequence[int]) -> None:
    axes = zip(fields.shape[2:], kernel_size, padding, strict=True)
    if any(size + 2 * outside < window for size, window, outside in axes):
        raise ValueError(
            f"{type(layer).__name__}: the input {tuple(fields.shape)} is smaller than the window of "
            f"{_short(kernel_size)} voxels with padding {_short(padding)}. "
            "Use a larger volume or a smaller kernel_size."
        )


def _short(numbers: Sequence[float]) -> str:
    """A setting as text: one number if it is the same along all axes."""
    return str(tuple(numbers) if len(set(numbers)) > 1 else numbers[0])


# Where a tap that falls outside reads: voxel index -> voxel index; one that stays outside reads zero.
_SOURCES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "zeros": lambda index, size: index,
    "replicate": lambda index, size: index.clamp(0, size - 1),
    "reflect": lambda index, size: size - 1 - (size - 1 - index.abs()).abs(),
    "circular": lambda index, size: index.remainder(size),
}
