"""The picture of the ready networks: which convolutions stand where, at which resolution."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

INK, PALE, STRONG = "#1f5f66", "#d5e6e4", "#9cc7c2"
Place = tuple[float, float]


def networks(path: Path) -> None:
    """A classifier and a U-Net of three levels; further down is coarser, further right is later."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained", width_ratios=(1.25, 1.5))
    _classifier(left)
    _unet(right)
    for axes in (left, right):
        axes.set_xlim(-0.7, 5.9)
        axes.set_ylim(-3.6, 0.75)
        axes.set_axis_off()
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)


def _classifier(axes: Axes) -> None:
    axes.set_title('kind = "classifier"', fontsize=11, family="monospace")
    _box(axes, (0, 0), "input\n1x0", PALE)
    names = ("Stem\nSame1", "Widen2", "Last")
    places = [(1.2 + 0.9 * level, -1.0 - level) for level in range(3)]
    for place, name in zip(places, names, strict=True):
        _box(axes, place, name, STRONG)
    _arrow(axes, (0, 0), places[0], "blur, stride 2")
    for before, after in pairwise(places):
        _arrow(axes, before, after, "low-pass, stride 2")
    _box(axes, (4.9, -3.0), "mean,\nlinear", PALE)
    _arrow(axes, places[-1], (4.9, -3.0), "")


def _unet(axes: Axes) -> None:
    axes.set_title('kind = "unet"', fontsize=11, family="monospace")
    _box(axes, (0, 0), "input\n1x0", PALE)
    down = [(0.9 + 0.75 * level, -1.0 - level) for level in range(3)]
    up = [(4.0, -1.0), (3.25, -2.0)]
    for place, name in zip([*down, *up], ("Stem\nSame1", "Widen2", "Widen3", "Join1", "Join2"), strict=True):
        _box(axes, place, name, STRONG)
    _box(axes, (5.1, 0), "Head\n3x0", PALE)
    _arrow(axes, (0, 0), down[0], "blur, stride 2")
    for before, after in ((down[0], down[1]), (down[1], down[2])):
        _arrow(axes, before, after, "")
    _arrow(axes, down[2], up[1], "")
    _arrow(axes, up[1], up[0], "upsample")
    _arrow(axes, up[0], (5.1, 0), "")
    for level in range(2):
        (x1, y), (x2, _) = down[level], up[level]
        axes.annotate("", (x2 - 0.45, y), (x1 + 0.45, y), arrowprops={"arrowstyle": "->", "color": INK, "ls": "--"})


def _box(axes: Axes, place: Place, text: str, colour: str) -> None:
    x, y = place
    shape = FancyBboxPatch((x - 0.36, y - 0.27), 0.72, 0.54, boxstyle="round,pad=0.06", fc=colour, ec=INK)
    axes.add_patch(shape)
    axes.text(x, y, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: Place, end: Place, text: str) -> None:
    (x1, y1), (x2, y2) = start, end
    dx = 0.45 if x2 > x1 else -0.45 if x2 < x1 else 0.0
    dy = 0.0 if y1 == y2 else 0.36 if y2 > y1 else -0.36
    begin, finish = ((x1 + dx, y1), (x2 - dx, y2)) if y1 == y2 else ((x1, y1 + dy), (x2 - dx, y2))
    curve = {
        "arrowstyle": "->",
        "color": INK,
        "connectionstyle": "arc3,rad=0" if y1 == y2 else "angle,angleA=90,angleB=0,rad=6",
    }
    axes.annotate("", finish, begin, arrowprops=curve)
    if text:
        axes.text(x1 + 0.1, (y1 + y2) / 2 + 0.05, text, fontsize=8, color=INK)
