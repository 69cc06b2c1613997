"""Layers that change the sampling of a volume, the same way for every channel.

The dtype out is the dtype in, also where autocast on CPUs computes pooling in float32.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.fields import FieldTypeLike, Term, split_terms
from runtime.layer import FieldLayer

PaddingMode = Literal["zeros", "replicate", "reflect", "circular"]


class LowPass(FieldLayer):
    """Gaussian blur before striding, so that no frequency above the new grid's is folded back.

        tap_t = exp(-t^2 / (2 sigma^2)) / sum,    sigma = sqrt(scale^2 - 1) / 2

    (batch, channel, x, y, z) -> the same with every spatial size n -> (n + 2 padding - kernel_size) // stride + 1.

    stride: of the output grid. scale: ratio of the resolutions, stride unless given (blur without striding: stride 1,
    scale 2). kernel_size: about 1 + 5 sigma, odd, unless given; padding: (kernel_size - 1) // 2 unless given.
    padding_mode: what lies outside the volume, as in nn.Conv3d.

    The turns of the cube commute with the layer exactly if the strided grid is centred on the volume, that is if
    (n + 2 padding - kernel_size) % stride = 0. At stride 2 an odd size needs an odd kernel, an even size an even one:
    volumes of 64^3 take kernel_size=6, which samples between the voxels and gives 32^3.

    Raises ValueError for a stride or scale below 1, and for a volume smaller than the kernel or its padding.
    Source: Weiler et al., "3D Steerable CNNs", 2018, and the published code (its low-pass filter).
    """

    taps: Tensor

    def __init__(
        self,
        in_type: FieldTypeLike,
        stride: int = 1,
        *,
        scale: float | None = None,
        kernel_size: int | None = None,
        padding: int | None = None,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__(in_type)
        scale = float(stride) if scale is None else scale
        if stride < 1 or scale < 1:
            raise ValueError(f"LowPass takes a stride and a scale of at least 1, got stride {stride}, scale {scale}.")
        if padding_mode not in _SOURCES:
            raise ValueError(f"LowPass has no padding_mode {padding_mode!r}. Choose one of {', '.join(_SOURCES)}.")
        self.stride, self.scale, self.padding_mode = stride, scale, padding_mode
        self.sigma = 0.5 * math.sqrt(scale**2 - 1)
        self.kernel_size = 2 * int((1 + 5 * self.sigma) // 2) + 1 if kernel_size is None else kernel_size
        self.padding = (self.kernel_size - 1) // 2 if padding is None else padding
        self._take_constants()

    def _constants(self) -> dict[str, Tensor]:
        """The taps along one axis."""
        offsets = torch.arange(self.kernel_size, dtype=torch.float64, device="cpu") - (self.kernel_size - 1) / 2
        weights = torch.exp(-((offsets / self.sigma) ** 2) / 2) if self.sigma else (offsets.abs() < 0.6).double()
        return {"taps": weights / weights.sum()}

    def forward(self, fields: Tensor) -> Tensor:
        """Blur along z, y and x in turn, each with its stride."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        if self.padding_mode == "reflect" and any(size <= self.padding for size in fields.shape[2:]):
            raise ValueError(
                f"LowPass: the input {tuple(fields.shape)} cannot be reflected by {self.padding} voxels. "
                "Use a larger volume or another padding_mode."
            )
        return _along_axes(fields, self._matrix)

    def _matrix(self, size: int) -> Tensor:
        """Blur and stride along one axis: (strided size, size)."""
        voxels = torch.arange(size, device=self.taps.device)
        taps = torch.arange(self.kernel_size, device=self.taps.device)
        steps = torch.arange((size + 2 * self.padding - self.kernel_size) // self.stride + 1, device=self.taps.device)
        sources = self.stride * steps[:, None] + taps - self.padding  # (strided size, tap)
        hits = _SOURCES[self.padding_mode](sources, size)[..., None] == voxels  # (strided size, tap, size)
        return (hits * self.taps[:, None]).sum(1)

    def extra_repr(self) -> str:
        """The field type and the filter, for printing a network."""
        return f"{super().extra_repr()}, stride={self.stride}, scale={self.scale}, kernel_size={self.kernel_size}"


class GlobalMean(FieldLayer):
    """Mean of each field over all voxels."""

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel)."""
        self.check_volume(fields)
        return fields.mean((2, 3, 4))


class AveragePool(FieldLayer):
    """Mean over windows of voxels, the same for every channel; voxels outside the volume count as zero.

    (batch, channel, x, y, z) -> spatial sizes (n + 2 padding - kernel_size) // stride + 1. The ResNet of the 3D
    Steerable CNN downsamples so: kernel size and padding of its convolutions, stride 2. Where the windows do not lie
    symmetrically in the volume, as there for even n, its centre moves, and quarter turns change what comes out;
    `LowPass` with an even kernel keeps it.
    """

    def __init__(
        self, in_type: FieldTypeLike, kernel_size: int, stride: int | None = None, *, padding: int = 0
    ) -> None:
        super().__init__(in_type)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        return F.avg_pool3d(fields, self.kernel_size, self.stride, self.padding).to(fields.dtype)


class NormMaxPool(FieldLayer):
    """In every window of voxels the longest vector of each field; for even scalars the largest value.

    (batch, channel, x, y, z) -> spatial sizes (n + 2 padding - kernel_size) // stride + 1. Where two vectors of a
    window have exactly equal length, the first in memory wins, which no rotation respects.
    """

    def __init__(
        self, in_type: FieldTypeLike, kernel_size: int, stride: int | None = None, *, padding: int = 0
    ) -> None:
        super().__init__(in_type)
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        _check_window(self, fields, self.kernel_size, self.padding)
        parts = zip(self.in_type, split_terms(fields, self.in_type), strict=True)
        return torch.cat([self._pool(term, part) for term, part in parts], 1)

    def _pool(self, term: Term, part: Tensor) -> Tensor:
        if term.is_even_scalar:
            return F.max_pool3d(part, self.kernel_size, self.stride, self.padding).to(part.dtype)
        copies = torch.unflatten(part, 1, (term.multiplicity, term.dimension))
        lengths = copies.detach().square().sum(2)
        _, where = F.max_pool3d(lengths, self.kernel_size, self.stride, self.padding, return_indices=True)
        index = where.flatten(2).unsqueeze(2).expand(-1, -1, term.dimension, -1)
        return copies.flatten(3).gather(3, index).reshape(*part.shape[:2], *where.shape[2:])


class Upsample(FieldLayer):
    """Trilinear interpolation to a finer grid with the same centre, the same for every channel.

    factor: ratio of the voxel spacings. Two grids share their centre, and the turns of the cube commute exactly:
    a size n becomes factor * n (default; for even volumes), or factor * (n - 1) + 1 with `keep_corners`, where the
    old voxels stay voxels (for odd volumes; the way back of LowPass with its odd kernel).
    """

    def __init__(self, in_type: FieldTypeLike, factor: int = 2, *, keep_corners: bool = False) -> None:
        super().__init__(in_type)
        self.factor, self.keep_corners = factor, keep_corners

    def forward(self, fields: Tensor) -> Tensor:
        """(batch, channel, x, y, z) -> (batch, channel, x', y', z')."""
        self.check_volume(fields)
        dtype = torch.promote_types(fields.dtype, torch.float32)
        return _along_axes(fields, lambda size: self._matrix(size, dtype, fields.device))

    def _matrix(self, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Linear interpolation along one axis: (fine size, size)."""
        voxels = torch.arange(size, dtype=dtype, device=device)
        if self.keep_corners:
            places = torch.arange(self.factor * (size - 1) + 1, dtype=dtype, device=device) / self.factor
        else:
            places = (torch.arange(self.factor * size, dtype=dtype, device=device) + 0.5) / self.factor - 0.5
        return (1 - (places.clamp(0, size - 1)[:, None] - voxels).abs()).clamp_min(0)


def _along_axes(fields: Tensor, matrix: Callable[[int], Tensor]) -> Tensor:
    """A separable linear map: along each axis of the volume its matrix (size out, size in), given the size in.

    On volumes, products with these banded matrices outrun depthwise convolution and interpolation by far.
    """
    x, y, z = (matrix(size).to(fields.dtype) for size in fields.shape[2:])
    fields = y @ (fields @ z.mT)
    return torch.unflatten(x @ fields.flatten(3), 3, fields.shape[3:])


def _check_window(layer: nn.Module, fields: Tensor, kernel_size: int, padding: int) -> None:
    if any(size + 2 * padding < kernel_size for size in fields.shape[2:]):
        raise ValueError(
            f"{type(layer).__name__}: the input {tuple(fields.shape)} is smaller than the window of {kernel_size} "
            f"voxels with padding {padding}. Use a larger volume or a smaller kernel_size."
        )


# Where a tap that falls outside reads: voxel index -> voxel index; one that stays outside reads zero.
_SOURCES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "zeros": lambda index, size: index,
    "replicate": lambda index, size: index.clamp(0, size - 1),
    "reflect": lambda index, size: size - 1 - (size - 1 - index.abs()).abs(),
    "circular": lambda index, size: index.remainder(size),
}
