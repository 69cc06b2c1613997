"""The picture: the eight shapes, each turned at random, and how often each network recognises them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from examples.common.cases import OUTCOME, Outcome, read_outcome
from examples.common.results import COLOURS, spread
from examples.tetris.experiment import BY_SHAPE
from examples.tetris.preset import Preset
from examples.tetris.shapes import SHAPES, random_rotations

Results = list[tuple[Outcome, dict[str, float]]]  # of one network: every seed's outcome and accuracy by shape

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def draw(preset: Preset, directory: Path) -> Path:
    """Writes tetris.png: shapes as trained, shapes as tested, accuracy of the finished cases per shape and network.

    Returns its path.
    """
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
    _bars(figure.add_subplot(grid[2, :]), preset, _finished(preset, directory))
    path = directory / "tetris.png"
    figure.savefig(path, dpi=110, facecolor="white", bbox_inches="tight")
    pyplot.close(figure)
    return path


def _finished(preset: Preset, directory: Path) -> dict[str, Results]:
    """The networks that have results, in the preset's order."""
    found: dict[str, Results] = {network: [] for network in preset.networks}
    for path in sorted(directory.glob(f"*/{OUTCOME}")):
        outcome = read_outcome(path)
        found[outcome.case.network].append((outcome, json.loads((path.parent / BY_SHAPE).read_text("utf-8"))))
    return {network: results for network, results in found.items() if results}


def _shape(axes, cubes: Sequence[tuple[int, int, int]], rotation: np.ndarray) -> None:
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    centres = np.array(cubes, dtype=float)
    centres -= centres.mean(axis=0)
    faces = [(_CORNERS[list(face)] + centre) @ rotation.T for centre in centres for face in _FACES]
    axes.add_collection3d(Poly3DCollection(faces, facecolor="#d9e4ec", edgecolor="#35506b", linewidth=0.7))
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), zlim=(-1.5, 1.5), box_aspect=(1, 1, 1))
    axes.set_axis_off()


def _bars(axes, preset: Preset, networks: dict[str, Results]) -> None:
    """Mean accuracy per shape; in the legend mean, standard deviation and worst over the seeds."""
    width = 0.8 / len(networks)
    for index, ((network, results), colour) in enumerate(zip(networks.items(), COLOURS, strict=False)):
        by_shape = [np.mean([of_shape[name] for _, of_shape in results]) for name in SHAPES]
        places = np.arange(len(SHAPES)) + (index - (len(networks) - 1) / 2) * width
        axes.bar(places, by_shape, width * 0.92, label=_label(network, results), color=colour)
    axes.axhline(1 / len(SHAPES), color="0.5", linewidth=0.8, linestyle=":")
    axes.set(ylim=(0, 1.02), ylabel="accuracy", xticks=range(len(SHAPES)), xticklabels=list(SHAPES))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.42), ncols=2, frameon=False)
    axes.set_title(
        f"{preset.test_rotations} random rotations of every shape; dotted: chance", fontsize=9, loc="right", pad=2
    )


def _label(network: str, results: Results) -> str:
    accuracies = [outcome.scores["accuracy"] for outcome, _ in results]
    worst = f", worst of {len(results)} {min(accuracies):.3f}" if len(results) > 1 else ""
    return f"{network}: {spread(accuracies)}{worst}; {results[0][0].parameters:,} parameters"
