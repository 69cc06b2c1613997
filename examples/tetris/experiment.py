"""The experiment: train both networks on the shapes in one orientation, test them on random rotations of all shapes."""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from examples.tetris.networks import Conventional, Steerable
from examples.tetris.presets import Preset
from examples.tetris.shapes import SHAPES, random_rotations, render
from runtime.calibration import calibrate
from runtime.train import TrainResult, train

HERE = Path(__file__).parent
TEST_SEED = 20180706  # the rotations of the test, the same for all runs


@dataclass(frozen=True)
class Outcome:
    """One trained and tested network."""

    network: str
    seed: int
    parameters: int
    train_loss: float
    accuracy: float
    accuracy_by_shape: dict[str, float]
    agreement: float  # share of rotated volumes classified as the unrotated one of their shape
    train_seconds: float


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


def run(
    preset: Preset,
    seeds: Sequence[int],
    directory: Path,
    networks: Sequence[str],
    resume: bool,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Trains and tests every network with every seed; anew, or from where an earlier run stopped.

    Each outcome is written and reported as soon as it is there; with `resume`, those that are there are not made again.
    """
    outcomes: list[Outcome] = []
    for seed in seeds:
        for network in networks:
            place, of_seed = directory / f"{network}-{seed}", preset.with_seed(seed)
            if not resume:
                shutil.rmtree(place, ignore_errors=True)
            outcomes.append(finished(of_seed, place) or _train_and_test(network, of_seed, place))
            write_results(preset, outcomes, directory)
            report(outcomes[-1])
    return outcomes


def prepare(network: str, preset: Preset, *, sync: bool = False) -> tuple[nn.Module, OneOrientation]:
    """A network with its first weights, and the data it is trained on."""
    torch.manual_seed(preset.training.seed)
    model, data = build(network, preset, sync=sync), OneOrientation(preset)
    if preset.calibrate and network != "conventional":
        calibrate(model, data.volumes[:, None], length=preset.calibrate)
    return model, data


def evaluate(network: str, model: nn.Module, preset: Preset, result: TrainResult, seconds: float) -> Outcome:
    """How a trained network answers to random rotations of all shapes."""
    answers = _classify(model, render(random_rotations(preset.test_rotations, TEST_SEED), preset.raster))
    unrotated = _classify(model, render(torch.eye(3)[None], preset.raster))
    right = answers == torch.arange(len(SHAPES))  # (rotation, shape)
    return Outcome(
        network=network,
        seed=preset.training.seed,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        train_loss=result.history[-1]["train_loss"],
        accuracy=right.float().mean().item(),
        accuracy_by_shape=dict(zip(SHAPES, right.float().mean(dim=0).tolist(), strict=True)),
        agreement=(answers == unrotated).float().mean().item(),
        train_seconds=seconds,
    )


def build(network: str, preset: Preset, *, sync: bool = False) -> nn.Module:
    """A network of a preset, steerable or conventional; `sync`: with batch norms over all processes' samples."""
    if network == "conventional":
        return Conventional(preset, sync=sync)
    return Steerable(compiled(preset.spec), preset)


def compiled(spec: str) -> ModuleType:
    """The package of a spec beside this example, compiled into `generated/` if it is missing or out of date."""
    from basisgen.emission.render import made_from
    from basisgen.emission.write import is_up_to_date, write_package
    from basisgen.pipeline import compile_package
    from basisgen.spec import parse_package

    package = parse_package((HERE / spec).read_text("utf-8"))
    generated = HERE.parent.parent / "generated"
    if not is_up_to_date(generated / package.name, made_from(package)):
        write_package(compile_package(package), generated / package.name)
    if str(generated) not in sys.path:
        sys.path.append(str(generated))
    importlib.invalidate_caches()
    return importlib.import_module(package.name)


def write_results(preset: Preset, outcomes: Sequence[Outcome], directory: Path) -> None:
    """results.json: every outcome, with what it took."""
    facts = {
        "preset": preset.name,
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "test": f"{preset.test_rotations} random rotations of all {len(SHAPES)} shapes",
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    _write_json(directory / "results.json", facts)


def write_outcome(preset: Preset, outcome: Outcome, directory: Path) -> None:
    """outcome.json beside the checkpoints: the outcome, and all that it follows from."""
    _write_json(directory / "outcome.json", {"made_from": _made_from(preset), "outcome": asdict(outcome)})


def finished(preset: Preset, directory: Path) -> Outcome | None:
    """The outcome an earlier run left, if it follows from the same preset and spec."""
    try:
        content = json.loads((directory / "outcome.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Outcome(**content["outcome"]) if content["made_from"] == _made_from(preset) else None


def _made_from(preset: Preset) -> dict[str, object]:
    plain: dict[str, object] = json.loads(json.dumps(asdict(preset)))
    return plain | {"spec": (HERE / preset.spec).read_text("utf-8")}


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    temporary.replace(path)


def _train_and_test(network: str, preset: Preset, directory: Path) -> Outcome:
    model, data = prepare(network, preset)
    start = time.perf_counter()
    result = train(model, data, preset.training, directory, resume=True)
    outcome = evaluate(network, model, preset, result, time.perf_counter() - start)
    write_outcome(preset, outcome, directory)
    return outcome


@torch.no_grad()
def _classify(model: nn.Module, volumes: Tensor) -> Tensor:
    """(rotation, shape, x, y, z) -> class (rotation, shape)."""
    model.eval()
    return torch.stack([model(turned[:, None]).argmax(dim=1) for turned in volumes])
