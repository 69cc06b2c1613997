"""The experiment: train on four of the official folds, test on the fifth; `--seeds 5` runs all five."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from examples.common.cases import Case, Outcome
from examples.common.files import compiled, find_data
from examples.common.measure import TEST_SEED, device_name, outputs
from examples.common.networks import Network
from examples.common.presets import PresetError, load_preset
from examples.common.progress import counting
from examples.common.study import Study
from examples.common.training import Stopwatch, train_and_measure
from examples.qm7.data import SOURCE, VARIABLE, Composition, Molecules, load
from examples.qm7.figure import ERRORS, draw
from examples.qm7.geometry import ElementDensities, Geometry, Input, Potentials, Shells
from examples.qm7.kernel import KernelConfig, KernelRidge
from examples.qm7.network import DensityNetwork, PotentialNetwork
from runtime.so3 import random_rotations
from runtime.spheres import CobbConfig
from runtime.train import TrainConfig

HERE = Path(__file__).parent
BATCH = 256  # molecules tested together
WATCHED = 4  # one of so many test molecules is looked at after every epoch, for the curve
CAVEAT = (
    "QM7's atomic numbers were recovered from the positions and the entries of the Coulomb matrices, unique for every "
    "molecule; QM7 is at quantum-machine.org, cite Rupp et al. 2012; it is never redistributed here"
)


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    networks            by name; kinds 'kernel', 'densities' and 'potentials'
    kernels             settings of those of the first kind, which are solved and not trained, by network
    training            of the others, on the whole training set
    shells              radial functions of the second kind, if there is one
    potentials          sizes of the third kind, by network
    width               of the first hidden layer of the read-outs
    huber               kcal/mol from where on an error counts linearly
    weight_decay        of AdamW
    reductions          the training set is divided by these powers of two; epochs, burn-in and decay follow
    agreement_samples   test molecules that are turned; test_rotations: as often
    """

    networks: dict[str, Network]
    training: TrainConfig
    kernels: dict[str, KernelConfig] = field(default_factory=dict)
    shells: Shells | None = None
    potentials: dict[str, CobbConfig] = field(default_factory=dict)
    width: int = 128
    huber: float = 3.0
    weight_decay: float = 1e-4
    reductions: tuple[int, ...] = (1,)
    agreement_samples: int = 100
    test_rotations: int = 10


