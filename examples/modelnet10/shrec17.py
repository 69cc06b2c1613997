"""SHREC17, large-scale shape retrieval from ShapeNet Core55, in its published layout:

    <folder>/train.csv, val.csv, test.csv      header id,synsetId,subSynsetId,modelId,split (the last two may be absent)
    <folder>/train_normal/000001.obj, ...      aligned shapes; <split>_perturbed: turned at random; or just <split>

A shape is drawn as its surface: points on all triangles, closer than the voxels of a grid of twice the resolution, mark
voxels there; a low-pass with a stride of 2 makes the volume. Source: Savva et al., SHREC'17 Track, 2017; drawn as in
Weiler et al. 2018.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from examples.common.files import DataError
from examples.modelnet10.data import Raster
from runtime.volumes.resampling import LowPass


class Meshes:
    """Shapes of one split of a SHREC17 folder; labels by synset, numbered in the order of `names`.

    Raises DataError if the list or the folder of the split is missing, or a listed synset is not among `names`.
    """

    up = 1

    def __init__(
        self, folder: Path, split: str, raster: Raster, *, perturbed: bool, names: tuple[str, ...] = ()
    ) -> None:
        rows = read_list(folder / f"{split}.csv")
        self.names = names or tuple(sorted({synset for _, synset, _ in rows}))
        unknown = sorted({synset for _, synset, _ in rows} - set(self.names))
        if unknown:
            raise DataError(f"{folder / f'{split}.csv'}: {', '.join(unknown)} is not a class of the training set.")
        self.paths = [_meshes(folder, split, perturbed) / f"{name}.obj" for name, _, _ in rows]
        self.labels = torch.tensor([self.names.index(synset) for _, synset, _ in rows])
        self.sub_synsets = tuple(sub for _, _, sub in rows)
        self.duplicate = torch.zeros(len(rows), dtype=torch.bool)
        self.raster = raster

    def __len__(self) -> int:
        return len(self.paths)

    def volume(self, index: int, rotation: Tensor) -> Tensor:
        """A shape turned by a rotation (3, 3): (1, x, y, z); it fills the ball in the volume."""
        return occupancy(_surface(self.paths[index], self.raster.size) @ rotation.float().mT, self.raster.size)


def read_list(path: Path) -> list[tuple[str, str, str]]:
    """Rows (id, synset, sub-synset) of a split's list. Raises DataError if a column is missing."""
    if not path.exists():
        raise DataError(f"{path} does not exist: SHREC17 has train.csv, val.csv and test.csv in its folder.")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"id", "synsetId", "subSynsetId"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path} has no column {', '.join(sorted(missing))}; it has {reader.fieldnames}.")
        return [(row["id"], row["synsetId"], row["subSynsetId"]) for row in reader]


def read_obj(path: Path) -> tuple[Tensor, Tensor]:
    """Vertices (vertex, 3) and triangles (triangle, 3) of a Wavefront OBJ file; polygons as fans of triangles.

    Raises DataError if the file has no face or a face without its vertices.
    """
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    try:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["v"]:
                vertices.append([float(word) for word in words[1:4]])
            elif words[:1] == ["f"]:
                numbers = [int(word.split("/")[0]) for word in words[1:]]
                corners = [n - 1 if n > 0 else len(vertices) + n for n in numbers]  # negative: from the latest back
                triangles += [(corners[0], b, c) for b, c in pairwise(corners[1:])]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not triangles or min(map(min, triangles)) < 0 or max(map(max, triangles)) >= len(vertices):
        raise DataError(f"{path}: {len(triangles)} triangles of {len(vertices)} vertices make no surface.")
    return torch.tensor(vertices), torch.tensor(triangles)


def surface_points(vertices: Tensor, triangles: Tensor, spacing: float) -> Tensor:
    """Points (point, 3) on all triangles, at most `spacing` apart from one another within a triangle."""
    corners = vertices[triangles]  # (triangle, corner, 3)
    longest = (corners - corners.roll(1, 1)).norm(dim=2).amax(dim=1)
    steps = (longest / spacing).ceil().clamp(1, 512).long()
    found = []
    for count in steps.unique().tolist():
        i, j = torch.meshgrid(torch.arange(count + 1), torch.arange(count + 1), indexing="ij")
        inside = i + j <= count
        weights = torch.stack([i[inside], j[inside], count - i[inside] - j[inside]], 1) / count  # (point, corner)
        found.append(torch.einsum("pc,tcd->tpd", weights, corners[steps == count]).flatten(0, 1))
    return torch.cat(found)


def occupancy(points: Tensor, size: int) -> Tensor:
    """Points in the unit ball as a volume (1, size, size, size): marked on a grid twice as fine, then low-passed."""
    fine = 2 * size
    voxels = ((points + 1) * (fine / 2)).long().clamp(0, fine - 1)
    grid = torch.zeros(1, 1, fine, fine, fine)
    grid[0, 0, voxels[:, 0], voxels[:, 1], voxels[:, 2]] = 1
    return LowPass("1x0e", 2, kernel_size=6)(grid)[0]


@lru_cache(maxsize=256)
def _surface(path: Path, size: int) -> Tensor:
    """Surface points of a mesh about the mean of its vertices, scaled into the unit ball."""
    vertices, triangles = read_obj(path)
    used = vertices[triangles.unique()]
    centre = used.mean(dim=0)
    vertices = (vertices - centre) / (used - centre).norm(dim=1).max().clamp(min=1e-9)
    return surface_points(vertices, triangles, 1 / (2 * size))


def _meshes(folder: Path, split: str, perturbed: bool) -> Path:
    names = [f"{split}_perturbed"] if perturbed else [f"{split}_normal", split]
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    raise DataError(f"{folder} has no folder {' or '.join(names)} of OBJ files.")
