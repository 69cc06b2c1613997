"""How much the Tetris network's logits depend on the orientation of a shape, by radial family, with and without blur.

    python benchmarks/network_equivariance.py [--seeds 5] [--rotations 16] [--epochs 60] [--out DIR]

The quick preset's network (four gated convolutions of 9 and 7 taps, one stride of 2, global mean, linear) on the eight
shapes in random orientations, rendered exactly. With z(r, s) the eight logits of shape s turned by r:

    error^2 = mean over r, s of |z(r, s) - z(s)|^2 / mean over s of |z(s) - z|^2

z(s) the mean over rotations, z the mean over shapes too; the first mean with the factor n / (n - 1) of a variance. 0:
invariant. 1: the orientation moves the logits as much as the shape does. Nothing but the grid can cause it: filters,
activations, and the stride. Median over draws of the first weights, calibrated as the example does; and, after
training on one orientation, for the preset's own filters (seed 0), with the share of rotated shapes recognised.

    low-pass     every second voxel of a Gaussian blur (runtime.LowPass)
    plain        every second voxel

Writes network_equivariance.json, .md and .png, to benchmarks/results unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))

from basisgen.emission.imported import imported  # noqa: E402
from basisgen.pipeline import compile_package  # noqa: E402
from basisgen.spec import parse_package  # noqa: E402
from examples.tetris.experiment import HERE, OneOrientation  # noqa: E402
from examples.tetris.networks import Steerable  # noqa: E402
from examples.tetris.preset import Preset, load_preset  # noqa: E402
from examples.tetris.shapes import random_rotations, render  # noqa: E402
from runtime.train import train  # noqa: E402
from runtime.train.calibration import calibrate  # noqa: E402

RESULTS = REPOSITORY / "benchmarks" / "results"
ROTATIONS_SEED = 20180706
OWN = "optimal, max_defect 0.03"
RADIALS = {
    "shells": '{ family = "shells" }',
    "hermite": '{ family = "hermite" }',
    "optimal": '{ family = "optimal" }',
    "optimal, max_defect 0.1": '{ family = "optimal", max_defect = 0.1 }',
    OWN: '{ family = "optimal", max_defect = 0.03 }',
}


def compiled(text: str, radial: str) -> AbstractContextManager[ModuleType]:
    """The preset's convolutions with another radial family, imported for the time of a block."""
    own = 'radial = { family = "optimal", max_defect = 0.03 }'
    assert own in text and 'name = "tetris_quick"' in text, "the preset's spec has changed: adapt this benchmark"
    spec = parse_package(text.replace(own, f"radial = {radial}").replace('"tetris_quick"', '"network"'))
    return imported(compile_package(spec), "network")


def fresh(package: ModuleType, preset: Preset, seed: int) -> nn.Module:
    """A network with calibrated first weights, as the example makes it."""
    torch.manual_seed(seed)
    model = Steerable(package, preset)
    calibrate(model, OneOrientation(preset).volumes[:, None], length=preset.calibrate)
    return model.eval()


@torch.no_grad()
def logits(model: nn.Module, volumes: Tensor) -> Tensor:
    """(rotation, shape, x, y, z) -> (rotation, shape, class), float64."""
    return torch.stack([model(turned[:, None]) for turned in volumes]).double()


def error(z: Tensor) -> float:
    """The error defined above, of logits (rotation, shape, class)."""
    of_shape = z.mean(0, keepdim=True)
    turned = (z - of_shape).square().sum(2).mean() * len(z) / (len(z) - 1)
    shapes = (of_shape - of_shape.mean(1, keepdim=True)).square().sum(2).mean()
    return float((turned / shapes).sqrt())


def accuracy(z: Tensor) -> float:
    """The share of rotated shapes recognised."""
    return float((z.argmax(2) == torch.arange(z.shape[1])).double().mean())


def benchmark(seeds: int, rotations: int, epochs: int) -> dict[str, Any]:
    """All families, with and without low-pass; then the preset's own, trained."""
    quick = load_preset("quick")
    volumes = render(random_rotations(rotations, ROTATIONS_SEED), quick.raster)
    text = (HERE / "specs" / quick.spec).read_text("utf-8")
    rows, trained = [], []
    for name, radial in RADIALS.items():
        with compiled(text, radial) as package:
            for lowpass in (True, False):
                preset = replace(quick, lowpass=lowpass)
                errors = [error(logits(fresh(package, preset, seed), volumes)) for seed in range(seeds)]
                rows.append({"radial": name, "lowpass": lowpass, "error": median(errors), "errors": errors})
                print(f"{name:25} {'low-pass' if lowpass else 'plain':9} {median(errors):.4f}", flush=True)
                if name == OWN and epochs:
                    model = fresh(package, preset, 0)
                    training = replace(preset.training, epochs=epochs, tensorboard=False)
                    with tempfile.TemporaryDirectory() as directory:
                        train(model, OneOrientation(preset), training, directory)
                    z = logits(model.eval(), volumes)
                    trained.append({"lowpass": lowpass, "error": error(z), "accuracy": accuracy(z)})
                    print(f"  trained {trained[-1]}", flush=True)
    facts = {"torch": torch.__version__, "seeds": seeds, "rotations": rotations, "epochs": epochs}
    return facts | {"rows": rows, "trained": trained}


def table(result: dict[str, Any]) -> str:
    """The results as markdown."""
    lines = [
        "# Orientation in the logits of the Tetris network",
        "",
        "Made by `python benchmarks/network_equivariance.py`, which defines the error: what a rotation of a shape does "
        "to the logits, relative to what another shape does. "
        f"{result['rotations']} rotations of 8 shapes, median and range over {result['seeds']} draws of first weights.",
        "",
        "| filters | stride behind a low-pass | plain stride |",
        "| --- | ---: | ---: |",
    ]
    for name in RADIALS:
        cells = []
        for lowpass in (True, False):
            (row,) = (row for row in result["rows"] if row["radial"] == name and row["lowpass"] is lowpass)
            cells.append(f"{row['error']:.3f} ({min(row['errors']):.3f} to {max(row['errors']):.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if result["trained"]:
        cells = [f"{of['error']:.3f}, {of['accuracy']:.1%} recognised" for of in result["trained"]]
        lines.append(f"| {OWN}, trained {result['epochs']} epochs | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Every draw as a dot, the medians as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3.8), layout="constrained")
    for shift, lowpass, label in ((-0.2, True, "stride behind a low-pass"), (0.2, False, "plain stride")):
        rows = [row for row in result["rows"] if row["lowpass"] is lowpass]
        axis.bar([i + shift for i in range(len(rows))], [row["error"] for row in rows], 0.36, label=label)
        for i, row in enumerate(rows):
            axis.plot([i + shift] * len(row["errors"]), row["errors"], "k.", markersize=4)
    axis.set_xticks(range(len(RADIALS)), [name.replace(", ", "\n") for name in RADIALS])
    axis.set(yscale="log", ylabel="rotation / shape, logits", title="Tetris network, first weights")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """Runs the benchmark and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rotations", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=60, help="of the trained network; 0: none")
    parser.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    options = parser.parse_args()
    result = benchmark(options.seeds, options.rotations, options.epochs)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "network_equivariance.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "network_equivariance.md").write_text(table(result))
    plot(result, options.out / "network_equivariance.png")
    print(f"\n{table(result)}")


if __name__ == "__main__":
    main()