class Energies(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Pairs of a molecule's index and what the composition leaves of its energy, kcal/mol."""

    def __init__(self, indices: Tensor, energies: Tensor) -> None:
        self.indices, self.energies = indices, energies.float()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> tuple[dict[str, Tensor], Tensor]:
        index = self.indices[number]
        return {"molecule": index}, self.energies[index]


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset on a data file. Raises DataError."""
    path = find_data(data, VARIABLE, "the molecules of QM7", SOURCE)
    preset, molecules = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml"), load(path)
    settings = {"1" if factor == 1 else f"1/{factor}": factor for factor in preset.reductions}

    @cache
    def geometry(seen: Input) -> Geometry:
        return Geometry(molecules, seen)

    def run(case: Case, directory: Path) -> Outcome:
        seen = input_of(case.network, preset)
        return train_and_test(preset, molecules, geometry(seen), case, settings[case.setting], directory)

    return Study(
        title=f"QM7, preset {preset_name}",
        facts={
            "data": f"{path.name}: {len(molecules)} molecules in {len(molecules.folds)} official folds; fold k is "
            "tested by the networks that were trained on the others, with seed k",
            "setting": "the part of the training set that is used, the same number of steps for all",
            "target": "atomisation energy less a least-squares fit of one number for each element and a constant on "
            "the training set; RMSE and MAE in kcal/mol",
            "centres": "every atom but hydrogen; all atoms are in the signals about them",
            "turned": f"largest change of an energy, in cal/mol, when {preset.agreement_samples} test molecules are "
            f"turned by {preset.test_rotations} random rotations",
            "weights": "averaged over the steps, of the epoch of least training loss; the test fold chooses nothing",
            **{name: network.description for name, network in preset.networks.items()},
            "caveat": CAVEAT,
        },
        preset=replace(preset, reductions=()),
        networks=tuple(preset.networks),
        settings=tuple(settings),
        build=lambda name: build(name, preset),
        run=run,
        agreement="change when turned, cal/mol",
        repeats="folds",
        picture=partial(draw, molecules),
    )


def build(name: str, preset: Preset) -> nn.Module:
    """A network of the preset. Raises PresetError for an unknown kind."""
    network = preset.networks[name]
    package = compiled(HERE / "specs" / network.spec)
    if network.kind == "kernel":
        return KernelRidge(package, preset.kernels[name])
    if network.kind == "densities" and preset.shells is not None:
        return DensityNetwork(package, preset.shells, preset.width)
    if network.kind == "potentials":
        return PotentialNetwork(package, preset.potentials[name], preset.width)
    raise PresetError(
        f"there is no network of kind {network.kind!r} here. Write 'kernel', 'densities' or 'potentials'."
    )


def input_of(name: str, preset: Preset) -> Input:
    """What a network is told."""
    if name in preset.kernels:
        config = preset.kernels[name]
        return Potentials(config.limit, double=True) if config.shells is None else ElementDensities(config.shells)
    if name in preset.potentials:
        return Potentials(preset.potentials[name].limits[0])
    assert preset.shells is not None
    return preset.shells


def train_and_test(
    preset: Preset, molecules: Molecules, geometry: Geometry, case: Case, factor: int, directory: Path
) -> Outcome:
    """Trains a network on 1/factor of four folds and tests it on the fifth."""
    fold = case.seed % len(molecules.folds)
    train, test = molecules.training(fold, factor), molecules.folds[fold]
    composition = Composition.of(molecules.counts()[train], molecules.energies[train])
    energies = molecules.energies - composition.energies(molecules.counts())

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        errors = predictions(model, geometry, test).double() - energies[test]
        (directory / ERRORS).write_text(json.dumps({"molecules": test.tolist(), "errors": errors.tolist()}) + "\n")
        return scores(errors), _change_when_turned(model, molecules, test, geometry.input, preset)

    if preset.networks[case.network].kind == "kernel":
        return _solve(case, build(case.network, preset), geometry, train, energies, directory, measure)
    return train_and_measure(
        case,
        preset.networks[case.network],
        lambda: Scaled(build(case.network, preset), composition.scale),
        Energies(train, energies),
        replace(preset.training.reduced(factor.bit_length() - 1), monitor="train_loss"),
        directory,
        measure,
        partial(nn.functional.huber_loss, delta=preset.huber),
        averaged=True,
        optimizer=partial(torch.optim.AdamW, weight_decay=preset.weight_decay),
        forward=lambda model, inputs: model(geometry.batch(inputs["molecule"])),
        validation=Energies(test[::WATCHED], energies),
        metrics=_metrics(),
    )


def _solve(
    case: Case,
    model: nn.Module,
    geometry: Geometry,
    train: Tensor,
    energies: Tensor,
    directory: Path,
    measure: Callable[[nn.Module], tuple[dict[str, float], float]],
) -> Outcome:
    """The case of a kernel: one linear system, no epochs. Its parameters are the coefficients of the solution."""
    torch.manual_seed(case.seed)
    with Stopwatch(directory / "seconds.txt") as watch, torch.no_grad():
        model.fit(geometry, train, energies[train])
    with counting(f"{case.network}, {case.setting}, fold {case.seed}"):
        left = predictions(model, geometry, train[::WATCHED]).double() - energies[train[::WATCHED]]
        found, change = measure(model.eval())
    return Outcome(
        case=case,
        parameters=len(train),
        train_samples=len(train),
        epochs=0,
        train_loss=left.square().mean().sqrt().item(),
        train_seconds=watch.seconds,
        scores=found,
        agreement=change,
        device=device_name(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


class Scaled(nn.Module):
    """A network whose outputs are in units of `scale`, kcal/mol."""

    scale: Tensor

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, batch: Any) -> Tensor:
        """Energies (molecule), kcal/mol."""
        return self.network(batch) * self.scale


def scores(errors: Tensor) -> dict[str, float]:
    """RMSE and MAE of errors (molecule), kcal/mol, and the RMSE of the 99 % with the least errors."""
    kept = errors.abs().sort().values[: max(1, round(0.99 * len(errors)))]
    return {
        "RMSE": errors.square().mean().sqrt().item(),
        "MAE": errors.abs().mean().item(),
        "RMSE of 99 %": kept.square().mean().sqrt().item(),
    }


def predictions(model: nn.Module, geometry: Geometry, indices: Tensor) -> Tensor:
    """Energies (molecule), kcal/mol, beyond the composition's."""
    return outputs(model, (geometry.batch(part) for part in indices.split(BATCH)))


def _change_when_turned(model: nn.Module, molecules: Molecules, test: Tensor, seen: Input, preset: Preset) -> float:
    """The largest change, cal/mol."""
    some = molecules.take(test[torch.linspace(0, len(test) - 1, preset.agreement_samples).long()])
    everything, largest = torch.arange(len(some)), 0.0
    straight = Geometry(some, seen)
    before = predictions(model, straight, everything)
    for rotation in random_rotations(preset.test_rotations, generator=torch.Generator().manual_seed(TEST_SEED)):
        turned = Geometry(some.turned(rotation), seen, lengths=straight.lengths)
        largest = max(largest, (predictions(model, turned, everything) - before).abs().max().item())
    return 1000 * largest


def _metrics() -> Any:
    from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection  # takes a second to import

    return MetricCollection({"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)})
