"""Three ways from a map with missing pixels (scene, 2, row, column) to the whole field (scene, 1, row, column)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.sphere_dense.scenes import World, each
from runtime.spheres import SphereActivation, as_channels, as_packed, band_limit


class SphereUNet(nn.Module):
    """Ours: convolutions of signals whose band limits fall and rise again, with a skip at every band but the lowest.

    A layer is a zonal convolution of what comes and of the input, then a function of samples that sees the sea:

        down     what comes from the band above; it goes on, and to the layer `up` of the same band
        bottom   any number of layers between
        up       what comes from below, beside what `down` of this band gave
        out      a zonal convolution alone, to one signal of the field's band limit

    A map becomes coefficients by least squares; the answer is evaluated at the pixels.
    package: Down1, Down2, .., further layers, .., Up2, Up1, Out in this order, and the transforms of one signal that
    samples are made with, Grid1, Grid2, ..
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, package: ModuleType, world: World) -> None:
        super().__init__()
        made: dict[str, Any] = {name: getattr(package, name)() for name in package.__all__}
        grids = [layer for name, layer in made.items() if name.startswith("Grid")]
        convs = {name: layer for name, layer in made.items() if not name.startswith("Grid")}
        pairs = pairwise(convs.items())
        self.layers = nn.ModuleDict({name: _Layer(conv, after, grids) for (name, conv), (_, after) in pairs})
        self.out = convs["Out"]
        limits = band_limit(convs["Down1"].in_type), band_limit(self.out.out_type)
        self.register_buffer("analysis", world.least_squares(limits[0]).float(), persistent=False)
        self.register_buffer("synthesis", world.table(limits[1]).float(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(scene, 2, row, column) -> (scene, 1, row, column)."""
        seen = maps.flatten(2) @ self.analysis  # (scene, 2, pixel) @ (pixel, coefficient)
        signals, skips = seen[:, :0], {}
        for name, layer in self.layers.items():
            if name.startswith("Up"):
                signals = torch.cat([signals, skips[name.removeprefix("Up")]], 1)  # (scene, signal, coefficient)
            signals = layer(signals, seen)
            if name.startswith("Down"):
                skips[name.removeprefix("Down")] = signals
        answer = self.out(_below(self.out, signals, seen))  # (scene, coefficient)
        # (scene, coefficient) @ (coefficient, pixel) -> (scene, 1, row, column)
        return (answer @ self.synthesis).reshape(len(maps), 1, *maps.shape[2:])


class _Layer(nn.Module):
    """Convolution, then a function of samples; the degrees that the next convolution takes come back.

    Samples are those of the smallest grid of a band limit that suits.
    """

    def __init__(self, conv: Any, after: Any, grids: Sequence[Any]) -> None:
        super().__init__()
        self.conv, self.limit, self.out_limit = conv, band_limit(conv.out_type), band_limit(after.in_type)
        limits = {band_limit(grid.field_type): grid for grid in grids}
        grid = limits[min(limit for limit in limits if limit >= max(self.limit, self.out_limit))]
        signals: int = conv.signals_out
        options = {"limit": self.limit, "out_limit": self.out_limit, "signals": signals + 1}
        self.activation = SphereActivation(grid, _AtSea(signals), **options)

    def forward(self, signals: Tensor, seen: Tensor) -> Tensor:
        """(scene, signal, coefficient), input (scene, 2, coefficient) -> (scene, signal out, coefficient)."""
        mixed = as_packed(self.conv(_below(self.conv, signals, seen)), self.conv.out_type)
        beside = torch.cat([mixed, seen[:, 1:, : self.limit**2]], 1)  # the sea is the last signal
        return as_packed(self.activation(as_channels(beside)), self.activation.out_type)[:, :-1]


def _below(conv: Any, signals: Tensor, seen: Tensor) -> Tensor:
    """Signals and the input beside them, as the channels of a convolution: degrees below its band limit."""
    count = band_limit(conv.in_type) ** 2
    return as_channels(torch.cat([signals[..., :count], seen[..., :count]], 1))


class _AtSea(nn.Module):
    """Pointwise, behind batch norm: half of the signals times the sea, SiLU of the others; the sea comes last."""

    def __init__(self, signals: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(signals)

    def forward(self, samples: Tensor) -> Tensor:
        """(scene, signal, ring, longitude) -> the same shape."""
        first, second = self.norm(samples[:, :-1]).chunk(2, 1)
        sea = samples[:, -1:]
        return torch.cat([first * sea, F.silu(second), sea], 1)


class PlanarUNet(nn.Module):
    """The plain network: convolutions of 3 x 3 pixels on the map, which is halved and doubled again, with skips.

    Columns are continued around the sphere and rows over the poles, half a turn away. Batch norm and SiLU behind each
    convolution. latitude: a third input, the sine of the latitude. Rows must be divisible by 2 for each width but one.
    """

    sine: Tensor

    def __init__(self, widths: tuple[int, ...], world: World, *, latitude: bool) -> None:
        super().__init__()
        sine = world.points[:, 1].float().reshape(1, 1, world.rows, 2 * world.rows)
        self.register_buffer("sine", sine if latitude else sine[:, :0], persistent=False)
        self.down = nn.ModuleList(_planar(a, b) for a, b in pairwise((2 + int(latitude), *widths)))
        rising = pairwise(reversed(widths))
        self.up = nn.ModuleList(_planar(below + width, width) for below, width in rising)
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(scene, 2, row, column) -> (scene, 1, row, column)."""
        x = torch.cat([maps, self.sine.expand(len(maps), -1, -1, -1)], 1)
        skips: list[Tensor] = []
        for number, layer in enumerate(self.down):
            x = layer(F.avg_pool2d(x, 2) if number else x)
            skips.append(x)
        skips.pop()
        for layer in self.up:
            x = layer(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], 1))
        restored: Tensor = self.out(x)
        return restored


