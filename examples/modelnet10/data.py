"""ModelNet10 as volumes, from one npz file of 30^3 solid occupancy grids, bit-packed, third axis up.

train_bits, test_bits (shape, 3375)   np.packbits of the 30^3 grids
train_y, test_y (shape)               classes, which index names
train_empty (shape)                   grids without a voxel, left out here
test_same_as_a_train_grid (shape)     test grids that are also in the training set
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from examples.common.files import DataError, read_arrays
from runtime.so3 import random_rotations
from runtime.volumes.resampling import LowPass

SOURCE = (
    "modelnet.cs.princeton.edu, ModelNet10 (academic use only), voxelised to 30^3 and packed as in "
    "examples/modelnet10/data.py; or a folder of SHREC17, shapenet.cs.stanford.edu/shrec17"
)
VARIABLE = "MODELNET10_DATA"
NEEDED = ("train_bits", "train_y", "train_empty", "test_bits", "test_y", "test_same_as_a_train_grid", "names")
GRID = 30


@dataclass(frozen=True)
class Raster:
    """Volumes of `size` voxels per axis, each as wide as `spacing` voxels of the grids.

    blur: width (sigma) of the Gaussian before a grid is turned, in voxels of the volume: what is sharper than these
    looks different in every orientation.
    """

    size: int
    spacing: float
    blur: float = 0.0


class Shapes(Protocol):
    """A set of shapes that can be drawn in any orientation.

    labels (shape); names of the classes; duplicate (shape): also in the training set; up: the vertical axis, 0, 1 or 2.
    """

    labels: Tensor
    names: tuple[str, ...]
    duplicate: Tensor
    up: int

    def __len__(self) -> int: ...

    def volume(self, index: int, rotation: Tensor) -> Tensor:
        """A shape turned by a rotation (3, 3): (1, x, y, z)."""
        ...


class Grids:
    """Shapes of one split of a ModelNet10 file."""

    up = 2

    def __init__(self, bits: Tensor, labels: Tensor, duplicate: Tensor, names: tuple[str, ...], raster: Raster) -> None:
        self.bits, self.labels, self.duplicate, self.names, self.raster = bits, labels, duplicate, names, raster
        self.blur = LowPass("1x0e", 1, scale=math.hypot(1, 2 * raster.blur * raster.spacing))

    def __len__(self) -> int:
        return len(self.labels)

    def volume(self, index: int, rotation: Tensor) -> Tensor:
        """A shape turned by a rotation (3, 3): (1, x, y, z), trilinear from the blurred grid."""
        grid = torch.from_numpy(np.unpackbits(self.bits[index].numpy(), count=GRID**3)).float()
        return resample(self.blur(grid.view(1, 1, GRID, GRID, GRID)), rotation, self.raster)[0]


def load(path: Path, raster: Raster) -> tuple[Grids, Grids]:
    """The training and the test shapes of a file. Raises DataError if it is not in the format above."""
    arrays = read_arrays(path, NEEDED, SOURCE)
    if arrays["train_bits"].shape[1:] != (GRID**3 // 8,):
        raise DataError(f"{path}: train_bits has shape {arrays['train_bits'].shape}, not (shape, {GRID**3 // 8}).")
    arrays = {key: value if key == "names" else torch.from_numpy(value) for key, value in arrays.items()}
    names, kept = tuple(arrays["names"].tolist()), ~arrays["train_empty"]
    train_labels = arrays["train_y"][kept].long()
    none = torch.zeros(len(train_labels), dtype=torch.bool)
    return (
        Grids(arrays["train_bits"][kept], train_labels, none, names, raster),
        Grids(arrays["test_bits"], arrays["test_y"].long(), arrays["test_same_as_a_train_grid"], names, raster),
    )


def resample(volumes: Tensor, rotation: Tensor, raster: Raster) -> Tensor:
    """Scalar volumes (batch, 1, n, n, n) turned about their centre and read on the raster's grid, trilinear."""
    axis = (torch.arange(raster.size) - (raster.size - 1) / 2) * raster.spacing
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) @ rotation.float()  # r^-1 x
    grid = (places * 2 / volumes.shape[-1]).flip(-1)  # grid_sample reads at (z, y, x), -1 to 1 over the size
    return F.grid_sample(volumes, grid.expand(len(volumes), *grid.shape), align_corners=False)


def draw_rotations(kind: str, count: int, up: int, generator: torch.Generator | None = None) -> Tensor:
    """Random rotations (count, 3, 3): 'z' about the vertical axis, 'SO3' of all kinds."""
    if kind == "SO3":
        return random_rotations(count, generator=generator)
    angle = 2 * torch.pi * torch.rand(count, dtype=torch.float64, generator=generator)
    first, second = (up + 1) % 3, (up + 2) % 3
    rotations = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    rotations[:, first, first] = rotations[:, second, second] = angle.cos()
    rotations[:, second, first], rotations[:, first, second] = angle.sin(), -angle.sin()
    return rotations


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """Volume and class of every shape, turned at random at every draw: kind 'z' or 'SO3'."""

    def __init__(self, shapes: Shapes, kind: str) -> None:
        self.shapes, self.kind = shapes, kind

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(1, x, y, z) and the class."""
        rotation = draw_rotations(self.kind, 1, self.shapes.up)[0]
        return self.shapes.volume(index, rotation), int(self.shapes.labels[index])
