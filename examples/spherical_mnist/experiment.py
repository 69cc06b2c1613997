"""The experiment: train on digits as they are or in random orientations, test on both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from examples.common.cases import Case, Outcome
from examples.common.files import compiled, find_data
from examples.common.measure import TEST_SEED, accuracy, agreement, classes
from examples.common.networks import Network
from examples.common.one_cycle import OneCycle
from examples.common.presets import PresetError, load_preset
from examples.common.study import Study
from examples.common.training import train_and_measure
from examples.spherical_mnist.data import SOURCE, VARIABLE, Digits, Projection, Splits, load
from examples.spherical_mnist.figure import draw
from examples.spherical_mnist.network import Ours, OursConfig
from examples.spherical_mnist.planar import Planar, PlanarConfig
from runtime.so3 import random_rotations
from runtime.spheres import (
    Cobb,
    CobbConfig,
    Cohen,
    CohenConfig,
    Esteves,
    EstevesConfig,
    Kondor,
    KondorConfig,
    RandomSignalRotation,
    signal_type,
)
from runtime.train import TrainConfig

HERE = Path(__file__).parent
BATCH = 200  # digits tested together
SETTINGS = ("NR", "R")


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    projection          of the images onto the sphere
    networks            by name; kinds 'ours', 'planar', and 'cobb', 'cohen', 'kondor', 'esteves'
    training            of all; its learning rate is the highest of one cycle
    weight_decay        of AdamW; warm_up: part of the steps in which the rate rises; smoothing: of the labels
    train_digits        the first so many of the training set; test_digits likewise; 0: all
    agreement_samples   test digits that are turned; test_rotations: as often
    ours, .., esteves   sizes of the networks of that kind, by name; a builder's own where a name is missing
    """

    projection: Projection
    networks: dict[str, Network]
    training: TrainConfig
    weight_decay: float = 1e-3
    warm_up: float = 0.15
    smoothing: float = 0.05
    train_digits: int = 0
    test_digits: int = 0
    agreement_samples: int = 100
    test_rotations: int = 100
    ours: dict[str, OursConfig] = field(default_factory=dict)
    planar: dict[str, PlanarConfig] = field(default_factory=dict)
    cobb: dict[str, CobbConfig] = field(default_factory=dict)
    cohen: dict[str, CohenConfig] = field(default_factory=dict)
    kondor: dict[str, KondorConfig] = field(default_factory=dict)
    esteves: dict[str, EstevesConfig] = field(default_factory=dict)


class FirstDegrees(nn.Module):
    """A network of a lower band limit than its input's: the degrees above are left out."""

    def __init__(self, network: nn.Module, limit: int) -> None:
        super().__init__()
        self.network, self.coefficients = network, limit**2

    def forward(self, signals: Tensor) -> Any:
        """(batch, coefficient) -> (batch, class)."""
        return self.network(signals[:, : self.coefficients])