class _Around(nn.Module):
    """One pixel more on every side: columns around the sphere, rows over the poles."""

    def forward(self, maps: Tensor) -> Tensor:
        """(scene, channel, row, column) -> (scene, channel, row + 2, column + 2)."""
        beyond = maps.roll(maps.shape[3] // 2, 3)
        return F.pad(torch.cat([beyond[:, :, :1], maps, beyond[:, :, -1:]], 2), (1, 1, 0, 0), "circular")


def _planar(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(_Around(), nn.Conv2d(before, after, 3, bias=False), nn.BatchNorm2d(after), nn.SiLU())


class Kriging(nn.Module):
    """The best linear estimate that knows spectrum and noise but no direction (optimal interpolation): no learning.

        E[f | d] = K_fs (K_ss + N_ss)^-1 d        s: pixels of the sea, d: values there

    K: covariance of the field over all orientations, the climate's part too; N: of the noise. Without a climate it is
    the best estimate of all, as everything is Gaussian. Source: Gandin 1963; Matheron 1963.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        field, noise = world.table(world.limit), world.table(world.noise_limit)
        self.covariance = field.mT @ (each(world.spectrum_of_all)[:, None] * field)  # (pixel, pixel)
        self.noise = world.noise_power * noise.mT @ noise
        self.noise.diagonal().mul_(1 + 1e-6)  # else singular where pixels are more than coefficients of the noise

    def forward(self, maps: Tensor) -> Tensor:
        """(scene, 2, row, column) -> (scene, 1, row, column)."""
        found = [self._of(values, sea > 0.5) for values, sea in maps.double().flatten(2)]
        return torch.stack(found).to(maps).reshape(len(maps), 1, *maps.shape[2:])

    def _of(self, values: Tensor, sea: Tensor) -> Tensor:
        system = (self.covariance + self.noise)[sea][:, sea]
        weights = torch.cholesky_solve(values[sea, None], torch.linalg.cholesky(system))
        return (self.covariance[:, sea] @ weights)[:, 0]  # (pixel, sea) @ (sea, 1)
