"""The experiment: train on shapes turned about the vertical axis (z) or freely (SO3), test on both.

z/z: trained and tested on z.    SO3/SO3: trained and tested on SO3.    z/SO3: trained on z, tested on SO3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.common.cases import Case, Outcome
from examples.common.files import find_data
from examples.common.measure import TEST_SEED, accuracy, agreement, outputs
from examples.common.networks import Network, build_stack
from examples.common.presets import load_preset
from examples.common.stack import Stack
from examples.common.study import Study
from examples.common.training import train_and_measure
from examples.modelnet10.data import SOURCE, VARIABLE, Raster, Shapes, TrainingSet, draw_rotations, load
from examples.modelnet10.retrieval import retrieval
from examples.modelnet10.shrec17 import Meshes
from runtime.so3 import random_rotations
from runtime.train import TrainConfig

HERE = Path(__file__).parent
SETTINGS = {"z": ("z", "SO3"), "SO3": ("SO3",)}  # trained on -> tested on
BATCH = 32
CAVEAT = (
    "ModelNet10 is for academic use only, never redistribute; of its grids at 30^3, 7 training ones are empty and left "
    "out, 72 test grids equal a training grid ('unique': without them)"
)


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment: rasters, the two networks, training, and what the agreement is measured on."""

    raster: Raster
    stack: Stack
    networks: dict[str, Network]
    training: TrainConfig
    agreement_samples: int
    test_rotations: int = 100


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset on a ModelNet10 file or a SHREC17 folder. Raises DataError."""
    path = find_data(data, VARIABLE, "a file of ModelNet10 grids or a folder of SHREC17", SOURCE)
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    train, test = read(path, preset.raster)
    of_shrec = path.is_dir()
    return Study(
        title=f"{'SHREC17' if of_shrec else 'ModelNet10'}, preset {preset_name}",
        facts={
            "data": f"{path.name}: {len(train):,} shapes of {len(train.names)} classes to train on, {len(test):,} to "
            f"test on, {int(test.duplicate.sum())} of them also among the training shapes",
            "volumes": f"{preset.raster.size}^3 voxels, each {preset.raster.spacing:g} voxels of the grids wide; "
            f"blurred by {preset.raster.blur:g} voxels; a new random rotation at every draw",
            "setting": "the rotations trained on: about the vertical axis (z) or all (SO3)",
            "scores": "named by the rotations tested on, one per test shape, the same for all; 'unique': without the "
            "test shapes that are also training shapes",
            "turned": f"{preset.test_rotations} random rotations of {preset.agreement_samples} test shapes",
            "weights": "the last of the training",
            **{name: network.description for name, network in preset.networks.items()},
            **({} if of_shrec else {"caveat": CAVEAT}),
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=tuple(SETTINGS),
        build=lambda name: build(name, preset, len(train.names)),
        run=lambda case, directory: train_and_test(preset, train, test, case, directory),
    )


def read(path: Path, raster: Raster) -> tuple[Shapes, Shapes]:
    """The training and the test shapes: of SHREC17 if the path is a folder, else of ModelNet10."""
    if not path.is_dir():
        return load(path, raster)
    train = Meshes(path, "train", raster, perturbed=False)
    return train, Meshes(path, "test", raster, perturbed=False, names=train.names)


def build(name: str, preset: Preset, class_count: int) -> nn.Module:
    """A network of the preset."""
    return build_stack(preset.networks[name], preset.stack, HERE, 1, class_count)


def train_and_test(preset: Preset, train: Shapes, test: Shapes, case: Case, directory: Path) -> Outcome:
    """Trains a network on one kind of rotations and tests it on those of the setting."""

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        scores: dict[str, float] = {}
        for kind in SETTINGS[case.setting]:
            scores |= {f"{kind}: {name}": value for name, value in _scores(model, test, kind).items()}
        return scores, _agreement(model, test, preset)

    return train_and_measure(
        case,
        preset.networks[case.network],
        lambda: build(case.network, preset, len(train.names)),
        TrainingSet(train, case.setting),
        preset.training,
        directory,
        measure,
    )


def _scores(model: nn.Module, test: Shapes, kind: str) -> dict[str, float]:
    """Accuracy and mAP, on all test shapes and on the unique ones."""
    rotations = draw_rotations(kind, len(test), test.up, torch.Generator().manual_seed(TEST_SEED))
    logits = outputs(model, _batches(test, torch.arange(len(test)), rotations))
    scores = {}
    for suffix, kept in (("", torch.ones(len(test), dtype=torch.bool)), (" unique", ~test.duplicate)):
        if suffix and kept.all():
            continue
        found = retrieval(logits[kept], test.labels[kept])
        scores[f"accuracy{suffix}"] = accuracy(logits[kept].argmax(dim=1), test.labels[kept])
        scores |= {f"{name}{suffix}": found[name] for name in ("mAP micro", "mAP macro")}
    return scores


def _agreement(model: nn.Module, test: Shapes, preset: Preset) -> float:
    some = torch.linspace(0, len(test) - 1, min(len(test), preset.agreement_samples)).long()
    rotations = random_rotations(preset.test_rotations, generator=torch.Generator().manual_seed(TEST_SEED))
    return agreement(model, lambda rotation: _batches(test, some, rotation.expand(len(some), 3, 3)), rotations)


def _batches(shapes: Shapes, indices: Tensor, rotations: Tensor) -> Iterable[Tensor]:
    """Volumes (batch, 1, x, y, z) of shapes, each turned by its rotation."""
    for part, turns in zip(indices.split(BATCH), rotations.split(BATCH), strict=True):
        yield torch.stack([shapes.volume(i, turn) for i, turn in zip(part.tolist(), turns, strict=True)])
