"""The experiment: train on fibres along one axis or in all orientations, test on volumes as made and turned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.common.cases import Case, Outcome
from examples.common.files import DataError, compiled
from examples.common.measure import TEST_SEED, device_name, outputs
from examples.common.networks import Network
from examples.common.presets import PresetError, load_preset
from examples.common.study import Study
from examples.common.training import train_and_measure
from examples.fibres.networks import StructureTensor, conventional, steerable
from examples.fibres.volumes import (
    Curves,
    FibreVolumes,
    Raster,
    angles,
    at_points,
    directions,
    render,
    tensor_error,
)
from runtime.so3 import random_rotations
from runtime.train import TrainConfig

HERE = Path(__file__).parent
SETTINGS = {"about-z": False, "all-orientations": True}
TRAIN_SEED, MARGIN = 0, 3  # of the training volumes; voxels at the border that are not tested
SCORES = ("error about z", "error turned", "change by new noise")
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # of the structure tensor's Gaussians


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    raster           how volumes are made
    networks         by name; kinds 'steerable', 'conventional' and 'structure-tensor'
    train_volumes    training volumes, with new noise at every draw
    test_volumes     of other fibres
    test_rotations   random rotations, each of one test volume after another
    """

    raster: Raster
    networks: dict[str, Network]
    training: TrainConfig
    train_volumes: int
    test_volumes: int
    test_rotations: int = 100


@dataclass(frozen=True)
class View:
    """A test volume in one orientation: the noisy density (1, x, y, z) and the points in it where it is tested."""

    density: Tensor
    points: Curves


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset; it makes its own data. Raises DataError if some are given."""
    if data is not None:
        raise DataError(f"fibres are made by the command itself, but --data is {data}. Leave it out.")
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    raster = preset.raster
    return Study(
        title=f"Fibres, preset {preset_name}",
        facts={
            "data": f"synthetic: {preset.train_volumes} volumes of {raster.size}^3 voxels to train on, "
            f"{preset.test_volumes} to test on; {raster.fibres} fibres within {raster.cone:g} degrees of the z axis, "
            f"noise {raster.noise:g} of a fibre's height",
            "setting": "the fibres trained on: as made, or each volume turned at random; tests are the same for both",
            "error": "degrees between predicted and true direction, mean over points of the fibres inside the volume",
            "turned": f"the test volumes in {preset.test_rotations} random orientations, drawn anew on the grid",
            "change when turned": "degrees between the turned prediction and that for the turned volume, which "
            "has noise of its own; 'change by new noise' is the part of it that has nothing to do with turning",
            **{name: network.description for name, network in preset.networks.items()},
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=tuple(SETTINGS),
        build=lambda name: build(preset.networks[name]),
        run=lambda case, directory: train_and_test(preset, case, directory),
        agreement="change when turned",
        picture=lambda directory: _draw(preset, directory),
    )


def build(network: Network) -> nn.Module:
    """A network of the preset; the structure tensor with widths that are yet to be chosen."""
    if network.kind == "steerable":
        return steerable(compiled(HERE / "specs" / network.spec))
    if network.kind == "conventional":
        return conventional(network.widths, network.kernel_size)
    if network.kind == "structure-tensor":
        return StructureTensor(1.0, 1.0)
    raise PresetError(f"there is no network of kind {network.kind!r} here.")


def train_and_test(preset: Preset, case: Case, directory: Path) -> Outcome:
    """Trains a network, or chooses the widths of the structure tensor, on the training volumes, and tests it."""
    network = preset.networks[case.network]
    data = FibreVolumes(preset.raster, preset.train_volumes, TRAIN_SEED, turned=SETTINGS[case.setting])
    tests = FibreVolumes(preset.raster, preset.test_volumes, TEST_SEED, turned=False)

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        torch.save(model.state_dict(), directory / "weights.pt")
        return errors(model, tests.curves, preset)

    if network.kind == "structure-tensor":
        model = best_structure_tensor(preset, data)
        scores, change = measure(model)
        sizes = (2, len(data), 0, 0.0, 0.0)
        return Outcome(case, *sizes, scores, change, device_name(), torch.get_num_threads(), torch.__version__)
    return train_and_measure(
        case, network, lambda: build(network), data, preset.training, directory, measure, tensor_error
    )


def best_structure_tensor(preset: Preset, data: FibreVolumes) -> nn.Module:
    """The structure tensor with the pair of widths that has the least error on a few training volumes."""
    views = [view(curves, preset.raster, seed) for seed, curves in enumerate(data.curves[:4])]
    candidates = [StructureTensor(inner, outer) for inner, outer in product(WIDTHS, WIDTHS)]
    found = [torch.cat([angles(predicted(m, v), v.points.tangents) for v in views]).mean().item() for m in candidates]
    return candidates[min(range(len(found)), key=found.__getitem__)]


def view(curves: Curves, raster: Raster, seed: int, rotation: Tensor | None = None) -> View:
    """A volume of these fibres, turned, with noise, and the points to test: those well inside it in any orientation."""
    tested = curves.inside(raster.size / 2 - MARGIN)
    if rotation is not None:
        curves, tested = curves.turned(rotation), tested.turned(rotation)
    density, _, _ = render(curves, raster)
    noise = torch.randn(density.shape, generator=torch.Generator().manual_seed(seed))
    return View(density + raster.noise * noise, tested)


def predicted(model: nn.Module, seen: View) -> Tensor:
    """Predicted directions (point, 3) at the points of a view."""
    return directions(at_points(outputs(model, [seen.density[None]])[0], seen.points.points))


def errors(model: nn.Module, tests: list[Curves], preset: Preset) -> tuple[dict[str, float], float]:
    """The scores of SCORES and the change of the prediction by turning, in degrees."""
    straight = [view(curves, preset.raster, seed) for seed, curves in enumerate(tests)]
    answers = [predicted(model, seen) for seen in straight]
    own = [angles(answer, seen.points.tangents) for answer, seen in zip(answers, straight, strict=True)]
    again = [predicted(model, view(curves, preset.raster, len(tests) + seed)) for seed, curves in enumerate(tests)]
    noise = [angles(answer, other) for answer, other in zip(answers, again, strict=True)]
    rotations = random_rotations(preset.test_rotations, generator=torch.Generator().manual_seed(TEST_SEED))
    off, changes = [], []
    for number, rotation in enumerate(rotations.float()):
        index = number % len(tests)
        seen = view(tests[index], preset.raster, 2 * len(tests) + number, rotation)
        answer = predicted(model, seen)
        off.append(angles(answer, seen.points.tangents))
        changes.append(angles(answer, answers[index] @ rotation.mT))
    means = [torch.cat(values).mean().item() for values in (own, off, noise, changes)]
    return dict(zip(SCORES, means[:3], strict=True)), means[3]


def _draw(preset: Preset, directory: Path) -> Path:
    from examples.fibres.figure import draw

    return draw(preset, directory)
