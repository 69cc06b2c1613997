"""The experiment: train on scenes upright or turned, restore scenes upright and turned, at poles and equator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from examples.common.cases import Case, Outcome
from examples.common.files import DataError, compiled
from examples.common.measure import TEST_SEED, device_name, outputs, parameter_count
from examples.common.networks import Network
from examples.common.one_cycle import OneCycle
from examples.common.presets import PresetError, load_preset
from examples.common.progress import counting
from examples.common.study import Study
from examples.common.training import train_and_measure
from examples.sphere_dense.networks import Kriging, PlanarUNet, SphereUNet
from examples.sphere_dense.scenes import Maps, Scenes, World, turned
from runtime.so3 import random_rotations
from runtime.train import TrainConfig

HERE = Path(__file__).parent
SETTINGS = ("upright", "turned")
TRAIN_SEED = 0  # of the training scenes
BATCH = 32  # scenes tested together
POLAR, EQUATORIAL = 60, 30  # degrees of latitude: beyond and within


@dataclass(frozen=True)
class Preset:
    """One way to run the experiment.

    world           what scenes are made of
    networks        by name; kinds 'sphere', 'planar', 'planar-latitude' and 'kriging'
    training        of all; its learning rate is the highest of one cycle
    warm_up         part of the steps in which the rate rises
    train_scenes    training scenes, with new noise at every draw
    test_scenes     others
    test_rotations  of each test scene
    """

    world: World
    networks: dict[str, Network]
    training: TrainConfig
    warm_up: float
    train_scenes: int
    test_scenes: int
    test_rotations: int = 1


@dataclass(frozen=True)
class Test:
    """Scenes upright, each as often as it is turned; the same turned; and the rotations (scene, 3, 3)."""

    upright: Scenes
    turned: Scenes
    rotations: Tensor


def prepare(preset_name: str, data: Path | None) -> Study:
    """The study of a preset; it makes its own data. Raises DataError if some are given."""
    if data is not None:
        raise DataError(f"scenes are made by the command itself, but --data is {data}. Leave it out.")
    preset = load_preset(Preset, HERE / "presets" / f"{preset_name}.toml")
    world = preset.world
    return Study(
        title=f"Maps with missing pixels on the sphere, preset {preset_name}",
        facts={
            "data": f"synthetic: {preset.train_scenes} scenes to train on, with new noise at every draw, and "
            f"{preset.test_scenes} to test on; maps of {world.rows} x {2 * world.rows} pixels, fields of band limit "
            f"L = {world.limit}, C_l ~ (l + 1)^-{world.falling:g}, of rms 1, on a climate of rms {world.climate:g}; "
            f"noise of standard deviation {world.noise:g}; nothing is seen on land",
            "setting": "the scenes trained on: upright, with the same climate and more land in the north, or each in a "
            "new random orientation at every draw; tests are the same for both",
            "scores": "root of the mean square error over areas, at all pixels, land too; poles: beyond "
            f"{POLAR} degrees of latitude, equator: within {EQUATORIAL}; turned: every test scene turned exactly, by "
            "D^l, before it is sampled. Latitudes are always those of the map's grid",
            "change when turned": "rms of (turned answer - answer for the turned scene) over that of the latter, as "
            "signals of the field's band limit; 'change, smooth coasts': the same where inputs are such signals too, "
            "so that nothing changes because coasts meet other pixels",
            **{name: network.description for name, network in preset.networks.items()},
        },
        preset=preset,
        networks=tuple(preset.networks),
        settings=SETTINGS,
        build=lambda name: build(preset, name),
        run=lambda case, directory: train_and_test(preset, case, directory),
        agreement="change when turned",
        picture=lambda directory: _draw(preset, directory),
    )


def build(preset: Preset, name: str) -> nn.Module:
    """A network of the preset. Raises PresetError for an unknown kind."""
    network, world = preset.networks[name], preset.world
    if network.kind == "sphere":
        return SphereUNet(compiled(HERE / "specs" / network.spec), world)
    if network.kind in ("planar", "planar-latitude"):
        return PlanarUNet(network.widths, world, latitude=network.kind == "planar-latitude")
    if network.kind == "kriging":
        return Kriging(world)
    raise PresetError(
        f"there is no network of kind {network.kind!r} here. Write 'sphere', 'planar', 'planar-latitude' or 'kriging'."
    )


def train_and_test(preset: Preset, case: Case, directory: Path) -> Outcome:
    """Trains a network on scenes in the case's setting and tests it on both; kriging is only tested."""
    network, world = preset.networks[case.network], preset.world
    maps, test = Maps(world), test_scenes(preset)

    def measure(model: nn.Module) -> tuple[dict[str, float], float]:
        torch.save(model.state_dict(), directory / "weights.pt")
        return errors(model, maps, test)

    if network.kind == "kriging":
        return _untrained(case, build(preset, case.network), measure)
    areas = world.areas.float()
    steps = network.longer * preset.training.epochs * math.ceil(preset.train_scenes / preset.training.batch_size)

    def loss(both: tuple[Tensor, Tensor], _: Tensor) -> Tensor:
        answer, field = both
        return ((answer - field).flatten(1).square() @ areas).mean()  # (scene, pixel) @ (pixel)

    return train_and_measure(
        case,
        network,
        lambda: build(preset, case.network),
        world.draw(preset.train_scenes, torch.Generator().manual_seed(TRAIN_SEED)),
        preset.training,
        directory,
        measure,
        loss,
        optimizer=partial(OneCycle, steps=steps, warm_up=preset.warm_up, weight_decay=0.0),
        forward=partial(_answer_and_field, maps, case.setting == "turned"),
    )


