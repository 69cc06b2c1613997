"""The experiment: train on residues of some proteins, test on those of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.amino_acids.data import ELEMENTS, SOURCE, VARIABLE, Proteins, Raster, TrainingSet, load, render
from examples.common.cases import Case, Outcome
from examples.common.files import find_data
from examples.common.measure import TEST_SEED, accuracy, agreement, balanced_accuracy, classes
from examples.common.networks import Network, build_stack
from examples.common.presets import load_preset
from examples.common.stack import Stack
from examples.common.study import Study
from examples.common.training import train_and_measure
from runtime.so3 import random_rotations
from runtime.train import TrainConfig

HERE = Path(__file__).parent
SETTINGS = {"any-orientation": False, "backbone-frame": True}
BATCH = 64
CAVEAT = "far smaller than the published sets: their 0.58 (steerable) and 0.50 are context only"


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    draws               boxes per epoch, as many of every amino acid
    test_residues       of the test proteins, drawn once; 0: all
    test_rotations      of `agreement_samples` test boxes, for the agreement
    """

    raster: Raster
    stack: Stack
    networks: dict[str, Network]
    training: TrainConfig
    draws: int
    test_residues: int
    agreement_samples: int
    test_rotations: int = 100


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset on a data file. Raises DataError."""
    path = find_data(data, VARIABLE, "a file of proteins", SOURCE)
    preset, proteins = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml"), load(path)
    raster, tests = preset.raster, test_centres(proteins, preset)
    return Study(
        title=f"Amino acids, preset {preset_name}",
        facts={
            "data": f"{path.name}: {len(proteins.of_split(0)):,} residues to train on, of which "
            f"{preset.draws * preset.training.epochs:,} random draws with equal classes are used; {len(tests):,} of "
            f"the {len(proteins.of_split(2)):,} residues of other proteins to test on",
            "volumes": f"{raster.size}^3 voxels of {raster.spacing} angstrom about C-alpha, channels "
            f"{', '.join(ELEMENTS)}, Gaussians of {raster.sigma} angstrom, own side chain removed",
            "setting": "boxes in a random orientation, in training and test; or in the frame of the residue's backbone",
            "turned": f"{preset.test_rotations} random rotations of {preset.agreement_samples} test boxes",
            "weights": "the last of the training; the validation split is not used",
            **{name: network.description for name, network in preset.networks.items()},
            "caveat": CAVEAT,
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=tuple(SETTINGS),
        build=lambda name: build(name, preset, len(proteins.names)),
        run=lambda case, directory: train_and_test(preset, proteins, case, directory),
    )


def build(name: str, preset: Preset, class_count: int) -> nn.Module:
    """A network of the preset."""
    return build_stack(preset.networks[name], preset.stack, HERE, len(ELEMENTS), class_count)


def test_centres(proteins: Proteins, preset: Preset) -> Tensor:
    """The residues to test on: the same for every case."""
    centres = proteins.of_split(2)
    order = torch.randperm(len(centres), generator=torch.Generator().manual_seed(TEST_SEED))
    return centres[order[: preset.test_residues or len(centres)]]


def train_and_test(preset: Preset, proteins: Proteins, case: Case, directory: Path) -> Outcome:
    """Trains a network and tests it."""
    framed = SETTINGS[case.setting]

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        centres = test_centres(proteins, preset)
        answers, labels = classes(model, _batches(proteins, centres, preset, framed)), proteins.centre_label[centres]
        scores = {"accuracy": accuracy(answers, labels), "balanced accuracy": balanced_accuracy(answers, labels)}
        some = centres[: preset.agreement_samples]
        rotations = random_rotations(preset.test_rotations, generator=torch.Generator().manual_seed(TEST_SEED))
        return scores, agreement(model, lambda r: _batches(proteins, some, preset, framed, r), rotations)

    return train_and_measure(
        case,
        preset.networks[case.network],
        lambda: build(case.network, preset, len(proteins.names)),
        TrainingSet(proteins, preset.raster, preset.draws, framed=framed),
        preset.training,
        directory,
        measure,
    )


def _batches(
    proteins: Proteins, centres: Tensor, preset: Preset, framed: bool, rotation: Tensor | None = None
) -> Iterable[Tensor]:
    """Test boxes (batch, 4, x, y, z), each in its backbone's frame or in a random orientation, then all turned."""
    own = random_rotations(len(centres), generator=torch.Generator().manual_seed(TEST_SEED + 1))
    if framed:
        own = torch.stack([proteins.frame(centre) for centre in centres.tolist()]).double()
    turned = own if rotation is None else rotation @ own
    for part, rotations in zip(centres.split(BATCH), turned.split(BATCH), strict=True):
        yield render(proteins, part.tolist(), rotations, preset.raster)
