"""Environments of residues as volumes: boxes about C-alpha, cut from whole proteins when they are drawn.

A file (npz) of proteins from the PDB:

    xyz (atom, 3)                    angstrom; element (atom) indexes element_names, atom_name (atom) atom_names
    atom_residue (atom)              residue of each atom, over all proteins
    residue_aa (residue)             indexes aa_names, -1 for anything else
    residue_is_centre (residue)      whether it is one of the samples
    residue_entry (residue)          its protein
    entry_atom_offsets (entry + 1)   atoms of each protein
    entry_split (entry)              0 to train, 1 to validate, 2 to test

In the box are all C, N, O and S atoms but those of the centre's own side chain; C-beta belongs to the side chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from examples.common.atoms import Raster
from examples.common.files import read_arrays
from runtime.so3 import random_rotations

SOURCE = (
    "PDB entries (rcsb.org, CC0), made into one file by python -m examples.amino_acids.gather; the sets of "
    "Torng and Altman, 2017, and Weiler et al., 2018, are made of PDB entries too"
)
VARIABLE = "AMINO_ACID_DATA"
ELEMENTS = ("C", "N", "O", "S")
BACKBONE = ("N", "CA", "C", "O", "OXT")
NEEDED = (
    *("xyz", "element", "element_names", "atom_name", "atom_names", "atom_residue", "residue_aa", "aa_names"),
    *("residue_is_centre", "residue_entry", "entry_atom_offsets", "entry_split"),
)


@dataclass(frozen=True)
class Proteins:
    """All atoms of all proteins, and the residues to classify.

    xyz (atom, 3); kinds (atom): 0-3 for C, N, O, S, -1 for others; side_chain (atom): not of the backbone;
    residue (atom); ranges (entry, 2): first and last + 1 atom of a protein. Of the centres, (centre): their residue,
    protein, amino acid, split, and the atoms N, CA, C (centre, 3) of their backbone.
    """

    xyz: Tensor
    kinds: Tensor
    side_chain: Tensor
    residue: Tensor
    ranges: Tensor
    centre_residue: Tensor
    centre_entry: Tensor
    centre_label: Tensor
    centre_split: Tensor
    centre_backbone: Tensor
    names: tuple[str, ...]

    def of_split(self, split: int) -> Tensor:
        """The centres of a split."""
        return (self.centre_split == split).nonzero()[:, 0]

    def environment(self, centre: int, reach: float) -> tuple[Tensor, Tensor]:
        """Atoms about C-alpha, (atom, 3) in angstrom, and their kinds, without the own side chain, within `reach`."""
        first, end = self.ranges[self.centre_entry[centre]].tolist()
        offsets = self.xyz[first:end] - self.xyz[self.centre_backbone[centre, 1]]
        own = self.side_chain[first:end] & (self.residue[first:end] == self.centre_residue[centre])
        kept = (offsets.abs().amax(dim=1) < reach) & ~own & (self.kinds[first:end] >= 0)
        return offsets[kept], self.kinds[first:end][kept]

    def frame(self, centre: int) -> Tensor:
        """Rotation (3, 3) into the backbone's own frame: x towards C, N in the xy plane."""
        n, ca, c = self.xyz[self.centre_backbone[centre]]
        x = F.normalize(c - ca, dim=0)
        y = F.normalize((n - ca) - x * ((n - ca) @ x), dim=0)
        return torch.stack([x, y, torch.linalg.cross(x, y)])


def load(path: Path) -> Proteins:
    """Reads a file; centres without N, CA or C are left out. Raises DataError if it is not in the format above."""
    arrays = read_arrays(path, NEEDED, f"one file of {SOURCE}")
    names, residue = arrays["atom_names"][arrays["atom_name"]], arrays["atom_residue"]
    kind_of = [ELEMENTS.index(name) if name in ELEMENTS else -1 for name in arrays["element_names"].tolist()]
    backbone = np.full((len(arrays["residue_aa"]), 3), -1)
    for column, name in enumerate(BACKBONE[:3]):
        found = np.nonzero(names == name)[0][::-1]  # the first of several wins
        backbone[residue[found], column] = found
    centres = np.nonzero(arrays["residue_is_centre"] & (arrays["residue_aa"] >= 0) & (backbone >= 0).all(axis=1))[0]
    entry, offsets = arrays["residue_entry"][centres], arrays["entry_atom_offsets"]
    return Proteins(
        xyz=torch.from_numpy(arrays["xyz"].astype(np.float32)),
        kinds=torch.tensor(kind_of)[torch.from_numpy(arrays["element"].astype(np.int64))],
        side_chain=torch.from_numpy(~np.isin(names, BACKBONE)),
        residue=torch.from_numpy(residue.astype(np.int64)),
        ranges=torch.from_numpy(np.stack([offsets[:-1], offsets[1:]], axis=1)),
        centre_residue=torch.from_numpy(centres),
        centre_entry=torch.from_numpy(entry.astype(np.int64)),
        centre_label=torch.from_numpy(arrays["residue_aa"][centres].astype(np.int64)),
        centre_split=torch.from_numpy(arrays["entry_split"][entry].astype(np.int64)),
        centre_backbone=torch.from_numpy(backbone[centres]),
        names=tuple(arrays["aa_names"].tolist()),
    )


def render(proteins: Proteins, centres: list[int], rotations: Tensor, raster: Raster) -> Tensor:
    """Boxes (centre, 4, x, y, z) about centres, their atoms turned by rotations (centre, 3, 3)."""
    half = raster.size * raster.spacing / 2
    parts = [proteins.environment(centre, half * 3**0.5 + 3 * raster.sigma) for centre in centres]
    most = max(len(kinds) for _, kinds in parts)
    points = torch.stack(
        [F.pad(p @ r.mT.to(p), (0, 0, 0, most - len(p))) for (p, _), r in zip(parts, rotations, strict=True)]
    )
    kinds = torch.stack([F.pad(kinds, (0, most - len(kinds)), value=-1) for _, kinds in parts])
    return raster.densities(points, kinds, channels=len(ELEMENTS))


class TrainingSet(Dataset[tuple[Tensor, int]]):
    """`draws` boxes per epoch, every amino acid equally often: at each draw a random residue of its kind.

    framed: in the frame of its backbone; else in a random orientation.
    """

    def __init__(self, proteins: Proteins, raster: Raster, draws: int, *, framed: bool) -> None:
        self.proteins, self.raster, self.draws, self.framed = proteins, raster, draws, framed
        centres = proteins.of_split(0)
        labels = proteins.centre_label[centres]
        self.by_label = [centres[labels == label] for label in range(len(proteins.names))]

    def __len__(self) -> int:
        return self.draws

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """(4, x, y, z) and the amino acid."""
        label = index % len(self.by_label)
        own = self.by_label[label]
        centre = int(own[torch.randint(len(own), ())])
        rotation = self.proteins.frame(centre)[None] if self.framed else random_rotations(1)
        return render(self.proteins, [centre], rotation, self.raster)[0], label
