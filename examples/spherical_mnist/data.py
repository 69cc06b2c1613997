"""MNIST on the sphere: the public idx files, projected onto a hemisphere and reduced to coefficients.

    f_lm = integral over the sphere of f(u) Y_lm(u),    f(u) = the pixel that u is projected to

by Lambert's azimuthal projection, r = 2 c sin(theta / 2), which keeps areas. The image's centre is the pole, and the
equator is `half` pixels away from it: the corners of the image come to lie south of it. Every pixel is a square of
constant value, and the integral a sum over 3 x 3 points of it. Coefficients are those of `runtime.spheres`: exact
rotations need no grid.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from examples.common.files import DataError
from runtime.spheres import harmonics, rotate_signal, signal_type

SOURCE = "MNIST, the four files train-images-idx3-ubyte.gz, .., t10k-labels-idx1-ubyte.gz (CC BY-SA 3.0)"
VARIABLE = "MNIST_DATA"
SIZE = 28  # pixels of a side
POINTS = 3  # of a pixel's side, for the integral
MAGIC = {3: 2051, 1: 2049}  # of idx files of bytes, by the number of axes


@dataclass(frozen=True)
class Projection:
    """Lambert's projection: `half` pixels from the pole to the equator; coefficients below band limit `limit`."""

    limit: int
    half: float

    @property
    def coefficients_of_pixels(self) -> Tensor:
        """float32 (pixel, coefficient): row by row, columns along x and rows along z, as seen from outside."""
        c = self.half / math.sqrt(2)  # theta = pi / 2 at r = half
        points = (torch.arange(SIZE * POINTS, dtype=torch.float64) + 0.5) / POINTS - SIZE / 2
        row, column = torch.meshgrid(points, points, indexing="ij")
        radius = (row.square() + column.square()).sqrt()
        theta, phi = 2 * torch.asin((radius / (2 * c)).clamp(max=1)), torch.atan2(row, column)
        around = theta.sin()
        directions = torch.stack([around * phi.cos(), theta.cos(), around * phi.sin()], -1)  # (row, column, 3)
        on_sphere = (radius < 2 * c).double() / (POINTS * c) ** 2  # area of a point
        values = harmonics(self.limit, directions) * on_sphere[..., None]
        # (pixel row, point, pixel column, point, coefficient)
        parts = values.reshape(SIZE, POINTS, SIZE, POINTS, self.limit**2)
        return parts.sum((1, 3)).flatten(0, 1).float()


@dataclass(frozen=True)
class Digits(Dataset[tuple[Tensor, Tensor]]):
    """Digits as signals on the sphere: packed coefficients (digit, coefficient), and labels (digit)."""

    signals: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(coefficient) and the label."""
        return self.signals[index], self.labels[index]

    @cached_property
    def limit(self) -> int:
        """The band limit."""
        return math.isqrt(self.signals.shape[1])

    def take(self, count: int) -> Digits:
        """The first `count` digits; all with 0."""
        return Digits(self.signals[:count], self.labels[:count]) if count else self

    def turned(self, rotations: Tensor) -> Digits:
        """The same digits, turned exactly by one rotation (3, 3), or by one each (digit, 3, 3)."""
        field_type = signal_type(1, self.limit)
        each = rotations.expand(len(self), 3, 3) if rotations.ndim == 2 else rotations
        parts = zip(self.signals.split(500), each.split(500), strict=True)
        return replace(self, signals=torch.cat([rotate_signal(s, r, field_type) for s, r in parts]))

    def scaled(self, factors: Tensor) -> Digits:
        """Every degree times a factor (degree)."""
        return replace(self, signals=self.signals * factors.repeat_interleave(2 * torch.arange(self.limit) + 1))

    def half_whitened(self) -> Tensor:
        """Factors (degree) that divide each degree by the square root of its rms, and the whole by its rms length."""
        rms = torch.stack([part.square().mean().sqrt() for part in self._degrees()])
        lengths = torch.stack([part.square().sum(1).mean() for part in self._degrees()])  # mean square, of each degree
        return rms.rsqrt() / (lengths / rms).sum().sqrt()

    def _degrees(self) -> tuple[Tensor, ...]:
        return self.signals.split([2 * degree + 1 for degree in range(self.limit)], 1)


@dataclass(frozen=True)
class Splits:
    """The digits to train and to test on."""

    train: Digits
    test: Digits


def load(path: Path, projection: Projection) -> Splits:
    """Reads the four files of a folder. Raises DataError if one is missing or not an idx file of MNIST."""
    table = projection.coefficients_of_pixels
    return Splits(*(_digits(path, kind, table) for kind in ("train", "t10k")))


def _digits(path: Path, kind: str, table: Tensor) -> Digits:
    images = read_idx(path / f"{kind}-images-idx3-ubyte.gz", axes=3)
    labels = read_idx(path / f"{kind}-labels-idx1-ubyte.gz", axes=1)
    if images.shape[1:] != (SIZE, SIZE) or len(images) != len(labels) or not len(labels) or labels.max() > 9:
        raise DataError(
            f"{path}: {tuple(images.shape)} images with {len(labels)} labels of '{kind}' are not {SIZE} x {SIZE} "
            f"digits with a label of 0 to 9 each. Expected is {SOURCE}."
        )
    parts = [(part.float() / 255).flatten(1) @ table for part in images.split(5000)]  # (.., pixel) @ (pixel, ..)
    return Digits(torch.cat(parts), labels.long())


def read_idx(path: Path, axes: int) -> Tensor:
    """Bytes of a gzipped idx file. Raises DataError.

    Format: yann.lecun.com/exdb/mnist, four bytes that say `bytes, so many axes`, four for each axis, the values.
    """
    try:
        content = gzip.decompress(path.read_bytes())
        magic, *shape = struct.unpack_from(f">{1 + axes}I", content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"cannot read {path}: {error}. Expected is {SOURCE}.") from error
    start = 4 * (1 + axes)
    if magic != MAGIC[axes] or math.prod(shape) != len(content) - start:
        raise DataError(
            f"{path} is no idx file of {axes} axes: it begins with {magic}, not {MAGIC[axes]}, and has "
            f"{len(content) - start} bytes of values, not {math.prod(shape)}. Expected is {SOURCE}."
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())