def _answer_and_field(maps: Maps, is_turned: bool, model: nn.Module, drawn: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What a network makes of scenes with new noise, and what it should; the noise has no orientation to turn."""
    field, height = drawn["field"], drawn["height"]
    if is_turned:
        rotations = random_rotations(len(field))
        field, height = turned(field, rotations), turned(height, rotations)
    scenes = Scenes(field, height, maps.world.noise_of(torch.randn(len(field), maps.world.noise_limit**2)).to(field))
    return model(maps.seen(scenes)), maps.of(field)


def _untrained(case: Case, model: nn.Module, measure: Callable[[nn.Module], tuple[dict[str, float], float]]) -> Outcome:
    with counting(f"{case.network}, {case.setting}, seed {case.seed}"):
        scores, change = measure(model)
    return Outcome(case, 0, 0, 0, 0.0, 0.0, scores, change, device_name(), torch.get_num_threads(), torch.__version__)


def test_scenes(preset: Preset) -> Test:
    """The scenes of the test, the same for every case."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    upright = preset.world.draw(preset.test_scenes, generator).repeated(preset.test_rotations)
    rotations = random_rotations(len(upright), generator=generator)
    return Test(upright, upright.turned(rotations), rotations)


def errors(model: nn.Module, maps: Maps, test: Test) -> tuple[dict[str, float], float]:
    """Root mean square errors by region, upright and turned, and the change of the answers by turning."""
    world = maps.world
    scores: dict[str, float] = {}
    answers: dict[str, Tensor] = {}
    for name, scenes in (("upright", test.upright), ("turned", test.turned)):
        seen = maps.seen(scenes)
        answers[name] = outputs(model, seen.split(BATCH))
        off = (answers[name] - maps.of(scenes.field)).flatten(1)  # (scene, pixel)
        where = {**regions(world), "land": 1 - seen[:, 1].flatten(1)}
        scores |= {f"{name}: {region}": rms(off, world.areas * part) for region, part in where.items()}
    if parameter_count(model):
        scores["change, smooth coasts"] = smooth_change(model, maps, test)
    return scores, change(answers["upright"], answers["turned"], test.rotations, world)


def regions(world: World) -> dict[str, Tensor]:
    """Where errors are counted: (pixel) each, of 0 and 1."""
    off = world.latitudes.abs()
    return {"all": torch.ones_like(off), "poles": (off > POLAR).double(), "equator": (off < EQUATORIAL).double()}


def rms(values: Tensor, weights: Tensor) -> float:
    """Of values (scene, pixel) with weights (pixel), or (scene, pixel)."""
    weights = weights.expand(values.shape)
    return ((values.double().square() * weights).sum() / weights.sum()).sqrt().item()


def change(before: Tensor, after: Tensor, rotations: Tensor, world: World) -> float:
    """|turned answers - answers for the turned| / |the latter|, of maps (scene, 1, row, column) as signals."""
    first, second = (maps.flatten(1).double() @ world.least_squares(world.limit) for maps in (before, after))
    return ((turned(first, rotations) - second).norm() / second.norm()).item()


def smooth_change(model: nn.Module, maps: Maps, test: Test) -> float:
    """The same for inputs that are signals of the field's band limit, turned as such: the network's own error."""
    world = maps.world
    # (scene, 2, pixel) @ (pixel, coefficient) -> (scene and channel, coefficient)
    signals = (maps.seen(test.upright).flatten(2) @ world.least_squares(world.limit).float()).flatten(0, 1)
    both = (signals, turned(signals, test.rotations.repeat_interleave(2, 0)))
    # (scene and channel, 1, row, column) -> (scene, 2, row, column)
    found = [outputs(model, maps.of(part).unflatten(0, (-1, 2)).flatten(1, 2).split(BATCH)) for part in both]
    return change(found[0], found[1], test.rotations, world)


def _draw(preset: Preset, directory: Path) -> Path:
    from examples.sphere_dense.figure import draw

    return draw(preset, directory)
