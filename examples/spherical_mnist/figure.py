"""The picture: digits on the sphere as they are, the same turned, and how often the finished networks are wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from examples.common.cases import OUTCOME, Outcome, read_outcome
from examples.common.measure import TEST_SEED
from examples.common.results import COLOURS
from examples.spherical_mnist.data import Digits
from runtime.so3 import random_rotations
from runtime.spheres import evaluate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5  # digits
PIXELS = 160  # across a sphere
TILT = math.radians(10)  # of the view, from above the pole towards the foot of the digit
SCORES = ("NR/NR", "R/R", "NR/R")


def draw(test: Digits, directory: Path) -> Path:
    """Writes digits.png for the finished cases in a directory; returns its path."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    outcomes = [read_outcome(path) for path in sorted(directory.glob(f"*/{OUTCOME}"))]
    some = test.take(SHOWN)
    figure = pyplot.figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 3))
    panels = left.subplots(2, len(some), squeeze=False)
    for row, digits in zip(panels, (some, some.turned(_towards_the_view(len(some)))), strict=True):
        for axes, picture in zip(row, seen(digits.signals), strict=True):
            axes.imshow(picture.numpy(), cmap="gray", vmin=-0.2, vmax=1.1)
            axes.set_axis_off()
    panels[0][0].set_title("as they are (NR)", fontsize=9, loc="left")
    panels[1][0].set_title("turned (R)", fontsize=9, loc="left")
    _bars(right.subplots(), outcomes)
    path = directory / "digits.png"
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)
    return path


def seen(signals: Tensor) -> Tensor:
    """Spheres as seen from afar, (digit, row, column), darker towards their edge; nan beside them."""
    steps = torch.linspace(-1, 1, PIXELS, dtype=torch.float64)
    down, right = torch.meshgrid(steps, steps, indexing="ij")
    near = (1 - down.square() - right.square()).clamp(min=0).sqrt()
    points = torch.stack([right, down, near], -1) @ _axes()  # (row, column, 3)
    values = evaluate(signals.double(), points.flatten(0, 1)).unflatten(1, near.shape)
    return (0.12 + values.clamp(0, 1)) * (0.35 + 0.65 * near) + torch.where(near > 0, 0.0, math.nan)


def _axes() -> Tensor:
    """Right, down and towards the viewer in the coordinates of the sphere, float64 (3, 3)."""
    c, s = math.cos(TILT), math.sin(TILT)
    return torch.tensor([[1, 0, 0], [0, -s, c], [0, c, s]], dtype=torch.float64)


def _towards_the_view(count: int) -> Tensor:
    """The first random rotations that leave the digit in sight, (count, 3, 3)."""
    drawn = random_rotations(50 * count, generator=torch.Generator().manual_seed(TEST_SEED))
    poles = drawn[:, :, 1]  # where the pole goes
    return drawn[(poles @ _axes()[2] > 0.6) & (poles[:, 1] < 0.9)][:count]


def _bars(axes: Axes, outcomes: list[Outcome]) -> None:
    """Wrong answers in percent, of each network in each setting; the mean over the seeds."""
    networks = list(dict.fromkeys(outcome.case.network for outcome in outcomes))
    width = 0.8 / max(1, len(networks))
    for number, (network, colour) in enumerate(zip(networks, COLOURS * len(networks), strict=False)):
        found: dict[str, list[float]] = {}
        for outcome in outcomes:
            if outcome.case.network == network:
                for score in set(SCORES) & outcome.scores.keys():
                    found.setdefault(score, []).append(100 - outcome.scores[score])
        places = [SCORES.index(score) - 0.4 + width * (number + 0.5) for score in found]
        means = [sum(values) / len(values) for values in found.values()]
        drawn: Any = axes.bar(places, means, width, color=colour, label=network)
        axes.bar_label(drawn, fmt="%.2f", fontsize=8)
    axes.set(xticks=range(len(SCORES)), xticklabels=SCORES, ylabel="wrong answers, %", yscale="log", ylim=(0.3, 100))
    axes.set_xlabel("trained / tested", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if networks:
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
