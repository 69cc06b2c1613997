"""CATH domains as volumes, from the format of the public `cath_datasets` files (wouterboomsma/cath_datasets).

    n_atoms (domain)              atoms of each domain
    positions (domain, atom, 3)   C-alpha positions in angstrom, padded
    labels (domain, 1 or 2)       class, or class and architecture
    split_start_indices (10)      the first domain of each of ten splits, disjoint in their superfamilies

Splits 0-6 train, 7 validates, 8 and 9 test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from examples.common.atoms import Raster
from examples.common.files import DataError, read_arrays
from runtime.so3 import random_rotations

SOURCE = "github.com/wouterboomsma/cath_datasets, cath_3class_ca.npz or cath_10arch_ca.npz (CATH: CC BY 4.0, PDB: CC0)"
VARIABLE = "CATH_DATA"
NEEDED = ("n_atoms", "positions", "labels", "split_start_indices")
SUBSET_SEED = 20180706  # of the reduced training sets, the same for every network and seed


@dataclass(frozen=True)
class Domains:
    """Domains and their classes, counted from 0 in the order of the labels.

    positions: (atom, 3) angstrom about their mean, per domain; labels (domain); names of the classes.
    """

    positions: tuple[Tensor, ...]
    labels: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: Tensor) -> Domains:
        """Some of the domains, in the order of the indices."""
        return Domains(tuple(self.positions[i] for i in indices.tolist()), self.labels[indices], self.names)

    def reduced(self, factor: int) -> Domains:
        """One of every `factor` domains of each class, at least one; smaller sets are within larger ones."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(SUBSET_SEED))
        own = [order[self.labels[order] == label] for label in range(len(self.names))]
        return self.take(torch.cat([members[: max(1, len(members) // factor)] for members in own]).sort().values)


@dataclass(frozen=True)
class Splits:
    """The domains to train, to validate and to test on."""

    train: Domains
    validation: Domains
    test: Domains


def load(path: Path) -> Splits:
    """Reads a file. Raises DataError if it is not in the format above."""
    counts, positions, labels, starts = read_arrays(path, NEEDED, SOURCE).values()
    if len(starts) != 10 or not len(counts) == len(positions) == len(labels):
        raise DataError(f"{path}: {len(starts)} splits of {len(positions)} domains with {len(labels)} labels, not ten.")
    kinds, classes = np.unique(labels.reshape(len(labels), -1), axis=0, return_inverse=True)
    points = [torch.from_numpy(p[:n].astype(np.float32)) for p, n in zip(positions, counts, strict=True)]
    domains = Domains(
        tuple(p - p.mean(dim=0) for p in points),
        torch.from_numpy(classes.reshape(-1).astype(np.int64)),
        tuple(".".join(str(part) for part in kind) for kind in kinds),
    )
    everything = torch.arange(len(domains))
    train, validation, test = everything.tensor_split([int(starts[7]), int(starts[8])])
    return Splits(domains.take(train), domains.take(validation), domains.take(test))


def render(positions: list[Tensor], raster: Raster) -> Tensor:
    """Densities of domains: (domain, 1, x, y, z); every atom sums to 1."""
    most = max(len(points) for points in positions)
    padded = torch.stack([torch.nn.functional.pad(points, (0, 0, 0, most - len(points))) for points in positions])
    counts = torch.tensor([len(points) for points in positions])
    kinds = torch.where(torch.arange(most) < counts[:, None], 0, -1)
    return raster.densities(padded, kinds, channels=1)


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """Volume and class of every domain, in a new random orientation at every draw if `turned`."""

    def __init__(self, domains: Domains, raster: Raster, *, turned: bool) -> None:
        self.domains, self.raster, self.turned = domains, raster, turned

    def __len__(self) -> int:
        return len(self.domains)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(1, x, y, z) and the class."""
        points = self.domains.positions[index]
        if self.turned:
            points = points @ random_rotations(1)[0].mT.to(points)
        return render([points], self.raster)[0], int(self.domains.labels[index])
