"""Made maps: a random field with a given spectrum, seen through noise and only over the sea.

    field      Gaussian, variance of a coefficient C_l ~ (l + 1)^-falling, of mean square 1; and the climate, the same
               in all scenes, of mean square climate^2: P_1 and P_2 of the latitude
    height     Gaussian and smooth, of mean square 1, raised in the north; land is where it is above `coast`
    noise      Gaussian, white below degree `noise_limit`, its values of standard deviation `noise`
    input      (field + noise) over the sea, 0 on land; and where the sea is: 1 or 0

All three are coefficients, so that a scene is turned exactly, by D^l, before it is sampled. The pole is the y axis. A
map has `rows` rows of latitude, the first half a row from the pole, and twice as many columns of longitude.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from runtime.spheres import (
    cell_areas,
    directions,
    harmonics,
    panorama_rings,
    power_spectrum,
    rotate_signal,
    signal_type,
)

SMOOTH = 3.0  # the fall of the spectrum of heights
NORTH, FLAT = 0.5, -1.0  # of P_1 and P_2 in the climate: cold poles, and the south colder than the north


@dataclass(frozen=True)
class World:
    """What scenes are made of, see above. Limits are band limits: of field, height and noise."""

    rows: int
    limit: int
    falling: float
    climate: float
    noise: float
    noise_limit: int
    land_limit: int
    coast: float
    north: float

    @cached_property
    def points(self) -> Tensor:
        """Unit vectors of the pixels, row by row, north first: float64 (pixel, 3)."""
        return directions(panorama_rings(self.rows), 2 * self.rows).flatten(0, 1)

    @cached_property
    def latitudes(self) -> Tensor:
        """Of the pixels in degrees, float64 (pixel)."""
        return torch.rad2deg(self.points[:, 1].asin())

    @cached_property
    def areas(self) -> Tensor:
        """The part of the sphere that each pixel covers, float64 (pixel)."""
        return cell_areas(panorama_rings(self.rows), 2 * self.rows).repeat_interleave(2 * self.rows) / (4 * math.pi)

    @cached_property
    def spectrum(self) -> Tensor:
        """C_l of the field without the climate, float64 (degree)."""
        return _spectrum(self.limit, self.falling)

    @property
    def spectrum_of_all(self) -> Tensor:
        """Mean square of a coefficient of each degree over all orientations, climate included: float64 (degree)."""
        return self.spectrum + power_spectrum(self.mean)

    @cached_property
    def mean(self) -> Tensor:
        """The climate, float64 (coefficient)."""
        zonal = _zonal(self.limit)
        mean = torch.zeros(self.limit**2, dtype=torch.float64)
        mean[1:4], mean[4:9] = NORTH * zonal[1:4], FLAT * zonal[4:9]
        return mean * self.climate * math.sqrt(4 * math.pi) / math.hypot(NORTH, FLAT)

    def noise_of(self, normal: Tensor) -> Tensor:
        """Noise from normal numbers (.., coefficient)."""
        return normal * math.sqrt(self.noise_power)

    @property
    def noise_power(self) -> float:
        """Variance of a coefficient of the noise."""
        return self.noise**2 * 4 * math.pi / self.noise_limit**2

    def table(self, limit: int) -> Tensor:
        """Harmonics at the pixels, float64 (coefficient, pixel)."""
        return harmonics(limit, self.points).mT

    def least_squares(self, limit: int) -> Tensor:
        """Takes maps to the closest signals below a band limit, by areas: float64 (pixel, coefficient)."""
        table = self.table(limit)
        weighted = (table * self.areas).mT  # (pixel, coefficient)
        return torch.linalg.solve(table @ weighted, weighted, left=False)

    def draw(self, count: int, generator: torch.Generator) -> Scenes:
        """Scenes, upright."""

        def normal(limit: int) -> Tensor:
            return torch.randn(count, limit**2, generator=generator, dtype=torch.float64)

        height = normal(self.land_limit) * each(_spectrum(self.land_limit, SMOOTH)).sqrt()
        height[:, 1:4] += self.north * math.sqrt(4 * math.pi) * _zonal(2)[1:4]
        field = normal(self.limit) * each(self.spectrum).sqrt() + self.mean
        return Scenes(field.float(), height.float(), self.noise_of(normal(self.noise_limit)).float())


@dataclass(frozen=True)
class Scenes(Dataset[tuple[dict[str, Tensor], Tensor]]):
    """Packed coefficients (scene, coefficient) of field, height and noise."""

    field: Tensor
    height: Tensor
    noise: Tensor

    def __len__(self) -> int:
        return len(self.field)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        """Field and height, for noise is new at every draw; no label, as the field is what is looked for."""
        return {"field": self.field[index], "height": self.height[index]}, torch.empty(0)

    def repeated(self, times: int) -> Scenes:
        """All of them, so many times."""
        return Scenes(*(part.repeat(times, 1) for part in (self.field, self.height, self.noise)))

    def turned(self, rotations: Tensor) -> Scenes:
        """The same, turned exactly by one rotation each, (scene, 3, 3)."""
        return Scenes(*(turned(part, rotations) for part in (self.field, self.height, self.noise)))


class Maps:
    """Samples scenes on the grid of a world."""

    def __init__(self, world: World) -> None:
        self.world, self.shape = world, (-1, 1, world.rows, 2 * world.rows)
        self._tables = {
            limit: world.table(limit).float() for limit in (world.limit, world.land_limit, world.noise_limit)
        }

    def of(self, signals: Tensor) -> Tensor:
        """Packed coefficients (signal, coefficient) of one of the limits of the world -> (signal, 1, row, column)."""
        table = self._tables[math.isqrt(signals.shape[1])].to(signals)
        return (signals @ table).reshape(self.shape)  # (signal, coefficient) @ (coefficient, pixel)

    def seen(self, scenes: Scenes) -> Tensor:
        """Inputs (scene, 2, row, column)."""
        sea = (self.of(scenes.height) <= self.world.coast).to(scenes.field)
        return torch.cat([(self.of(scenes.field) + self.of(scenes.noise)) * sea, sea], 1)


def turned(signals: Tensor, rotations: Tensor) -> Tensor:
    """Packed coefficients (signal, coefficient), each turned by its rotation (signal, 3, 3)."""
    return rotate_signal(signals, rotations, signal_type(1, math.isqrt(signals.shape[1])))


def each(by_degree: Tensor) -> Tensor:
    """A number of every degree for each of its components: (degree) -> (coefficient)."""
    return by_degree.repeat_interleave(2 * torch.arange(len(by_degree)) + 1)


def _spectrum(limit: int, falling: float) -> Tensor:
    """C_l ~ (l + 1)^-falling of signals of mean square 1 on the sphere: float64 (degree)."""
    spectrum = (torch.arange(limit, dtype=torch.float64) + 1) ** -falling
    return spectrum * 4 * math.pi / each(spectrum).sum()


def _zonal(limit: int) -> Tensor:
    """The harmonics at the north pole, every degree divided by its length: float64 (coefficient)."""
    pole = harmonics(limit, torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))[0]
    return torch.cat([part / part.norm() for part in pole.split([2 * degree + 1 for degree in range(limit)])])
