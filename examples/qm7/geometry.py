"""What a network is told of molecules, computed once: signals about every atom but the hydrogens.

Two kinds, both in closed form by `runtime.spheres`, with v_ij and d_ij the direction and distance from centre i to
atom j:

    densities    T_nlm(i, j) = g_n(d_ij) Y_lm(v_ij)            g_n: Gaussians of ln d
    potentials   U_zlm(i) = sum over j of element z:  q_i q_j 4 pi / (2l+1) d_ij^-(l+1) Y_lm(v_ij)

With a number s_j for every atom, the density of these numbers about centre i is sum_j s_j T_nlm(i, j): one matrix
product. The densities of the elements have s_j = 1 for theirs and 0 for others. Every degree is divided by its root
mean square over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from examples.qm7.data import ELEMENTS, Molecules
from runtime.spheres import atom_potentials, neighbour_densities

CHUNK = 64  # molecules worked on together
SPHERE = 1.0  # bohr: radius of the sphere of a potential, within all distances; the division by lengths removes it


class Input(Protocol):
    """A kind of signals about the centres of molecules."""

    @property
    def dtype(self) -> torch.dtype:
        """Of positions and signals."""

    def signals(self, positions: Tensor, kinds: Tensor, centres: int) -> list[Tensor]:
        """(molecule, atom, 3), (molecule, atom), -1 for no atom -> of each degree (molecule, ..., centre)."""


@dataclass(frozen=True)
class Shells:
    """Densities: radial functions about `radii`, bohr, in a geometric series, fade out at `cutoff`; degrees < limit."""

    radii: tuple[float, ...]
    cutoff: float
    limit: int
    dtype: ClassVar[torch.dtype] = torch.float32

    def rows(self) -> list[int]:
        """Of each degree radii and orders together."""
        return [len(self.radii) * (2 * degree + 1) for degree in range(self.limit)]

    def signals(self, positions: Tensor, kinds: Tensor, centres: int) -> list[Tensor]:
        """T of each degree, (molecule, atom, radius and order, centre)."""
        molecules, atoms = kinds.shape
        own = torch.where(kinds >= 0, torch.arange(atoms), -1)  # every atom is an element of its own
        densities = neighbour_densities(
            positions, own, elements=range(atoms), limit=self.limit, radii=self.radii, cutoff=self.cutoff
        )[:, :, :centres]
        parts = densities.split([atoms * count for count in self.rows()], 1)
        return [part.reshape(molecules, atoms, -1, centres) for part in parts]


@dataclass(frozen=True)
class ElementDensities:
    """The densities of the five elements."""

    shells: Shells
    dtype: ClassVar[torch.dtype] = torch.float64

    def signals(self, positions: Tensor, kinds: Tensor, centres: int) -> list[Tensor]:
        """Sums of T over the atoms of an element, of each degree, (molecule, element, radius and order, centre)."""
        shells, elements = self.shells, range(len(ELEMENTS))
        densities = neighbour_densities(
            positions, kinds, elements=elements, limit=shells.limit, radii=shells.radii, cutoff=shells.cutoff
        )[:, :, :centres]
        parts = densities.split([len(ELEMENTS) * count for count in shells.rows()], 1)
        return [part.unflatten(1, (len(ELEMENTS), -1)) for part in parts]


@dataclass(frozen=True)
class Potentials:
    """Potentials of the five elements, as Cohen et al. 2018 have them; degrees < limit. double: in float64."""

    limit: int
    double: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Of positions and signals."""
        return torch.float64 if self.double else torch.float32

    def signals(self, positions: Tensor, kinds: Tensor, centres: int) -> list[Tensor]:
        """U of each degree, (molecule, element and order, centre)."""
        numbers = torch.where(kinds >= 0, torch.tensor(ELEMENTS)[kinds], -1)
        potentials = atom_potentials(positions, numbers, elements=ELEMENTS, limit=self.limit, radius=SPHERE)
        rows = [len(ELEMENTS) * (2 * degree + 1) for degree in range(self.limit)]
        return list(potentials[:, :, :centres].split(rows, 1))


@dataclass(frozen=True)
class Batch:
    """Molecules as a network takes them.

    kinds     (molecule, atom), indices of ELEMENTS, centres first; -1: no atom
    centre    (molecule, centre): whether there is one
    signals   of each degree, see Input.signals
    """

    kinds: Tensor
    centre: Tensor
    signals: list[Tensor]

    def __len__(self) -> int:
        return len(self.kinds)

    def to(self, device: torch.device) -> Batch:
        """The same there."""
        return Batch(self.kinds.to(device), self.centre.to(device), [signal.to(device) for signal in self.signals])


class Geometry:
    """The signals of all molecules of a data set, on the CPU.

    lengths: of each degree, by which it is divided; those of the molecules themselves unless given.
    """

    def __init__(self, molecules: Molecules, seen: Input, lengths: Sequence[float] = ()) -> None:
        self.input = seen
        order = [kinds.eq(0).long().argsort(stable=True) for kinds in molecules.kinds]  # hydrogens last
        points = [points[at].to(seen.dtype) for points, at in zip(molecules.positions, order, strict=True)]
        positions = pad_sequence(points, batch_first=True)  # (molecule, atom, 3)
        kinds = [kinds[at] for kinds, at in zip(molecules.kinds, order, strict=True)]
        self.kinds = pad_sequence(kinds, batch_first=True, padding_value=-1)  # (molecule, atom)
        centres = int((self.kinds > 0).sum(1).max())
        self.centre = self.kinds[:, :centres] > 0
        parts = [
            seen.signals(positions[part], self.kinds[part], centres)
            for part in torch.arange(len(positions)).split(CHUNK)
        ]
        self.signals = [torch.cat(degree) for degree in zip(*parts, strict=True)]  # (molecule, ..., centre)
        self.lengths = tuple(lengths) or tuple(_length(signal, self.centre) for signal in self.signals)
        for signal, length in zip(self.signals, self.lengths, strict=True):
            signal /= length

    def batch(self, indices: Tensor) -> Batch:
        """The molecules of these indices."""
        return Batch(self.kinds[indices], self.centre[indices], [signal[indices] for signal in self.signals])


def _length(signal: Tensor, centre: Tensor) -> float:
    """Root mean square over the centres; of densities, of those of all atoms together."""
    values = signal.sum(1) if signal.ndim == 4 else signal  # (molecule, row, centre)
    return values.movedim(2, 1)[centre].square().mean().sqrt().item()  # (centre that is there, row)
