"""The experiment: train every network on the shapes in one orientation, test it on random rotations of all shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from examples.common.cases import Case, Outcome
from examples.common.files import DataError, compiled
from examples.common.measure import TEST_SEED, classes
from examples.common.networks import Network
from examples.common.study import Study
from examples.common.training import train_and_measure
from examples.tetris.networks import Conventional, Steerable
from examples.tetris.preset import Preset, load_preset
from examples.tetris.shapes import SHAPES, Raster, random_rotations, render
from runtime.train.calibration import calibrate

HERE = Path(__file__).parent
SETTING = "one-orientation"
BY_SHAPE = "by_shape.json"  # beside a case's outcome: accuracy on every shape


class OneOrientation(Dataset[tuple[Tensor, int]]):
    """The eight shapes, never turned; moved by up to `shift` voxels along each axis at every draw."""

    def __init__(self, preset: Preset) -> None:
        self.preset = preset
        self.volumes = render(torch.eye(3)[None], preset.raster)[0]

    def __len__(self) -> int:
        return len(SHAPES)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A volume (1, x, y, z) and the number of its shape."""
        if not self.preset.shift:
            return self.volumes[index][None], index
        shift = self.preset.shift * (torch.rand(3) - 0.5)
        return render(torch.eye(3)[None], self.preset.raster, shapes=[list(SHAPES)[index]], shift=shift)[0], index


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset. Raises DataError if data are given: they are made."""
    if data is not None:
        raise DataError("the data of this experiment are made, from shapes.py. Leave --data out.")
    return study(load_preset(preset_name), f"Tetris, preset {preset_name}")


def study(preset: Preset, title: str) -> Study:
    """What can be run: every network of the preset."""
    raster = preset.raster
    return Study(
        title=title,
        facts={
            "data": f"{len(SHAPES)} shapes of four cubes, the two screws mirror images; one orientation of each to "
            f"train on, all in every step, moved by up to {preset.shift / 2:g} voxels, never turned",
            "volumes": f"{raster.size}^3 voxels, cubes of {raster.cell:g} voxels, a Gaussian blur of {raster.blur:g}",
            "accuracy": f"on {preset.test_rotations} random rotations of every shape, the same for all networks",
            "screws": "of it, on the two mirror images",
            "not turned": "accuracy on the shapes as trained on",
            "turned": "the same rotations: answers equal to that for the shape as trained on",
            "weights": f"the last of {preset.training.epochs} epochs",
            **{name: variant.description for name, variant in preset.networks.items()},
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=(SETTING,),
        build=lambda network: build(network, preset),
        run=lambda case, directory: train_and_test(preset, case, directory),
        picture=lambda directory: _draw(preset, directory),
    )


def build(network: str, preset: Preset, *, sync: bool = False) -> nn.Module:
    """A network of the preset with its first weights; `sync`: with batch norms over all processes' samples."""
    variant = preset.networks[network]
    if variant.conventional:
        return Conventional(preset, sync=sync)
    package = compiled(HERE / "specs" / (variant.spec or preset.spec))
    model = Steerable(package, replace(preset, lowpass=variant.lowpass), sync=sync)
    if preset.calibrate:
        calibrate(model, OneOrientation(preset).volumes[:, None], length=preset.calibrate)
    return model


def train_and_test(preset: Preset, case: Case, directory: Path) -> Outcome:
    """Trains a network on one orientation and tests it on random ones; leaves its accuracy by shape in a file."""

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        scores, by_shape, agreement = evaluate(model, preset)
        (directory / BY_SHAPE).write_text(json.dumps(by_shape, indent=1) + "\n")
        return scores, agreement

    return train_and_measure(
        case,
        Network(kind=case.network),
        lambda: build(case.network, preset),
        OneOrientation(preset),
        preset.training,
        directory,
        measure,
    )


def evaluate(model: nn.Module, preset: Preset) -> tuple[dict[str, float], dict[str, float], float]:
    """Scores, accuracy by shape, and the share of answers that a rotation leaves as they are."""
    volumes = _turned(preset.raster, preset.test_rotations)
    answers = classes(model, _batches(volumes)).view(len(volumes), len(SHAPES))
    straight = classes(model, _batches(render(torch.eye(3)[None], preset.raster)))
    labels = torch.arange(len(SHAPES))
    right = (answers == labels).double()  # (rotation, shape)
    by_shape = dict(zip(SHAPES, right.mean(dim=0).tolist(), strict=True))
    scores = {
        "accuracy": right.mean().item(),
        "screws": (by_shape["left screw"] + by_shape["right screw"]) / 2,
        "not turned": (straight == labels).double().mean().item(),
    }
    return scores, by_shape, (answers == straight).double().mean().item()


@lru_cache(maxsize=1)
def _turned(raster: Raster, rotations: int) -> Tensor:
    """The volumes of the test, (rotation, shape, x, y, z)."""
    return render(random_rotations(rotations, TEST_SEED), raster)


def _batches(volumes: Tensor) -> Iterator[Tensor]:
    """(rotation, shape, x, y, z) -> batches (shape, 1, x, y, z)."""
    return (turned[:, None] for turned in volumes)


def _draw(preset: Preset, directory: Path) -> Path:
    from examples.tetris.figure import draw

    return draw(preset, directory)
