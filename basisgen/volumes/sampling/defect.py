"""The discretisation defect: how far sampled filters are from turning like Y_J. In closed form, without quadrature.

The filters F_M of one degree and profile respond to a plane wave of frequency w with F^(w) = sum_x F(x) exp(-i w.x).
Exactly steerable ones have F^(w) = g(|w|) Y_J(w/|w|). For inputs of power spectrum W(|w|), the rest is

    defect^2 = int W |F^ - g Y_J|^2 dw / int W |F^|^2 dw,      g = mean over directions of F^ . Y_J / (2J+1)
             = 1 - typed / total

Let k(d) be the correlation, at distance d, of a random field of spectrum W; k(0) = 1. As a function of two points it is
a kernel that no rotation changes, so k(|x-x'|) = sum_J k_J(|x|, |x'|) Y_J(x/|x|) . Y_J(x'/|x'|), and

    total = sum_xx' F(x) . F(x') k(|x-x'|)
    typed = sum_xx' s(x) s(x') k_J(|x|, |x'|) / (2J+1),      s(x) = F(x) . Y_J(x/|x|)

The default W is the Gaussian exp(-(|w|/w0)^2), w0 half the Nyquist frequency of the grid's widest pitch: in physical
frequency, for any spacing per axis. It has no upper end: what lies beyond the Nyquist frequency is aliased, as in
a real volume, and counts.

What it predicts: on such fields the output of a layer misses equivariance under a random rotation, relative to its own
size, by sqrt(2) defect: the errors before and after the turn are uncorrelated, for g takes all they have in common.
Source: Watson, Theory of Bessel Functions, 11.41 (the expansion of the kernels) and 13.31 (its Gaussian mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Protocol

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import ive, spherical_jn

from basisgen.volumes.sampling.exact import sample_profile
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.sample import SampledFilters

Array = NDArray[np.float64]

_DEPENDENT = 1e-12  # a direction of the span with less than this part of the total is the filters' linear dependence


class Spectrum(Protocol):
    """An isotropic power spectrum, by the correlation k of a random field that has it."""

    def correlate(self, filters: Array, grid: VoxelGrid) -> Array:
        """sum_x' k(|x-x'|) F(x') at every tap: (.., x, y, z) -> (.., x, y, z)."""

    def radial_part(self, J: int, radii: Array, grid: VoxelGrid) -> Array:
        """k_J(|x|, |x'|) for every pair of radii, (radius, radius)."""


@dataclass(frozen=True)
class Gaussian:
    """W = exp(-(|w|/w0)^2) with w0 = bandwidth * pi / (the grid's widest pitch); k(d) = exp(-(w0 d/2)^2)."""

    bandwidth: Fraction = Fraction(1, 2)

    def frequency(self, grid: VoxelGrid) -> float:
        """w0, radians per physical unit."""
        return float(self.bandwidth / max(grid.pitch)) * np.pi

    def axis_correlations(self, grid: VoxelGrid) -> tuple[Array, Array, Array]:
        """k along each axis, (tap, tap): the whole k is their product."""
        a, b, c = (
            np.exp(-((self.frequency(grid) * float(pitch) / 2 * np.subtract.outer(range(n), range(n))) ** 2))
            for n, pitch in zip(grid.size, grid.pitch, strict=True)
        )
        return a, b, c

    def correlate(self, filters: Array, grid: VoxelGrid) -> Array:
        """See Spectrum."""
        return along_axes(filters, self.axis_correlations(grid))

    def radial_part(self, J: int, radii: Array, grid: VoxelGrid) -> Array:
        """See Spectrum: exp(-w0^2 (a^2+b^2)/4) i_J(w0^2 ab/2), i_J the modified spherical Bessel function."""
        a, b = np.meshgrid(radii, radii, indexing="ij")
        z = self.frequency(grid) ** 2 * a * b / 2
        at_origin = 1.0 if J == 0 else 0.0
        safe = np.where(z > 0, z, 1)
        bessel = np.where(z > 0, np.sqrt(np.pi / (2 * safe)) * ive(J + 0.5, safe), at_origin)  # i_J(z) exp(-z)
        part: Array = np.exp(-((self.frequency(grid) * (a - b) / 2) ** 2)) * bessel
        return part


@dataclass(frozen=True)
class SingleFrequency:
    """All power at |w| = frequency, radians per physical unit: the defect as a function of frequency."""

    frequency: float

    def correlate(self, filters: Array, grid: VoxelGrid) -> Array:
        """See Spectrum: k(d) = sin(|w| d) / (|w| d), here convolved by FFT."""
        offsets = np.meshgrid(
            *(float(p) * np.arange(1 - n, n) for n, p in zip(grid.size, grid.pitch, strict=True)), indexing="ij"
        )
        k = np.sinc(self.frequency / np.pi * np.sqrt(sum(offset**2 for offset in offsets)))
        shape = [3 * n - 2 for n in grid.size]
        product = np.fft.rfftn(filters, shape, axes=(-3, -2, -1)) * np.fft.rfftn(k, shape, axes=(-3, -2, -1))
        full: Array = np.fft.irfftn(product, shape, axes=(-3, -2, -1))
        x, y, z = (slice(n - 1, 2 * n - 1) for n in grid.size)
        return full[..., x, y, z]

    def radial_part(self, J: int, radii: Array, grid: VoxelGrid) -> Array:
        """See Spectrum: j_J(|w| a) j_J(|w| b), j_J the spherical Bessel function."""
        bessel = spherical_jn(J, self.frequency * radii)
        part: Array = np.multiply.outer(bessel, bessel)
        return part


@dataclass(frozen=True, eq=False)
class Energies:
    """Response energies of the profiles of one J, quadratic forms (profile, profile); profiles are of unit tap norm."""

    J: int
    formulas: tuple[str | None, ...]
    total: Array
    typed: Array

    def __post_init__(self) -> None:
        assert self.total.shape == self.typed.shape == (len(self.formulas), len(self.formulas))

    @property
    def each(self) -> Array:
        """The defect of every profile. Below about 1e-7 it is lost in rounding."""
        defects: Array = _root(1 - np.diag(self.typed) / np.diag(self.total))
        return defects

    @property
    def random(self) -> float:
        """The defect for random weights, independent and of one variance: error energies over energies."""
        return float(_root(1 - np.trace(self.typed) / np.trace(self.total)))

    @property
    def worst(self) -> float:
        """The largest defect of any combination of the profiles: the largest generalised eigenvalue."""
        scale, axes = np.linalg.eigh(self.total)
        kept = scale > _DEPENDENT * scale[-1]
        whitened = axes[:, kept] / np.sqrt(scale[kept])
        return float(_root(1 - eigh(whitened.T @ self.typed @ whitened, eigvals_only=True)[0]))


@dataclass(frozen=True, eq=False)
class Defects:
    """The defects of a layer's filters, by degree."""

    by_degree: Mapping[int, Energies]

    def layer(self, variance: Mapping[int, float]) -> float:
        """The defect of a layer with random weights: `variance` is the sum of weight * scale squared over J's paths."""
        pairs = [(v, self.by_degree[J]) for J, v in variance.items()]
        typed = sum(v * np.trace(energies.typed) for v, energies in pairs)
        return float(_root(1 - typed / sum(v * np.trace(energies.total) for v, energies in pairs)))

    def describe(self) -> dict[str, Any]:
        """Plain JSON values, four decimals: per degree the defect of each profile, of random weights, and the worst."""
        return {
            str(J): {
                "profiles": list(energies.formulas),
                "each": [round(float(defect), 4) for defect in energies.each],
                "random": round(energies.random, 4),
                "worst": round(energies.worst, 4),
            }
            for J, energies in self.by_degree.items()
        }


def measure(filters: SampledFilters, spectrum: Spectrum | None = None) -> Defects:
    """The defects of all filters of a layer over a spectrum, by default the Gaussian one."""
    degrees = sorted({group.J for group in filters.groups})
    of_degree = {J: [group for group in filters.groups if group.J == J] for J in degrees}
    return Defects({J: energies(groups, filters.grid, spectrum) for J, groups in of_degree.items()})


def energies(groups: list[FilterGroup], grid: VoxelGrid, spectrum: Spectrum | None = None) -> Energies:
    """`total` and `typed` of filter groups of one degree J."""
    spectrum = spectrum or Gaussian()
    J = groups[0].J
    filters = np.stack([group.values / np.linalg.norm(group.values) for group in groups])  # (profile, M, x, y, z)
    flat = filters.reshape(len(groups), -1)  # (profile, M and tap)
    total = flat @ spectrum.correlate(filters, grid).reshape(len(groups), -1).T  # (profile, profile)
    radii, index = distinct_radii(grid)
    projected = (filters * unit_harmonics(J, grid)).sum(axis=1).reshape(len(groups), -1)  # (profile, tap)
    by_radius = np.stack([np.bincount(index, weights=s, minlength=len(radii)) for s in projected])
    # (profile, radius) @ (radius, radius) @ (radius, profile)
    typed = by_radius @ spectrum.radial_part(J, radii, grid) @ by_radius.T / (2 * J + 1)
    return Energies(J, tuple(group.formula for group in groups), (total + total.T) / 2, typed)


@lru_cache(maxsize=64)
def unit_harmonics(J: int, grid: VoxelGrid) -> Array:
    """Y_J(x/|x|) at every tap, (M, x, y, z), read-only; at the origin 0 for J > 0."""
    values = sample_profile(J, lambda square: mpmath.mpf(1), grid)
    values.setflags(write=False)
    return values


def distinct_radii(grid: VoxelGrid) -> tuple[Array, NDArray[np.intp]]:
    """The distances of taps from the origin, increasing, physical; and for every tap, in order, which is its own."""
    points, denominator = grid.integer_coordinates
    squares, index = np.unique((points**2).sum(axis=0).reshape(-1), return_inverse=True)  # (axis, x, y, z) -> (tap)
    return np.sqrt(squares.astype(np.float64)) / denominator, index


def along_axes(values: Array, matrices: tuple[Array, Array, Array]) -> Array:
    """One matrix per axis of space, applied in turn: (.., x, y, z) -> (.., x, y, z).

    By loops of fixed order, not by BLAS, whose last bits depend on the number of threads.
    """
    for subscripts, matrix in zip(
        ("ax,...xyz->...ayz", "ay,...xyz->...xaz", "az,...xyz->...xya"), matrices, strict=True
    ):
        values = np.einsum(subscripts, matrix, values)  # (.., x, y, z)
    return values


def _root(square: Any) -> Any:
    return np.sqrt(np.maximum(square, 0))
