"""Filters as equivariant as the grid allows: of all taps, those with the least energy that is not of type J.

With the quadratic forms of `defect`, total(F) = F^T k F and typed(F) = |Q^T F|^2 where k_J = Q Q^T over radii, solve

    typed(F) = lambda total(F),      defect^2 = 1 - lambda

By Courant and Fischer the first n eigenfilters span the n-dimensional space of least worst defect: no other n filters
of degree J, whatever their profiles, have a smaller one. The defects have a wide gap (5^3 taps, J = 1: .015 .10 | .68);
what lies beyond it is no filter of degree J at all.

The filters kept are an orthonormal basis of that space, by Gram and Schmidt in order of defect: the n-th is what n
filters can do and n-1 cannot. The eigenfilters themselves overlap, those of J = 0 most; independent weights on them
would give the best degree a fraction of its energy (3^3 taps, two filters: 1.5 of 5.7), and a layer more of the others'
error.

Two conditions keep the optimum from exploiting what the spectrum W does not mind:

* Moments (see `moments`). At long wavelengths a field is a polynomial; those of degree up to J are to be answered as by
  an exact filter of type J. Without that, a constant leaks into J = 4 on a cube and into J = 2 on every other grid, a
  gradient into J = 3, and smooth fields see little else. With it, the error falls as the wavelength squared. Imposed
  for degrees J, J-2, .. and below, the most that raise the defect of the best filter by at most a tenth: on 5^3 taps
  all for J = 2 (.034 -> .036), degree 1 for J = 3 (.074 -> .077), degree 0 for J = 4 (.149 -> .153).
* Noise: white, a hundred-thousandth of the field's power. It keeps filters off the frequencies that W leaves empty (the
  fine axes of an anisotropic volume), where they would amplify whatever noise an input has.

    F = (k + noise)^-1 (Q a - P b),      P the moments that must vanish, b such that P^T F = 0

k is a product over the axes, so it is inverted axis by axis, and Q has some twenty to forty columns: no matrix over
taps is ever built. Cost per J, for n taps per axis and r columns: 6 r (2J+1) n^4 multiplications, memory r (2J+1) n^3;
for J = 0..6 together, on one core: n = 9 in 0.5 s, 11 in 1, 15 in 4, 21 in 20 s.
Sums over taps are taken in a fixed order, without BLAS: the taps are the same bits whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basisgen.errors import SamplingError, SpecError
from basisgen.reading import Settings
from basisgen.volumes.sampling.defect import Gaussian, along_axes, distinct_radii, unit_harmonics
from basisgen.volumes.sampling.families import FilterGroup
from basisgen.volumes.sampling.grid import VoxelGrid
from basisgen.volumes.sampling.moments import orthonormal, wrong_moments
from basisgen.volumes.sampling.symmetry import symmetrised

Array = NDArray[np.float64]

NOISE = 1e-5  # white noise in the input, as a part of its power
_COST_OF_MOMENTS = 1.1  # what right moments may cost: a factor of the best filter's defect
_HIGHEST_ORDER = 6  # moments of higher degree are left alone
_HOPELESS = 0.95  # with a larger defect, under a tenth of the energy is of type J
_NEGLIGIBLE = 1e-14  # what the columns of Q may leave of k_J, as a part of its trace


@dataclass(frozen=True)
class Optimal:
    """Least-defect filters: all with no combination above `max_defect`, or `count[J]` of each degree.

    `bandwidth` is the Gaussian spectrum's, as a fraction of the Nyquist frequency. At 0.35 instead of 0.5 the error of
    equally many filters is two to five times smaller at wavelengths over 4 voxels, and larger over the wider spectrum
    as a whole: the choice for inputs without finer detail.
    """

    max_defect: Fraction = Fraction(1, 5)
    count: tuple[int, ...] | None = None
    bandwidth: Fraction = Gaussian().bandwidth

    @classmethod
    def parse(cls, settings: Settings) -> Optimal:
        """Reads max_defect or count, and bandwidth.

        Raises SpecError where both are given.
        """
        max_defect = settings.positive("max_defect", most=Fraction(9, 10))
        count = settings.integers("count")
        if max_defect is not None and count is not None:
            raise SpecError("radial settings max_defect and count exclude one another. Leave one out.")
        bandwidth = settings.positive("bandwidth", least=Fraction(1, 20), most=Fraction(2))
        return cls(
            max_defect=cls.max_defect if max_defect is None else max_defect,
            count=count,
            bandwidth=cls.bandwidth if bandwidth is None else bandwidth,
        )

    @property
    def name(self) -> str:
        """`optimal`."""
        return "optimal"

    def describe(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {
            "max_defect": str(self.max_defect) if self.count is None else None,
            "count": None if self.count is None else list(self.count),
            "bandwidth": str(self.bandwidth),
        }

    def groups(self, grid: VoxelGrid, degrees: Sequence[int]) -> tuple[FilterGroup, ...]:
        """See RadialFamily; float64, those of one J orthonormal, exactly symmetric as `symmetry.symmetrised` says."""
        return tuple(group for J in degrees for group in self._groups(J, grid))

    @property
    def separable(self) -> bool:
        """Never: the filters are not products."""
        return False

    def products(self, grid: VoxelGrid, groups: Sequence[FilterGroup]) -> None:
        """See RadialFamily."""

    def _groups(self, J: int, grid: VoxelGrid) -> list[FilterGroup]:
        defects, filters = _with_right_moments(J, grid, Gaussian(self.bandwidth))
        return [
            FilterGroup(J, None, _canonical(filter, J, grid))
            for filter in orthonormal(filters[: self._number(J, defects, grid)])
        ]

    def _number(self, J: int, defects: Array, grid: VoxelGrid) -> int:
        if self.count is None:
            return int((defects <= float(self.max_defect)).sum())
        wanted = self.count[J] if len(self.count) > J else 0
        available = int((defects <= _HOPELESS).sum())
        if wanted > available:
            raise SamplingError(
                f"count asks for {wanted} filters of degree J = {J}, a {grid} grid has {available} with any "
                f"resemblance to one (defect under {_HOPELESS}). Lower the count, or enlarge the kernel."
            )
        return wanted


def eigenfilters(J: int, grid: VoxelGrid, spectrum: Gaussian, noise: float = 0, order: int = -1) -> tuple[Array, Array]:
    """All filters with energy of type J, by increasing defect: defects (filter), taps (filter, M, x, y, z).

    The noise counts as error. Moments of degree up to `order` are right. The taps are not normalised.
    """
    radii, index = distinct_radii(grid)
    columns = _factor(spectrum.radial_part(J, radii, grid) / (2 * J + 1))
    filters = columns[:, index].reshape(-1, 1, *grid.size) * unit_harmonics(J, grid)

    (a, u), (b, v), (c, w) = (np.linalg.eigh(k) for k in spectrum.axis_correlations(grid))
    root = np.sqrt(np.maximum(np.einsum("x,y,z->xyz", a, b, c), 0) + noise)  # of k + noise, on its own axes
    whitened = along_axes(filters, (u.T, v.T, w.T)) / root
    wrong = [along_axes(moment, (u.T, v.T, w.T)) / root for moment in wrong_moments(J, grid, order)]
    for direction in orthonormal(wrong):
        whitened -= np.einsum("Mxyz,aMxyz->a", direction, whitened)[:, None, None, None, None] * direction
    flat = whitened.reshape(len(whitened), -1)
    part, combinations = np.linalg.eigh(np.einsum("ax,bx->ab", flat, flat))
    increasing = np.argsort(-part, kind="stable")
    solutions = np.einsum("ab,aMxyz->bMxyz", combinations[:, increasing], whitened) / root
    defects: Array = np.sqrt(np.clip(1 - part[increasing], 0, 1))
    return defects, along_axes(solutions, (u, v, w))


def _with_right_moments(J: int, grid: VoxelGrid, spectrum: Gaussian) -> tuple[Array, Array]:
    """`eigenfilters` with right moments to the highest order that costs at most a tenth of the best filter's defect."""
    if J > 0 and grid.size == (1, 1, 1):  # nothing but the origin, where Y_J is zero
        return np.zeros(0), np.zeros((0, 2 * J + 1, 1, 1, 1))
    free = eigenfilters(J, grid, spectrum, NOISE)
    for order in range(min(J, _HIGHEST_ORDER - J % 2), -1, -2):
        right = eigenfilters(J, grid, spectrum, NOISE, order)
        if right[0][0] <= _COST_OF_MOMENTS * free[0][0]:
            return right
    return free


def _factor(kernel: Array) -> Array:
    """Q^T, (column, radius), of a positive kernel = Q Q^T: Cholesky with pivots, until nothing is left but rounding."""
    rest, columns = kernel.copy(), []
    smallest = _NEGLIGIBLE * np.trace(kernel)
    while (diagonal := np.diag(rest)).max() > smallest:
        pivot = int(np.argmax(diagonal))
        columns.append(rest[pivot] / np.sqrt(rest[pivot, pivot]))
        rest -= np.multiply.outer(columns[-1], columns[-1])
    return np.stack(columns)


def _canonical(filters: Array, J: int, grid: VoxelGrid) -> Array:
    """Exact symmetry, and the sign that makes s(x) = F(x) . Y_J positive where it is largest.

    Of equally large s the first tap counts, so that rounding does not choose.
    """
    filters = symmetrised(filters, J, grid)
    projected = (filters * unit_harmonics(J, grid)).sum(axis=0).reshape(-1)
    size = np.abs(projected)
    first = int(np.argmax(size > (1 - 1e-9) * size.max()))
    return filters if projected[first] > 0 else -filters
