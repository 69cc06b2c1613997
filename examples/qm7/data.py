"""QM7 as its public file has it, and what the networks are told of a molecule.

    R (molecule, 23, 3)     positions in bohr, padded
    Z (molecule, 23)        atomic numbers, 0 where there is no atom
    T (1, molecule)         atomisation energies in kcal/mol
    P (5, molecule / 5)     indices of the five official folds

Source: Rupp et al., Phys. Rev. Lett. 108, 058301 (2012); the folds of Montavon et al., NIPS 2012; quantum-machine.org.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from examples.common.files import DataError, read_arrays

SOURCE = "quantum-machine.org, qm7.mat saved as npz with R, Z, T and P (cite Rupp et al. 2012; do not redistribute)"
VARIABLE = "QM7_DATA"
NEEDED = ("R", "Z", "T", "P")
ELEMENTS = (1, 6, 7, 8, 16)
SYMBOLS = ("H", "C", "N", "O", "S")
RADII = (0.60, 1.44, 1.34, 1.25, 1.98)  # bohr, covalent
SUBSET_SEED = 20120131  # of the reduced training sets, the same for every network and seed


@dataclass(frozen=True)
class Molecules:
    """Molecules, one entry each.

    positions   (atom, 3), bohr, float64
    kinds       (atom), indices of ELEMENTS
    energies    (molecule), kcal/mol
    folds       indices (molecule) of each official fold
    """

    positions: tuple[Tensor, ...]
    kinds: tuple[Tensor, ...]
    energies: Tensor
    folds: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: Tensor) -> Molecules:
        """Some of the molecules, without folds."""
        chosen = indices.tolist()
        points, kinds = (tuple(part[i] for i in chosen) for part in (self.positions, self.kinds))
        return Molecules(points, kinds, self.energies[indices], ())

    def turned(self, rotation: Tensor) -> Molecules:
        """The same molecules, turned by a rotation (3, 3)."""
        return replace(self, positions=tuple(points @ rotation.T.double() for points in self.positions))

    def counts(self) -> Tensor:
        """Atoms of each element, (molecule, element)."""
        return torch.stack([torch.bincount(kinds, minlength=len(ELEMENTS)) for kinds in self.kinds])

    def formula(self, index: int) -> str:
        """For example C4H6OS, in Hill's order."""
        numbers = dict(zip(SYMBOLS, self.counts()[index].tolist(), strict=True))
        order = [symbol for symbol in ("C", "H", "N", "O", "S") if numbers[symbol]]
        return "".join(symbol + (str(numbers[symbol]) if numbers[symbol] > 1 else "") for symbol in order)

    def rings(self, index: int) -> int:
        """Independent cycles of bonds; atoms are bonded within 1.25 times the sum of their covalent radii."""
        radii = torch.tensor(RADII)[self.kinds[index]]
        points = self.positions[index]
        bonded = torch.cdist(points, points) < 1.25 * (radii[:, None] + radii)
        return (int(bonded.sum()) - len(points)) // 2 - len(points) + 1

    def training(self, fold: int, factor: int = 1) -> Tensor:
        """Indices of all molecules outside a fold, or of one in `factor` of them; smaller sets are within larger."""
        rest = torch.cat([part for number, part in enumerate(self.folds) if number != fold])
        order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(SUBSET_SEED))
        return rest[order[: len(rest) // factor]].sort().values


def load(path: Path) -> Molecules:
    """Reads a file. Raises DataError if it is not in the format above."""
    positions, numbers, energies, folds = read_arrays(path, NEEDED, SOURCE).values()
    energies = np.asarray(energies).reshape(-1)
    if positions.shape != (*numbers.shape, 3) or len(energies) != len(positions) or folds.ndim != 2:
        shapes = ", ".join(f"{n} {v.shape}" for n, v in zip(NEEDED, (positions, numbers, energies, folds), strict=True))
        raise DataError(f"{path} is no QM7 file: {shapes}. Expected is {SOURCE}.")
    if set(np.unique(numbers).astype(int)) - {0, *ELEMENTS}:
        raise DataError(f"{path} has elements beside H, C, N, O and S. Expected is {SOURCE}.")
    if not np.array_equal(np.sort(folds, axis=None), np.arange(len(positions))):
        raise DataError(f"{path}: the folds P do not hold every molecule once. Expected is {SOURCE}.")
    kinds = np.searchsorted(ELEMENTS, numbers)  # of padding too, which is cut off
    there = [np.flatnonzero(row) for row in numbers]
    return Molecules(
        tuple(torch.from_numpy(p[at].astype(np.float64)) for p, at in zip(positions, there, strict=True)),
        tuple(torch.from_numpy(k[at].astype(np.int64)) for k, at in zip(kinds, there, strict=True)),
        torch.from_numpy(energies.astype(np.float64)),
        tuple(torch.from_numpy(fold.astype(np.int64)) for fold in folds),
    )


@dataclass(frozen=True)
class Composition:
    """The part of the energy that the formula tells: a least-squares fit of a number for each element and a constant.

    weights     (element + 1), kcal/mol
    scale       standard deviation of what is left, over the molecules of the fit
    """

    weights: Tensor
    scale: float

    def energies(self, counts: Tensor) -> Tensor:
        """(molecule, element) -> kcal/mol (molecule)."""
        return _with_one(counts) @ self.weights

    @classmethod
    def of(cls, counts: Tensor, energies: Tensor) -> Composition:
        """Fitted to molecules of these formulas and energies."""
        table = _with_one(counts)
        weights = torch.linalg.lstsq(table, energies[:, None], driver="gelsd").solution[:, 0]
        return cls(weights, (energies - table @ weights).std().item())


def _with_one(counts: Tensor) -> Tensor:
    return torch.cat([counts.double(), torch.ones(len(counts), 1, dtype=torch.float64)], 1)
