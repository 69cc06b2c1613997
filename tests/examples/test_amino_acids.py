"""Amino acids: boxes hold the right atoms in the right frame, networks of both presets are built, a tiny run works."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from examples.amino_acids.__main__ import main
from examples.amino_acids.data import Raster, TrainingSet, load, render
from examples.amino_acids.experiment import HERE, Preset, build, train_and_test
from examples.amino_acids.gather import gather
from examples.amino_acids.gather import main as gather_command
from examples.common.cases import Case
from examples.common.files import DataError
from examples.common.presets import load_preset
from runtime.so3 import random_rotations

NAMES = ["N", "CA", "C", "O", "CB", "SG"]
ELEMENTS = ["C", "N", "O", "S", "H"]
KINDS = [1, 0, 0, 2, 0, 3]


def make(path: Path) -> None:
    """Three proteins, one of each split, of four residues of six atoms; the last residue of each is not complete."""
    generator = np.random.default_rng(0)
    places = np.array([[-1.2, 0.8, 0], [0, 0, 0], [1.5, 0, 0], [2, 1.1, 0], [-0.6, -0.9, 1.1], [-1, -2, 2]])
    residues = 12
    xyz = np.concatenate([places + 6 * generator.standard_normal(3) for _ in range(residues)])
    names = np.tile(np.arange(6), residues)
    names[(np.arange(residues * 6) // 6 % 4 == 3) & (names == 2)] = 3  # no C in every fourth residue
    np.savez(
        path,
        xyz=xyz.astype(np.float32),
        element=np.tile(KINDS, residues).astype(np.uint8),
        element_names=np.array(ELEMENTS),
        atom_name=names.astype(np.uint16),
        atom_names=np.array(NAMES),
        atom_residue=np.repeat(np.arange(residues), 6).astype(np.int32),
        residue_entry=np.repeat(np.arange(3), 4).astype(np.int32),
        residue_aa=np.tile([0, 1, 0, 1], 3).astype(np.int8),
        residue_is_centre=np.ones(residues, dtype=bool),
        aa_names=np.array(["ALA", "CYS"]),
        entry_atom_offsets=np.arange(0, 73, 24),
        entry_split=np.arange(3).astype(np.int8),
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    make(tmp_path / "made.npz")
    return tmp_path / "made.npz"


def test_the_format_is_read_and_incomplete_residues_are_left_out(made: Path) -> None:
    proteins = load(made)
    assert [len(proteins.of_split(split)) for split in range(3)] == [3, 3, 3]
    assert proteins.centre_label.tolist() == [0, 1, 0] * 3
    assert proteins.names == ("ALA", "CYS")


def test_a_file_of_another_format_is_refused(made: Path, tmp_path: Path) -> None:
    with np.load(made) as file:
        np.savez(tmp_path / "other.npz", **{key: file[key] for key in file.files if key != "entry_split"})
    with pytest.raises(DataError, match="lacks entry_split"):
        load(tmp_path / "other.npz")


PDB = """\
HEADER    MADE
MODEL        1
ATOM      1  N   ALA A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA AALA A   1      11.639   6.071  -5.147  0.60  0.00           C
ATOM      3  CA BALA A   1      11.700   6.000  -5.000  0.40  0.00           C
ATOM      4  C   ALA A   1      10.603   5.500  -4.200  1.00  0.00           C
ATOM      5  CB  ALA A   1      12.900   5.200  -5.100  1.00  0.00           C
ATOM      6  N   CYS A   2       9.400   6.050  -4.250  1.00  0.00           N
ATOM      7  CA  CYS A   2       8.300   5.600  -3.400  1.00  0.00           C
ATOM      8  C   CYS A   2       8.600   5.950  -1.950  1.00  0.00           C
ATOM      9  SG  CYS A   2       6.700   6.400  -3.900  1.00  0.00           S
ATOM     10  CA  CYS A   2A      8.300   9.600  -3.400  1.00  0.00           C
HETATM   11  O   HOH A 101       1.000   1.000   1.000  1.00  0.00           O
ENDMDL
MODEL        2
ATOM      1  N   ALA A   1       0.000   0.000   0.000  1.00  0.00           N
ENDMDL
"""


def test_pdb_files_are_gathered(tmp_path: Path) -> None:
    (tmp_path / "1abc.pdb").write_text(PDB)
    (tmp_path / "2abc.pdb.gz").write_bytes(gzip.compress(PDB.encode()))
    (tmp_path / "splits.csv").write_text("entry,split\n1abc,0\n2abc,2\n")
    out = tmp_path / "proteins.npz"
    result = CliRunner().invoke(gather_command, [str(tmp_path / "splits.csv"), str(tmp_path), str(out)])
    assert result.exit_code == 0, result.output
    with np.load(out) as file:
        assert file["entry_atom_offsets"].tolist() == [0, 9, 18]  # one location of an atom, one model, no water
        assert file["residue_aa"].tolist() == [0, 1, 1] * 2
        assert file["xyz"][1].tolist() == pytest.approx([11.639, 6.071, -5.147])
    proteins = load(out)
    assert proteins.centre_label.tolist() == [0, 1, 0, 1]  # the residue with C-alpha alone is no sample
    assert proteins.centre_split.tolist() == [0, 0, 2, 2]
    offsets, kinds = proteins.environment(1, 1000.0)
    assert len(offsets) == 9 - 1
    assert 3 not in kinds  # the own sulphur


def test_missing_pdb_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("entry,split\n1abc,0\n")
    with pytest.raises(DataError, match=r"neither 1abc\.pdb nor 1abc\.pdb\.gz"):
        gather(tmp_path / "splits.csv", tmp_path)


def test_the_own_side_chain_is_not_in_the_box_and_that_of_others_is(made: Path) -> None:
    proteins = load(made)
    offsets, kinds = proteins.environment(0, 1000.0)
    assert len(offsets) == 24 - 2  # of the protein's atoms all but C-beta and S of the centre
    assert kinds.bincount().tolist() == [2 + 3 * 3, 4, 4, 3]
    assert (offsets.norm(dim=1) < 1e-6).sum() == 1  # C-alpha is the centre
    near, _ = proteins.environment(0, 1.6)
    assert len(near) < len(offsets)


def test_the_frame_of_the_backbone_does_not_depend_on_the_orientation(made: Path) -> None:
    proteins = load(made)
    turn = random_rotations(1, generator=torch.Generator().manual_seed(0))[0].float()
    turned = replace(proteins, xyz=proteins.xyz @ turn.mT)
    raster = Raster(8, 2.0, 1.5)
    frames = [torch.stack([p.frame(0)]) for p in (proteins, turned)]
    torch.testing.assert_close(frames[0] @ frames[0].mT, torch.eye(3)[None], atol=1e-5, rtol=0)
    assert torch.linalg.det(frames[0][0]) > 0
    volumes = [render(p, [0], frame, raster) for p, frame in zip((proteins, turned), frames, strict=True)]
    torch.testing.assert_close(volumes[0], volumes[1], atol=1e-4, rtol=1e-3)
    unframed = [render(p, [0], torch.eye(3)[None], raster) for p in (proteins, turned)]
    assert (unframed[0] - unframed[1]).abs().max() > 1e-2


def test_every_amino_acid_is_drawn_equally_often(made: Path) -> None:
    data = TrainingSet(load(made), Raster(6, 3.0, 2.0), 4, framed=False)
    labels = [data[index][1] for index in range(len(data))]
    assert labels == [0, 1, 0, 1]
    assert data[0][0].shape == (4, 6, 6, 6)


@pytest.mark.parametrize("name", ["steerable-paper-filters", "steerable-ours", "conventional"])
def test_the_paper_networks_take_a_step(name: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / "paper.toml")
    preset = replace(preset, stack=replace(preset.stack, size=12))
    torch.manual_seed(0)
    model = build(name, preset, 20)
    model(torch.randn(2, 4, 12, 12, 12)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("setting", ["any-orientation", "backbone-frame"])
def test_a_tiny_run_leaves_outcomes(made: Path, tmp_path: Path, setting: str) -> None:
    preset = load_preset(Preset, HERE / "presets" / "quick.toml")
    tiny = replace(
        preset,
        raster=Raster(8, 2.0, 1.5),
        stack=replace(preset.stack, size=8),
        training=replace(preset.training, epochs=1, batch_size=4),
        draws=8,
        test_residues=2,
        agreement_samples=2,
        test_rotations=2,
    )
    for network in preset.networks:
        outcome = train_and_test(tiny, load(made), Case(network, setting, 0), tmp_path / network)
        assert set(outcome.scores) == {"accuracy", "balanced accuracy"}
        assert outcome.train_samples == 8


def test_the_command_without_data_says_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMINO_ACID_DATA", raising=False)
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert "set AMINO_ACID_DATA" in result.output


@pytest.mark.skipif("AMINO_ACID_DATA" not in os.environ, reason="AMINO_ACID_DATA does not name a file of proteins")
def test_real_proteins_are_read() -> None:
    proteins = load(Path(os.environ["AMINO_ACID_DATA"]))
    assert len(proteins.names) == 20
    for split in range(3):
        assert proteins.centre_label[proteins.of_split(split)].unique().tolist() == list(range(20))
