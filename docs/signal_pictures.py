"""The picture of docs/signals.md: a signal on the sphere and its samples, the same rotated, errors of activations."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot

from basisgen.spheres.activation_error import FUNCTIONS, OVERSAMPLING, RingAnalysis, activation_error
from basisgen.spheres.sphere_grid import Sampling
from runtime.so3 import random_rotations
from runtime.spheres import as_channels, as_packed, directions, evaluate, rotate_signal, signal_type, smooth

LIMIT = 8
PIXELS = 121
INK = "#1f5f66"


def signals(path: Path) -> None:
    """Three panels: the signal with the samples of its grid, the rotated signal, predicted errors."""
    figure, axes = pyplot.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained")
    generator = torch.Generator().manual_seed(4)
    signal = smooth(torch.randn(1, 1, LIMIT**2, dtype=torch.float64, generator=generator), 0.25)
    rotation = random_rotations(1, generator=generator)[0]
    terms = signal_type(1, LIMIT)
    turned = as_packed(rotate_signal(as_channels(signal), rotation, terms), terms)
    colatitudes = torch.from_numpy(RingAnalysis.of(Sampling.MW, LIMIT).colatitudes)
    samples = directions(colatitudes, 2 * LIMIT - 1).reshape(-1, 3)
    _draw(axes[0], signal[0, 0], samples, "a signal, degrees 0 to 7, and its samples")
    _draw(axes[1], turned[0, 0], samples @ rotation.mT, "rotated by D(r), exactly")
    _errors(axes[2])
    figure.savefig(path, dpi=100, facecolor="white")
    pyplot.close(figure)


def _draw(axes: pyplot.Axes, signal: torch.Tensor, samples: torch.Tensor, title: str) -> None:
    """The sphere from far away along x, the pole y up."""
    line = torch.linspace(-1, 1, PIXELS, dtype=torch.float64)
    up, right = torch.meshgrid(line.flip(0), line, indexing="ij")
    depth = (1 - up**2 - right**2).clamp_min(0).sqrt()
    values = evaluate(signal, torch.stack([depth, up, -right], -1).reshape(-1, 3)).reshape(PIXELS, PIXELS)
    picture = np.where(((up**2 + right**2) <= 1).numpy(), values.numpy(), np.nan)
    axes.imshow(picture, cmap="RdBu_r", extent=(-1, 1, -1, 1), vmin=-1.2, vmax=1.2)
    front = samples[samples[:, 0] > 0.02]
    axes.plot(-front[:, 2], front[:, 1], ".", color="black", markersize=3)
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def _errors(axes: pyplot.Axes) -> None:
    for name in ("relu", "gelu", "tanh", "silu"):
        grids = [RingAnalysis.of(Sampling.MW, int(factor * LIMIT)).cut(LIMIT) for factor in OVERSAMPLING]
        errors = [activation_error(FUNCTIONS[name], np.ones(LIMIT), grid)[0] for grid in grids]
        axes.loglog(OVERSAMPLING, errors, marker="o", markersize=4, label=name)
    axes.set_xticks(OVERSAMPLING, [f"{factor:g}x" for factor in OVERSAMPLING])
    axes.minorticks_off()
    axes.set_xlabel("oversampling")
    axes.set_title("equivariance error, white signals", fontsize=10)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
