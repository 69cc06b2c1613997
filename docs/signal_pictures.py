"""The pictures of docs/signals.md and docs/spheres.md: signals on the sphere, grids of samples, mixing sets."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot

from basisgen.spheres.activation_error import FUNCTIONS, OVERSAMPLING, RingAnalysis, activation_error
from basisgen.spheres.mixing import Mixing, Pair, cost, mixing_set
from basisgen.spheres.sphere_grid import Sampling
from runtime.so3 import random_rotations
from runtime.spheres import as_channels, as_packed, directions, evaluate, rotate_signal, signal_type, smooth

LIMIT = 8
PIXELS = 201
INK, ACCENT = "#1f5f66", "#c0562f"
DEGREE = 4  # of the products whose mixing sets are drawn
TILT = 0.4  # radians the pole leans to the viewer in the pictures of grids


def signals(path: Path) -> None:
    """A signal with the samples of its grid, the same rotated, and predicted errors of activations."""
    figure, axes = pyplot.subplot_mosaic(
        [["signal", "rotated"], ["errors", "errors"]], figsize=(6.4, 5.8), height_ratios=[3, 2], layout="constrained"
    )
    generator = torch.Generator().manual_seed(4)
    signal = smooth(torch.randn(1, 1, LIMIT**2, dtype=torch.float64, generator=generator), 0.25)
    rotation = random_rotations(1, generator=generator)[0]
    terms = signal_type(1, LIMIT)
    turned = as_packed(rotate_signal(as_channels(signal), rotation, terms), terms)
    samples = _grid(Sampling.MW)
    _draw(axes["signal"], signal[0, 0], samples, "a signal, degrees 0 to 7,\nand its samples")
    _draw(axes["rotated"], turned[0, 0], samples @ rotation.mT, "rotated by D(r), exactly\n")
    _errors(axes["errors"])
    _save(figure, path)


def grids(path: Path) -> None:
    """The samples of the four grids of band limit 8, on a sphere whose pole leans to the viewer."""
    figure, axes = pyplot.subplots(2, 2, figsize=(6.4, 6.6), layout="constrained")
    lean = torch.tensor(
        [[1, 0, 0], [0, math.cos(TILT), -math.sin(TILT)], [0, math.sin(TILT), math.cos(TILT)]], dtype=torch.float64
    )
    around = np.linspace(0, 2 * np.pi, 200)
    for place, sampling in zip(axes.flat, Sampling, strict=True):
        points = _grid(sampling)
        distinct = torch.unique(points.mul(1e6).round(), dim=0)
        seen = points @ lean.mT
        back, front = seen[seen[:, 2] <= 0], seen[seen[:, 2] > 0]
        place.plot(np.cos(around), np.sin(around), color="0.6", linewidth=1)
        place.plot(back[:, 0], back[:, 1], "o", color="0.85", markersize=3)
        place.plot(front[:, 0], front[:, 1], "o", color=INK, markersize=5)
        place.set_title(f"{sampling.value}: {len(distinct)} points", fontsize=13)
        place.set(aspect="equal")
        place.set_axis_off()
    _save(figure, path)


def mixing(path: Path) -> None:
    """The three mixing sets of one degree as graphs, and what the products of all degrees cost."""
    figure, axes = pyplot.subplots(2, 2, figsize=(6.4, 6.8), layout="constrained")
    for place, kind in zip(axes.flat, Mixing, strict=False):
        _graph(place, kind)
    _costs(axes[1, 1])
    _save(figure, path)


def _graph(axes: pyplot.Axes, kind: Mixing) -> None:
    """Degrees around a circle, an edge for each product of two; a product of one degree with itself is a ring."""
    pairs = _products(kind, LIMIT, DEGREE)
    angles = np.pi / 2 - 2 * np.pi * np.arange(LIMIT) / LIMIT
    x, y = np.cos(angles), np.sin(angles)
    widest = max(cost(a, b, DEGREE) for a, b in _products(Mixing.ALL, LIMIT, DEGREE))
    for a, b in pairs:
        width = 0.8 + 3.2 * cost(a, b, DEGREE) / widest
        if a == b:
            ring = pyplot.Circle((1.24 * x[a], 1.24 * y[a]), 0.14, fill=False, color=ACCENT, linewidth=width)
            axes.add_patch(ring)
        else:
            axes.plot(x[[a, b]], y[[a, b]], color=ACCENT, linewidth=width, zorder=1)
    axes.scatter(x, y, s=330, color="white", edgecolor=INK, linewidth=1.6, zorder=2)
    for degree in range(LIMIT):
        axes.text(x[degree], y[degree], str(degree), ha="center", va="center", color=INK, fontsize=12)
    axes.set_title(f"{kind.value}: {_counted(pairs)}", fontsize=13)
    axes.set(aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    axes.set_axis_off()


def _products(kind: Mixing, limit: int, degree: int) -> list[Pair]:
    """The mixing set of a signal with itself, without the products (l, l) of odd degree, which are zero."""
    return [(a, b) for a, b in mixing_set(kind, range(limit), degree) if a != b or degree % 2 == 0]


def _counted(pairs: list[Pair]) -> str:
    return f"{len(pairs)} products,\n{sum(cost(a, b, DEGREE) for a, b in pairs)} coefficients"


def _costs(axes: pyplot.Axes) -> None:
    limits = [4, 8, 16, 32, 64]
    for kind, marker in zip(Mixing, "os^", strict=True):
        costs = [sum(cost(a, b, l) for l in range(limit) for a, b in _products(kind, limit, l)) for limit in limits]
        axes.loglog(limits, costs, marker=marker, label=kind.value)
    axes.set_xticks(limits, [str(limit) for limit in limits])
    axes.minorticks_off()
    axes.set_xlabel("band limit L", fontsize=12)
    axes.set_title("coefficients,\nall degrees", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.legend(fontsize=11)
    axes.grid(alpha=0.3)


def _grid(sampling: Sampling) -> torch.Tensor:
    """Unit vectors (point, 3) of a grid of band limit 8; a pole is there once for every longitude."""
    whole_steps = sampling in (Sampling.MW, Sampling.GAUSS)  # an odd number of longitudes
    colatitudes = torch.from_numpy(RingAnalysis.of(sampling, LIMIT).colatitudes)
    return directions(colatitudes, 2 * LIMIT - whole_steps).reshape(-1, 3)


def _draw(axes: pyplot.Axes, signal: torch.Tensor, samples: torch.Tensor, title: str) -> None:
    """The sphere from far away along x, the pole y up."""
    line = torch.linspace(-1, 1, PIXELS, dtype=torch.float64)
    up, right = torch.meshgrid(line.flip(0), line, indexing="ij")
    depth = (1 - up**2 - right**2).clamp_min(0).sqrt()
    values = evaluate(signal, torch.stack([depth, up, -right], -1).reshape(-1, 3)).reshape(PIXELS, PIXELS)
    picture = np.where(((up**2 + right**2) <= 1).numpy(), values.numpy(), np.nan)
    axes.imshow(picture, cmap="RdBu_r", extent=(-1, 1, -1, 1), vmin=-2.4, vmax=2.4)
    front = samples[samples[:, 0] > 0.02]
    axes.plot(-front[:, 2], front[:, 1], "o", color="black", markersize=3)
    axes.set_title(title, fontsize=13)
    axes.set_axis_off()


def _errors(axes: pyplot.Axes) -> None:
    for name, marker in zip(("relu", "gelu", "tanh", "silu"), "os^D", strict=True):
        grids = [RingAnalysis.of(Sampling.MW, int(factor * LIMIT)).cut(LIMIT) for factor in OVERSAMPLING]
        errors = [activation_error(FUNCTIONS[name], np.ones(LIMIT), grid)[0] for grid in grids]
        axes.loglog(OVERSAMPLING, errors, marker=marker, markersize=5, label=name)
    axes.set_xticks(OVERSAMPLING, [f"{factor:g}x" for factor in OVERSAMPLING])
    axes.minorticks_off()
    axes.set_xlabel("oversampling", fontsize=12)
    axes.set_title("equivariance error of an activation, white signals", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.legend(fontsize=11)
    axes.grid(alpha=0.3)


def _save(figure: pyplot.Figure, path: Path) -> None:
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)
