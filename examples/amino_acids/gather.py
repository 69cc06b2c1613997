"""`python -m examples.amino_acids.gather SPLITS.csv FOLDER PROTEINS.npz`: PDB files made into one file for `data.py`.

SPLITS.csv has the columns entry and split (0 to train, 1 to validate, 2 to test); FOLDER holds <entry>.pdb or
<entry>.pdb.gz for every entry. Of each file: the ATOM records of the first model, the first of alternative locations.
Every residue of the 20 amino acids becomes a sample. Choose entries without similar sequences across the splits.

Source of the format: wwPDB, Atomic Coordinate Entry Format, version 3.3.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from examples.common.files import DataError

AMINO_ACIDS = (
    *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
    *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
)
ELEMENTS = ("C", "N", "O", "S", "H", "OTHER")


@dataclass
class _Columns:
    """The arrays of the file, growing."""

    xyz: list[tuple[float, float, float]] = field(default_factory=list)
    element: list[int] = field(default_factory=list)
    atom_name: list[str] = field(default_factory=list)
    atom_residue: list[int] = field(default_factory=list)
    residue_entry: list[int] = field(default_factory=list)
    residue_aa: list[int] = field(default_factory=list)
    entry_atom_offsets: list[int] = field(default_factory=lambda: [0])


def gather(splits: Path, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of `data.py` for the listed entries. Raises DataError if an entry has no file or a file no atom."""
    with splits.open(newline="", encoding="utf-8") as file:
        listed = [(row["entry"], int(row["split"])) for row in csv.DictReader(file)]
    columns = _Columns()
    for number, (entry, _) in enumerate(listed):
        _add(columns, number, _read(folder, entry), entry)
    names = sorted(set(columns.atom_name))
    index = {name: position for position, name in enumerate(names)}
    return {
        "xyz": np.array(columns.xyz, dtype=np.float32),
        "element": np.array(columns.element, dtype=np.uint8),
        "element_names": np.array(ELEMENTS),
        "atom_name": np.array([index[name] for name in columns.atom_name], dtype=np.uint16),
        "atom_names": np.array(names),
        "atom_residue": np.array(columns.atom_residue, dtype=np.int32),
        "residue_entry": np.array(columns.residue_entry, dtype=np.int32),
        "residue_aa": np.array(columns.residue_aa, dtype=np.int8),
        "residue_is_centre": np.array(columns.residue_aa) >= 0,
        "aa_names": np.array(AMINO_ACIDS),
        "entries": np.array([entry for entry, _ in listed]),
        "entry_atom_offsets": np.array(columns.entry_atom_offsets, dtype=np.int64),
        "entry_split": np.array([split for _, split in listed], dtype=np.int8),
    }


def _read(folder: Path, entry: str) -> list[str]:
    """Lines of an entry's first model."""
    for path in (folder / f"{entry}.pdb", folder / f"{entry}.pdb.gz"):
        if path.exists():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            return content.decode("ascii", errors="replace").partition("\nENDMDL")[0].splitlines()
    raise DataError(f"{folder} has neither {entry}.pdb nor {entry}.pdb.gz. Download it from rcsb.org.")


def _add(columns: _Columns, number: int, lines: list[str], entry: str) -> None:
    """Appends the atoms of one entry; a residue begins where chain, number or insertion code change."""
    last, seen = "", set()
    for line in lines:
        if not line.startswith("ATOM  "):
            continue
        residue, name = line[17:27], line[12:16].strip()
        if residue != last:
            columns.residue_entry.append(number)
            columns.residue_aa.append(AMINO_ACIDS.index(line[17:20]) if line[17:20] in AMINO_ACIDS else -1)
            last, seen = residue, set()
        if name in seen:  # another location of an atom
            continue
        seen.add(name)
        element = line[76:78].strip() or name.lstrip("0123456789")[:1]
        columns.xyz.append((float(line[30:38]), float(line[38:46]), float(line[46:54])))
        columns.element.append(ELEMENTS.index(element if element in ELEMENTS else "OTHER"))
        columns.atom_name.append(name)
        columns.atom_residue.append(len(columns.residue_aa) - 1)
    if len(columns.xyz) == columns.entry_atom_offsets[-1]:
        raise DataError(f"entry {entry} has no ATOM record.")
    columns.entry_atom_offsets.append(len(columns.xyz))


@click.command()
@click.argument("splits", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def main(splits: Path, folder: Path, out: Path) -> None:
    """Gather PDB files into one file for `python -m examples.amino_acids`."""
    try:
        arrays = gather(splits, folder)
    except (DataError, OSError, KeyError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    np.savez_compressed(out, **arrays)
    click.echo(f"{out}: {len(arrays['entries'])} entries, {int(arrays['residue_is_centre'].sum()):,} residues")


if __name__ == "__main__":
    main()
