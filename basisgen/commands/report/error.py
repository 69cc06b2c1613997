"""The equivariance error that the page states: what `runtime.testing.assert_equivariant` measures, predicted.

Its inputs are plane waves of one length, of any directions and phases, under an envelope about the voxel that is looked
at. As a function of two points their correlation is one that no rotation changes, which is all `defect` asks for:

    k(x, x') = exp(-(|x|^2 + |x'|^2) / (2 width^2)) sin(|w| d) / (|w| d),    d = |x - x'|,    |w| = 2 pi / wavelength

The error, relative to the output, is sqrt(2) defect: the errors before and after a turn are uncorrelated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from basisgen.volumes.sampling.defect import Defects, SingleFrequency, measure
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.sample import SampledFilters

Array = NDArray[np.float64]

WIDTH = 2.5  # of the envelope, in the smallest voxel spacing, as `assert_equivariant` has it by default
WAVELENGTHS = (24, 16, 12, 8, 6, 5, 4, 3)  # in the largest voxel spacing
TESTED = (4, 8, 16)  # those of `assert_equivariant`
STATED = 8  # the one that the head of the page and the list of layers name


@dataclass(frozen=True)
class Waves:
    """The spectrum of these inputs; lengths in physical units."""

    wavelength: float
    width: float

    def correlate(self, filters: Array, grid: VoxelGrid) -> Array:
        """See `defect.Spectrum`."""
        envelope = self._envelope(np.sqrt((grid.coordinates**2).sum(axis=0)))
        return envelope * self._single.correlate(envelope * filters, grid)

    def radial_part(self, J: int, radii: Array, grid: VoxelGrid) -> Array:
        """See `defect.Spectrum`."""
        envelope = self._envelope(radii)
        return np.multiply.outer(envelope, envelope) * self._single.radial_part(J, radii, grid)

    @property
    def _single(self) -> SingleFrequency:
        return SingleFrequency(2 * pi / self.wavelength)

    def _envelope(self, radii: Array) -> Array:
        envelope: Array = np.exp(-((radii / self.width) ** 2) / 2)
        return envelope


def by_wavelength(filters: SampledFilters) -> list[Defects]:
    """The defects of filters for every one of the wavelengths."""
    spacing = [float(length) for length in filters.grid.spacing]
    return [measure(filters, Waves(wavelength * max(spacing), WIDTH * min(spacing))) for wavelength in WAVELENGTHS]


def predicted(defects: Defects, variance: Mapping[int, float]) -> float:
    """The equivariance error of a layer with random weights, see `Defects.layer`."""
    return sqrt(2) * defects.layer(variance)
