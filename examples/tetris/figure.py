"""The picture: the eight shapes, each turned at random, and how often each network recognises them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from examples.tetris.presets import Preset
from examples.tetris.shapes import SHAPES, random_rotations

if TYPE_CHECKING:
    from examples.tetris.experiment import Outcome

_COLOURS = {"steerable": "#2a7f62", "conventional": "#b35c44"}
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def draw(preset: Preset, outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes a PNG: shapes as trained, shapes as tested, accuracy per shape and network."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(12, 6.2), layout="constrained")
    grid = figure.add_gridspec(3, len(SHAPES), height_ratios=(1, 1, 1.35))
    turns = [np.eye(3)] * len(SHAPES), random_rotations(len(SHAPES), 7).numpy()
    for row, (rotations, label) in enumerate(zip(turns, ("trained on", "tested on"), strict=True)):
        for column, (name, cubes) in enumerate(SHAPES.items()):
            axes = figure.add_subplot(grid[row, column], projection="3d")
            _shape(axes, cubes, rotations[column])
            if row == 0:
                axes.set_title(name, fontsize=11)
            if column == 0:
                axes.text2D(-0.12, 0.5, label, transform=axes.transAxes, rotation=90, va="center", fontsize=11)
    _bars(figure.add_subplot(grid[2, :]), preset, outcomes)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white")
    pyplot.close(figure)


def _shape(axes, cubes: Sequence[tuple[int, int, int]], rotation: np.ndarray) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    centres = np.array(cubes, dtype=float)
    centres -= centres.mean(axis=0)
    faces = [(_CORNERS[list(face)] + centre) @ rotation.T for centre in centres for face in _FACES]
    axes.add_collection3d(Poly3DCollection(faces, facecolor="#d9e4ec", edgecolor="#35506b", linewidth=0.7))
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), zlim=(-1.5, 1.5), box_aspect=(1, 1, 1))
    axes.set_axis_off()


def _bars(axes, preset: Preset, outcomes: Sequence[Outcome]) -> None:
    networks = list(dict.fromkeys(outcome.network for outcome in outcomes))
    width = 0.8 / len(networks)
    for index, network in enumerate(networks):
        of_network = [outcome for outcome in outcomes if outcome.network == network]
        by_shape = [np.mean([outcome.accuracy_by_shape[name] for outcome in of_network]) for name in SHAPES]
        mean = np.mean([outcome.accuracy for outcome in of_network])
        label = f"{network}: {mean:.1%}, {of_network[0].parameters:,} parameters"
        places = np.arange(len(SHAPES)) + (index - (len(networks) - 1) / 2) * width
        axes.bar(places, by_shape, width * 0.92, label=label, color=_COLOURS[network])
    axes.axhline(1 / len(SHAPES), color="0.5", linewidth=0.8, linestyle=":")
    axes.set(ylim=(0, 1.02), ylabel="accuracy", xticks=range(len(SHAPES)), xticklabels=list(SHAPES))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.24), ncols=len(networks), frameon=False)
    axes.set_title(
        f"{preset.test_rotations} random rotations of every shape; dotted: chance", fontsize=9, loc="right", pad=2
    )
