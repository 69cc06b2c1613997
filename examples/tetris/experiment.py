"""The experiment: train both networks on the shapes in one orientation, test them on random rotations of all shapes."""

from __future__ import annotations

import importlib
import json
import platform
import shutil
import sys
import time
from collections.abc import Sequence
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
from runtime.train import train

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


def run(preset: Preset, seeds: Sequence[int], directory: Path, networks: Sequence[str], resume: bool) -> list[Outcome]:
    """Trains and tests every network with every seed; anew, or from where an earlier run stopped."""
    tests = render(random_rotations(preset.test_rotations, TEST_SEED), preset.raster)
    outcomes = []
    for seed in seeds:
        for network in networks:
            place = directory / f"{network}-{seed}"
            if not resume:
                shutil.rmtree(place, ignore_errors=True)
            outcomes.append(_train_and_test(network, preset.with_seed(seed), tests, place))
    return outcomes


def build(network: str, preset: Preset) -> nn.Module:
    """A network of a preset: steerable, steerable without low-pass, or conventional."""
    if network == "conventional":
        return Conventional(preset)
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
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps(facts, indent=1) + "\n")


def _train_and_test(network: str, preset: Preset, tests: Tensor, directory: Path) -> Outcome:
    torch.manual_seed(preset.training.seed)
    model = build(network, preset)
    data = OneOrientation(preset)
    if preset.calibrate and network != "conventional":
        calibrate(model, data.volumes[:, None], length=preset.calibrate)
    start = time.perf_counter()
    result = train(model, data, preset.training, directory, resume=True)
    seconds = time.perf_counter() - start
    answers = _classify(model, tests)  # (rotation, shape)
    right = answers == torch.arange(len(SHAPES))
    unrotated = _classify(model, data.volumes[None])
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


@torch.no_grad()
def _classify(model: nn.Module, volumes: Tensor) -> Tensor:
    """(rotation, shape, x, y, z) -> class (rotation, shape)."""
    model.eval()
    return torch.stack([model(turned[:, None]).argmax(dim=1) for turned in volumes])