class OnSamples(nn.Module):
    """Esteves' network of samples: both branches are given the same."""

    def __init__(self, network: nn.Module, transform: nn.Module) -> None:
        super().__init__()
        self.network, self.transform = network, transform

    def forward(self, signals: Tensor) -> Any:
        """(batch, coefficient) -> (batch, class)."""
        return self.network(self.transform(signals).expand(-1, 2, -1, -1))


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset on a folder of data. Raises DataError."""
    path = find_data(data, VARIABLE, "the folder with the files of MNIST", SOURCE)
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    raw = load(path, preset.projection)
    raw = Splits(raw.train.take(preset.train_digits), raw.test.take(preset.test_digits))
    factors = raw.train.half_whitened()
    splits = Splits(raw.train.scaled(factors), raw.test.scaled(factors))
    turned = splits.test.turned(_test_rotations(len(splits.test)))
    limit, half = preset.projection.limit, preset.projection.half
    return Study(
        title=f"Spherical MNIST, preset {preset_name}",
        facts={
            "data": f"MNIST, {len(splits.train)} digits to train and {len(splits.test)} to test on, projected here: "
            f"Lambert azimuthal, image centre at the pole, {half:g} pixels to the equator, band limit L = {limit}",
            "setting": "NR: trained on the digits as they are; R: in a new random orientation at every draw. "
            "Scores are accuracies in percent, trained/tested; rotations are exact, of coefficients",
            "input": "coefficients; each degree divided by the square root of its rms on the training set",
            "turned": f"{preset.test_rotations} random rotations of {preset.agreement_samples} test digits",
            "weights": "the last of the training; no digits are held out",
            **{name: network.description for name, network in preset.networks.items()},
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=SETTINGS,
        build=lambda name: build(name, preset),
        run=lambda case, directory: train_and_test(preset, splits, turned, case, directory),
        picture=partial(draw, raw.test),
    )


def build(name: str, preset: Preset) -> nn.Module:
    """A network of the preset: (batch, coefficient) -> (batch, class). Raises PresetError for an unknown kind."""
    network = preset.networks[name]
    if network.kind == "ours":
        return Ours(preset.ours.get(name, OursConfig()))
    if network.kind == "planar":
        return Planar(preset.planar.get(name, PlanarConfig(limit=preset.projection.limit)))
    if network.kind not in ("cobb", "cohen", "kondor", "esteves"):
        raise PresetError(
            f"there is no network of kind {network.kind!r} here. Write 'ours', 'planar', 'cobb', 'cohen', 'kondor' or "
            "'esteves'."
        )
    package = compiled(HERE / "specs" / network.spec)
    if network.kind == "cobb":
        config = preset.cobb.get(name, CobbConfig())
        return FirstDegrees(Cobb(package, config), config.limits[0])
    if network.kind == "cohen":
        sizes = preset.cohen.get(name, CohenConfig())
        return FirstDegrees(Cohen(package, sizes), sizes.limits[0])
    if network.kind == "kondor":
        net = preset.kondor.get(name, KondorConfig())
        return FirstDegrees(Kondor(package, net), net.limit)
    branches = preset.esteves.get(name, EstevesConfig())
    transform = getattr(package, f"Transform{branches.size}")()
    return FirstDegrees(OnSamples(Esteves(package, branches), transform), branches.size // 2)


def train_and_test(preset: Preset, splits: Splits, turned: Digits, case: Case, directory: Path) -> Outcome:
    """Trains a network on digits in the case's setting and tests it on both kinds."""
    network, config = preset.networks[case.network], preset.training
    field_type = signal_type(1, preset.projection.limit)

    def start() -> nn.Module:
        model = build(case.network, preset)
        return nn.Sequential(RandomSignalRotation(field_type), model) if case.setting == "R" else model

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        found = {
            f"{case.setting}/{kind}": 100 * accuracy(classes(model, _batches(digits)), digits.labels)
            for kind, digits in (("NR", splits.test), ("R", turned))
        }
        return found, _agreement(model, splits.test, preset)

    steps = network.longer * config.epochs * math.ceil(len(splits.train) / config.batch_size)
    return train_and_measure(
        case,
        network,
        start,
        splits.train,
        config,
        directory,
        measure,
        partial(nn.functional.cross_entropy, label_smoothing=preset.smoothing),
        optimizer=partial(OneCycle, steps=steps, warm_up=preset.warm_up, weight_decay=preset.weight_decay),
    )


def _agreement(model: nn.Module, digits: Digits, preset: Preset) -> float:
    some = digits.take(preset.agreement_samples)
    return agreement(model, lambda rotation: _batches(some.turned(rotation)), _test_rotations(preset.test_rotations))


def _test_rotations(count: int) -> Tensor:
    return random_rotations(count, generator=torch.Generator().manual_seed(TEST_SEED))


def _batches(digits: Digits) -> Iterator[Tensor]:
    yield from digits.signals.split(BATCH)
